//! Authenticates callers: admin keys by the verifier, the bootstrap key of the configuration, client certificates.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use http::HeaderMap;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::grant::AdminGrant;
use crate::admin::error::{ApiError, Reason};
use crate::config::{BasicPart, CredentialLocation};
use crate::connection::ClientCertificate;
use crate::id::{KeyId, TenantId};
use crate::pipeline::AuthFailureThrottle;
use crate::verifier::{CredentialKind, Denial, Presented, Verdict, Verifier};
use crate::wire::Rejection;
use crate::wire::credential_locations::CredentialLocations;
use crate::wire::extract::{ExtractError, extract};

/// The name of the bootstrap key as a principal.
const BOOTSTRAP: &str = "bootstrap";

/// What an authenticator is built from.
pub struct AuthenticatorParts {
    /// The verifier of admin keys.
    pub verifier: Arc<Verifier>,
    /// The bootstrap key.
    pub bootstrap_key: Option<SecretString>,
    /// Subject alternative names of client certificates, and the admin keys that they stand for.
    pub certificates: BTreeMap<Box<str>, KeyId>,
    /// Delays the responses to addresses that repeatedly present rejected keys.
    pub throttle: Option<Arc<AuthFailureThrottle>>,
}

/// Authenticates the callers of the admin API.
pub struct Authenticator {
    verifier: Arc<Verifier>,
    /// SHA-256 of the bootstrap key.
    bootstrap: Option<[u8; 32]>,
    certificates: BTreeMap<Box<str>, KeyId>,
    throttle: Option<Arc<AuthFailureThrottle>>,
}

/// Where callers of token introspection carry their key: OAuth clients send it as the password of Basic as well (RFC 7662 section 2.1).
static OAUTH_LOCATIONS: LazyLock<CredentialLocations> = LazyLock::new(|| {
    let mut locations = CredentialLocation::standard();
    locations.push(CredentialLocation::basic(BasicPart::Password));
    CredentialLocations::new(&locations)
});

/// What a caller presents.
pub(in crate::admin) struct Presentation<'a> {
    /// Whether the caller is an OAuth client, which may use Basic.
    pub(in crate::admin) is_oauth_client: bool,
    pub(in crate::admin) headers: &'a HeaderMap,
    /// The verified client certificate of the connection.
    pub(in crate::admin) certificate: Option<&'a ClientCertificate>,
    /// The client's address, if known.
    pub(in crate::admin) client_ip: Option<IpAddr>,
    pub(in crate::admin) arrived: Instant,
}

/// An authenticated caller.
pub(in crate::admin) struct AuthenticatedCaller {
    /// The id of the admin key, or `bootstrap`.
    pub(in crate::admin) name: Arc<str>,
    pub(in crate::admin) grant: AdminGrant,
    /// The verdict about the admin key; `None` for the bootstrap key.
    pub(in crate::admin) verdict: Option<Verdict>,
}

impl Authenticator {
    /// An authenticator.
    pub fn new(parts: AuthenticatorParts) -> Self {
        let AuthenticatorParts { verifier, bootstrap_key, certificates, throttle } = parts;
        let bootstrap = bootstrap_key.map(|key| Sha256::digest(key.expose_secret().as_bytes()).into());
        Self { verifier, bootstrap, certificates, throttle }
    }

    /// Authenticates a caller. A key in the head takes precedence over a client certificate.
    ///
    /// # Errors
    /// 401 without a key or with one that is not accepted; 403 from an address that the key does not allow; 400 for two different keys;
    /// 503 or 504 if Keygate cannot decide. A 401 for a presented key is delayed if the address has presented too many of them.
    pub(in crate::admin) async fn authenticate(
        &self,
        presentation: &Presentation<'_>,
    ) -> Result<AuthenticatedCaller, ApiError> {
        let standard = CredentialLocations::standard();
        let locations = if presentation.is_oauth_client { &*OAUTH_LOCATIONS } else { standard };
        let outcome = match extract(locations, presentation.headers, None) {
            Ok(Some(found)) if self.is_bootstrap_key(&found.text) => return Ok(AuthenticatedCaller::bootstrap()),
            Ok(Some(found)) => self.verify(&found.text, presentation).await,
            Ok(None) => match self.certified_key(presentation.certificate) {
                Some(id) => {
                    self.verifier.verify_holder(id, &presented("", presentation)).await.map_err(Rejection::from)
                }
                None => return Err(missing()),
            },
            Err(error) => Err(error.into()),
        };
        match outcome {
            Ok(verdict) => Ok(AuthenticatedCaller::of_key(verdict)),
            Err(rejection) => {
                if let Some(delay) =
                    self.throttle.as_ref().and_then(|throttle| throttle.count(&rejection, presentation.client_ip))
                {
                    delay.wait().await;
                }
                Err(rejected(&rejection))
            }
        }
    }

    async fn verify(&self, credential: &str, presentation: &Presentation<'_>) -> Result<Verdict, Rejection> {
        // Only issued keys are admin keys. Other texts need no lookup.
        if self.verifier.kind(credential) != CredentialKind::Issued {
            return Err(Denial::FormatInvalid.into());
        }
        self.verifier.verify(&presented(credential, presentation)).await.outcome.map_err(Rejection::from)
    }

    /// Whether a text is the bootstrap key. The digests are compared in constant time.
    fn is_bootstrap_key(&self, credential: &str) -> bool {
        let presented = Sha256::digest(credential.as_bytes());
        self.bootstrap.is_some_and(|bootstrap| bootstrap.ct_eq(presented.as_slice()).into())
    }

    /// The admin key that a certificate stands for.
    fn certified_key(&self, certificate: Option<&ClientCertificate>) -> Option<KeyId> {
        certificate?.san.iter().find_map(|name| self.certificates.get(name)).copied()
    }
}

impl AuthenticatedCaller {
    fn bootstrap() -> Self {
        Self { name: BOOTSTRAP.into(), grant: AdminGrant::full(), verdict: None }
    }

    fn of_key(verdict: Verdict) -> Self {
        let grant = AdminGrant::of_record(verdict.scopes(), &verdict.metadata());
        Self { name: verdict.key_id().to_string().into(), grant, verdict: Some(verdict) }
    }
}

fn presented<'a>(credential: &'a str, presentation: &Presentation<'_>) -> Presented<'a> {
    let client_ip = presentation.client_ip;
    Presented { client_ip, ..Presented::new(TenantId::ADMIN, credential, presentation.arrived) }
}

fn missing() -> ApiError {
    ApiError::unauthenticated("an admin key is required: send it as Authorization: Bearer, see docs/admin-auth.md")
}

/// The error of a key that is not accepted.
fn rejected(rejection: &Rejection) -> ApiError {
    match rejection {
        Rejection::CredentialAmbiguous => ApiError::invalid(ExtractError::Ambiguous.to_string()),
        Rejection::Denied(Denial::Unavailable { cause }) => (*cause).into(),
        Rejection::Denied(Denial::AddressNotAllowed { .. }) => {
            ApiError::new(Reason::Forbidden, "the admin key must not be used from this address")
        }
        Rejection::Denied(Denial::Expired) => ApiError::unauthenticated("the admin key has expired"),
        Rejection::Denied(Denial::Revoked) => ApiError::unauthenticated("the admin key is revoked"),
        _ => ApiError::unauthenticated("the admin key is not valid"),
    }
}
