//! Where a JWK set is.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use base64::Engine;
use base64::alphabet::{Alphabet, STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use reqwest::Url;
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};

use super::fetch::Fetcher;
use super::{BODY_MAX, Failure};
use crate::credential::SigningKeys;

/// A source of keys, read from its URL. Not printable: the URL may be the keys themselves, or hold a password.
pub(super) enum Source {
    Inline(SecretString),
    /// An absolute path, written as it is: nothing in it is escaped.
    File(PathBuf),
    Http(Url),
}

/// By what a changed file is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    modified: Option<SystemTime>,
    length: u64,
}

impl Source {
    pub(super) fn parse(url: &str) -> Result<Self, Failure> {
        let (scheme, rest) = url.split_once("://").ok_or(Failure::Scheme)?;
        match scheme {
            "base64" => Ok(Self::Inline(decode(rest)?)),
            "file" if rest.starts_with('/') => Ok(Self::File(rest.into())),
            "file" => Err(Failure::RelativePath),
            "https" | "http" => Url::parse(url).map(Self::Http).map_err(|_| Failure::Url),
            _ => Err(Failure::Scheme),
        }
    }

    /// Whether others on the way can read and change what is fetched.
    pub(super) fn is_unprotected(&self) -> bool {
        matches!(self, Self::Http(url) if url.scheme() == "http")
    }

    pub(super) async fn read(&self, fetcher: &Fetcher) -> Result<SigningKeys, Failure> {
        let text = match self {
            Self::Inline(text) => return Ok(SigningKeys::parse(text.expose_secret())?),
            Self::File(path) => in_background(path, read_file).await?,
            Self::Http(url) => Zeroizing::new(fetcher.get(url).await?),
        };
        Ok(SigningKeys::parse(str::from_utf8(&text).map_err(|_| Failure::NotText)?)?)
    }

    /// The stamp of a file that is there; nothing for other sources.
    pub(super) async fn stamp(&self) -> Option<Stamp> {
        match self {
            Self::File(path) => in_background(path, stamp).await.ok(),
            Self::Inline(_) | Self::Http(_) => None,
        }
    }
}

/// Base64 of either alphabet, padded or not.
fn decode(encoded: &str) -> Result<SecretString, Failure> {
    let encoded = encoded.trim();
    let decoder = |alphabet: &Alphabet| {
        let lenient = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
        GeneralPurpose::new(alphabet, lenient)
    };
    let bytes = decoder(&STANDARD).decode(encoded).or_else(|_| decoder(&URL_SAFE).decode(encoded));
    String::from_utf8(bytes.map_err(|_| Failure::Base64)?).map(SecretString::from).map_err(|_| Failure::NotText)
}

/// Files are read on a thread that may wait: a network file system can be slow.
async fn in_background<T: Send + 'static>(path: &Path, work: fn(&Path) -> Result<T, Failure>) -> Result<T, Failure> {
    let path = path.to_owned();
    tokio::task::spawn_blocking(move || work(&path)).await.unwrap_or(Err(Failure::File))
}

fn read_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let file = std::fs::File::open(path).map_err(|_| Failure::File)?;
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(BODY_MAX as u64 + 1).read_to_end(&mut bytes).map_err(|_| Failure::File)?;
    if bytes.len() > BODY_MAX { Err(Failure::TooLarge) } else { Ok(bytes) }
}

fn stamp(path: &Path) -> Result<Stamp, Failure> {
    let metadata = std::fs::metadata(path).map_err(|_| Failure::File)?;
    Ok(Stamp { modified: metadata.modified().ok(), length: metadata.len() })
}
