//! The data directory of `keygate dev`: secrets, which are generated on the first start, and the database. Accessible to the
//! owner only.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rand::Rng;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use super::error::AppError;
use crate::secret_file::make_private;

const HMAC_SECRET: &str = "hmac-secret";
const SIGNING_KEYS: &str = "signing-keys.json";
const DATABASE: &str = "keygate.db";
/// The request id of the demonstration key; absent until it is replaced.
const DEMONSTRATION: &str = "demonstration-key";

/// The secrets and the database of a development installation.
pub(super) struct Material {
    pub(super) hmac_secret: SecretString,
    /// URL of the signing keys: `file://` or `base64://`.
    pub(super) signing_keys_url: String,
    pub(super) dsn: String,
}

/// Opens a directory. Creates it and the secrets in it if they are missing.
pub(super) fn open(folder: &Path, rng: &mut dyn Rng) -> Result<Material, AppError> {
    let failed = |what: &Path| {
        let what = format!("{} cannot be used; choose another folder with --data", what.display());
        move |cause| AppError::io(what, cause)
    };
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed(folder))?;
    let folder = fs::canonicalize(folder).map_err(failed(folder))?;
    let (secret_file, keys_file) = (folder.join(HMAC_SECRET), folder.join(SIGNING_KEYS));
    let hmac_secret = read_or_create(&secret_file, &new_hmac_secret(rng)).map_err(failed(&secret_file))?;
    read_or_create(&keys_file, &new_signing_keys(rng)?).map_err(failed(&keys_file))?;
    Ok(Material {
        hmac_secret,
        signing_keys_url: format!("file://{}", keys_file.display()),
        dsn: format!("sqlite://{}", folder.join(DATABASE).display()),
    })
}

/// The request id of the demonstration key of a directory, if it was replaced.
pub(super) fn demonstration(folder: &Path) -> Option<String> {
    fs::read_to_string(folder.join(DEMONSTRATION)).ok().filter(|id| !id.is_empty())
}

/// Stores the request id of a new demonstration key.
pub(super) fn set_demonstration(folder: &Path, request_id: &str) -> Result<(), AppError> {
    let file = folder.join(DEMONSTRATION);
    fs::write(&file, request_id).map_err(|cause| AppError::io(format!("{} cannot be written", file.display()), cause))
}

/// Generates secrets that are not stored, and a database in memory.
pub(super) fn ephemeral(rng: &mut dyn Rng) -> Result<Material, AppError> {
    let keys = new_signing_keys(rng)?;
    Ok(Material {
        hmac_secret: new_hmac_secret(rng),
        signing_keys_url: format!("base64://{}", STANDARD.encode(keys.expose_secret())),
        dsn: ":memory:".into(),
    })
}

fn read_or_create(file: &PathBuf, fresh: &SecretString) -> io::Result<SecretString> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(file) {
        Ok(mut created) => {
            created.write_all(fresh.expose_secret().as_bytes())?;
            created.sync_all()?;
            Ok(fresh.clone())
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            make_private(file)?;
            fs::read_to_string(file).map(SecretString::from)
        }
        Err(error) => Err(error),
    }
}

fn new_hmac_secret(rng: &mut dyn Rng) -> SecretString {
    let mut bytes = [0; 32];
    rng.fill_bytes(&mut bytes);
    SecretString::from(URL_SAFE_NO_PAD.encode(bytes))
}

/// A JWK set with one Ed25519 key (RFC 8037).
fn new_signing_keys(rng: &mut dyn Rng) -> Result<SecretString, AppError> {
    let mut seed = [0; 32];
    rng.fill_bytes(&mut seed);
    let pair = Ed25519KeyPair::from_seed_unchecked(&seed)
        .map_err(|error| AppError::Setting(format!("a signing key cannot be generated: {error}")))?;
    let public = URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
    let key = json!({
        "kty": "OKP",
        "crv": "Ed25519",
        "alg": "EdDSA",
        "use": "sig",
        "kid": format!("dev-{}", &public[..8]),
        "x": public,
        "d": URL_SAFE_NO_PAD.encode(seed),
    });
    Ok(SecretString::from(json!({ "keys": [key] }).to_string()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn secrets_are_created_once_with_owner_only_permissions() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("deep").join("data");
        let first = open(&data, &mut StdRng::seed_from_u64(1)).unwrap();
        let keys = fs::read_to_string(data.join(SIGNING_KEYS)).unwrap();
        // An older file, or one that was copied.
        fs::set_permissions(data.join(HMAC_SECRET), fs::Permissions::from_mode(0o644)).unwrap();
        let second = open(&data, &mut StdRng::seed_from_u64(2)).unwrap();
        assert_eq!(first.hmac_secret.expose_secret(), second.hmac_secret.expose_secret());
        assert_eq!(keys, fs::read_to_string(data.join(SIGNING_KEYS)).unwrap());
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&data), 0o700);
        assert_eq!((mode(&data.join(HMAC_SECRET)), mode(&data.join(SIGNING_KEYS))), (0o600, 0o600));
    }

    #[test]
    fn signing_key_of_a_known_seed_has_the_known_public_key() {
        struct Seed;
        impl rand::TryRng for Seed {
            type Error = std::convert::Infallible;
            fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
                Ok(0)
            }
            fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
                Ok(0)
            }
            fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Self::Error> {
                (0u8..).zip(bytes).for_each(|(number, byte)| *byte = number);
                Ok(())
            }
        }
        let keys = new_signing_keys(&mut Seed).unwrap();
        assert!(keys.expose_secret().contains(r#""x":"A6EHv_POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg""#));
    }
}
