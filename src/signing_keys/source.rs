//! The sources of JWK sets.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use base64::Engine;
use base64::alphabet::{Alphabet, STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use reqwest::Url;
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};

use super::error::Failure;
use super::fetch::{BODY_MAX, Fetcher};
use crate::credential::SigningKeys;

/// A source of keys, parsed from its URL. Without `Debug`: the URL may contain the keys or a password.
pub(super) enum Source {
    Inline(SecretString),
    /// An absolute path, without percent-encoding.
    File(PathBuf),
    Http(Url),
}

/// The metadata by which a change of a file is detected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileStamp {
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

    /// Whether the source is fetched over plain HTTP.
    pub(super) fn is_plain_http(&self) -> bool {
        matches!(self, Self::Http(url) if url.scheme() == "http")
    }

    pub(super) async fn read(&self, fetcher: &Fetcher) -> Result<SigningKeys, Failure> {
        let text = match self {
            Self::Inline(text) => return Ok(SigningKeys::parse(text.expose_secret())?),
            Self::File(path) => run_blocking(path, read_file).await?,
            Self::Http(url) => Zeroizing::new(fetcher.get(url).await?),
        };
        Ok(SigningKeys::parse(str::from_utf8(&text).map_err(|_| Failure::NotText)?)?)
    }

    /// The metadata of a file; `None` for an unreadable file and for other sources.
    pub(super) async fn stamp(&self) -> Option<FileStamp> {
        match self {
            Self::File(path) => run_blocking(path, file_stamp).await.ok(),
            Self::Inline(_) | Self::Http(_) => None,
        }
    }
}

/// Decodes base64 in the standard or the URL-safe alphabet, with or without padding.
fn decode(encoded: &str) -> Result<SecretString, Failure> {
    let encoded = encoded.trim();
    let decoder = |alphabet: &Alphabet| {
        let lenient = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
        GeneralPurpose::new(alphabet, lenient)
    };
    let bytes = decoder(&STANDARD).decode(encoded).or_else(|_| decoder(&URL_SAFE).decode(encoded));
    String::from_utf8(bytes.map_err(|_| Failure::Base64)?).map(SecretString::from).map_err(|_| Failure::NotText)
}

/// Runs file I/O on a blocking thread: a network file system can be slow.
async fn run_blocking<T: Send + 'static>(path: &Path, work: fn(&Path) -> Result<T, Failure>) -> Result<T, Failure> {
    let path = path.to_owned();
    tokio::task::spawn_blocking(move || work(&path)).await.unwrap_or(Err(Failure::File))
}

fn read_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let file = std::fs::File::open(path).map_err(|_| Failure::File)?;
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(BODY_MAX as u64 + 1).read_to_end(&mut bytes).map_err(|_| Failure::File)?;
    if bytes.len() > BODY_MAX { Err(Failure::TooLarge) } else { Ok(bytes) }
}

fn file_stamp(path: &Path) -> Result<FileStamp, Failure> {
    let metadata = std::fs::metadata(path).map_err(|_| Failure::File)?;
    Ok(FileStamp { modified: metadata.modified().ok(), length: metadata.len() })
}
