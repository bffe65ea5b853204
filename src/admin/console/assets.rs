//! The style sheet, the script and the icon. Their names have a hash of their content, so browsers keep them for good.

use std::sync::LazyLock;

use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use sha2::{Digest, Sha256};

/// The files of all pages.
pub(super) struct Assets {
    pub(super) style: Asset,
    pub(super) script: Asset,
    pub(super) icon: Asset,
}

/// A file in the binary.
pub(super) struct Asset {
    pub(super) path: String,
    media_type: &'static str,
    text: &'static str,
}

pub(super) static ASSETS: LazyLock<Assets> = LazyLock::new(|| Assets {
    style: Asset::new("console", "css", "text/css; charset=utf-8", include_str!("assets/console.css")),
    script: Asset::new("console", "js", "text/javascript; charset=utf-8", include_str!("assets/console.js")),
    icon: Asset::new("icon", "svg", "image/svg+xml", include_str!("assets/icon.svg")),
});

impl Asset {
    fn new(name: &str, extension: &str, media_type: &'static str, text: &'static str) -> Self {
        let digest = hex::encode(Sha256::digest(text.as_bytes()));
        let path = format!("/console/assets/{name}.{}.{extension}", &digest[..16]);
        Self { path, media_type, text }
    }
}

/// The response with the file of a name; `None` if there is none.
pub(super) fn respond(name: &str) -> Option<Response> {
    let Assets { style, script, icon } = &*ASSETS;
    let is_named = |asset: &&Asset| asset.path.rsplit('/').next() == Some(name);
    let asset = [style, script, icon].into_iter().find(is_named)?;
    let headers = [(CONTENT_TYPE, asset.media_type), (CACHE_CONTROL, "public, max-age=31536000, immutable")];
    Some((headers, asset.text).into_response())
}
