//! The style sheet, the script and the icon. Their names have a hash of their content, so browsers keep them for good.

use std::sync::LazyLock;

use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use sha2::{Digest, Sha256};

/// A file in the binary.
struct Asset {
    path: String,
    media_type: &'static str,
    text: &'static str,
}

static STYLE: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("console", "css", "text/css; charset=utf-8", include_str!("assets/console.css")));
static SCRIPT: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("console", "js", "text/javascript; charset=utf-8", include_str!("assets/console.js")));
static ICON: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("icon", "svg", "image/svg+xml", include_str!("assets/icon.svg")));

impl Asset {
    fn new(name: &str, extension: &str, media_type: &'static str, text: &'static str) -> Self {
        let digest = hex::encode(Sha256::digest(text.as_bytes()));
        let path = format!("/console/assets/{name}.{}.{extension}", &digest[..16]);
        Self { path, media_type, text }
    }
}

/// The path of the style sheet.
pub(super) fn style_path() -> &'static str {
    &STYLE.path
}

/// The path of the script.
pub(super) fn script_path() -> &'static str {
    &SCRIPT.path
}

/// The path of the icon.
pub(super) fn icon_path() -> &'static str {
    &ICON.path
}

/// The response with the file of a name; `None` if there is none.
pub(super) fn respond(name: &str) -> Option<Response> {
    let is_named = |asset: &&Asset| asset.path.rsplit('/').next() == Some(name);
    let asset = [&*STYLE, &*SCRIPT, &*ICON].into_iter().find(is_named)?;
    let headers = [(CONTENT_TYPE, asset.media_type), (CACHE_CONTROL, "public, max-age=31536000, immutable")];
    Some((headers, asset.text).into_response())
}
