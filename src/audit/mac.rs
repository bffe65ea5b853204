//! Authentication codes of rows, seals and anchors: HMAC-SHA256 under keys that are derived from the HMAC secrets of the
//! configuration. Who has the database but no secret can compute none of them.

use hmac::Mac;
use subtle::ConstantTimeEq;

use super::row::AuditRow;
use crate::credential::{AuditMac, Keyring};

/// The seal before the first row of a chain.
pub(super) const NO_SEAL: &str = "";

/// The keys of all secrets. The first one, of the current secret, signs; all verify, also those of expired secrets.
#[derive(Clone)]
pub struct AuditKeys(Box<[AuditMac]>);

/// What a code authenticates. Each kind has a prefix of its own, so that no code of one kind is one of another.
#[derive(Clone, Copy)]
enum Kind {
    Row,
    Seal,
    Anchor,
    Fingerprint,
}

impl AuditKeys {
    /// The keys of a keyring.
    pub fn new(keyring: &Keyring) -> Self {
        Self(keyring.audit_macs().collect())
    }

    /// The code of a row's content.
    pub fn row(&self, row: &AuditRow) -> String {
        hex::encode(row_code(self.current(), row))
    }

    /// Whether the code of a row is the one of its content.
    pub fn is_row(&self, row: &AuditRow) -> bool {
        self.matches(&row.mac, |key| row_code(key, row))
    }

    /// The seal of a row at a position of a chain.
    pub(super) fn seal(&self, chain: &str, seq: i64, previous: &str, row_mac: &str) -> String {
        hex::encode(seal_code(self.current(), chain, seq, previous, row_mac))
    }

    /// The seal under the secret with a fingerprint; `None` without such a secret.
    pub(super) fn seal_under(
        &self,
        fingerprint: &str,
        (chain, seq): (&str, i64),
        previous: &str,
        row_mac: &str,
    ) -> Option<String> {
        let key = self.0.iter().find(|key| fingerprint_of(key) == fingerprint)?;
        Some(hex::encode(seal_code(key, chain, seq, previous, row_mac)))
    }

    /// The code of an anchor: the last row that retention removed from a chain.
    pub(super) fn anchor(&self, chain: &str, seq: i64, seal: &str) -> String {
        hex::encode(anchor_code(self.current(), chain, seq, seal))
    }

    /// Whether a code is the one of an anchor.
    pub(super) fn is_anchor(&self, code: &str, chain: &str, seq: i64, seal: &str) -> bool {
        self.matches(code, |key| anchor_code(key, chain, seq, seal))
    }

    /// The fingerprint of the current secret, which is stored with the chains that it seals.
    pub fn fingerprint(&self) -> String {
        fingerprint_of(self.current())
    }

    /// Whether there is a secret with a fingerprint.
    pub fn has(&self, fingerprint: &str) -> bool {
        self.0.iter().any(|key| fingerprint_of(key) == fingerprint)
    }

    fn current(&self) -> &AuditMac {
        &self.0[0]
    }

    fn matches(&self, presented: &str, code: impl Fn(&AuditMac) -> [u8; 32]) -> bool {
        let mut bytes = [0; 32];
        hex::decode_to_slice(presented, &mut bytes).is_ok()
            && self.0.iter().any(|key| bool::from(code(key).ct_eq(&bytes)))
    }
}

impl std::fmt::Debug for AuditKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuditKeys").field("secrets", &self.0.len()).finish_non_exhaustive()
    }
}

fn row_code(key: &AuditMac, row: &AuditRow) -> [u8; 32] {
    let time = row.time.timestamp_micros().to_string();
    let fields = [
        Some(row.tenant.as_str()),
        Some(&row.id),
        Some(&time),
        Some(&row.writer),
        Some(&row.event),
        Some(&row.principal),
        row.roles.as_deref(),
        row.client_ip.as_deref(),
        Some(&row.request_id),
        row.key_id.as_deref(),
        row.actor_id.as_deref(),
        row.before.as_deref(),
        row.after.as_deref(),
        row.details.as_deref(),
    ];
    code(key, Kind::Row, &fields)
}

fn seal_code(key: &AuditMac, chain: &str, seq: i64, previous: &str, row_mac: &str) -> [u8; 32] {
    code(key, Kind::Seal, &[Some(chain), Some(&seq.to_string()), Some(previous), Some(row_mac)])
}

fn anchor_code(key: &AuditMac, chain: &str, seq: i64, seal: &str) -> [u8; 32] {
    code(key, Kind::Anchor, &[Some(chain), Some(&seq.to_string()), Some(seal)])
}

fn fingerprint_of(key: &AuditMac) -> String {
    hex::encode(&code(key, Kind::Fingerprint, &[])[..8])
}

/// The code of fields. Each has its length before it, and an absent one differs from an empty one, so that no two lists of
/// fields have the same serialization.
fn code(key: &AuditMac, kind: Kind, fields: &[Option<&str>]) -> [u8; 32] {
    let prefix = match kind {
        Kind::Row => "keygate/audit/v1/row",
        Kind::Seal => "keygate/audit/v1/seal",
        Kind::Anchor => "keygate/audit/v1/anchor",
        Kind::Fingerprint => "keygate/audit/v1/fingerprint",
    };
    let mut mac = key.clone();
    for field in std::iter::once(&Some(prefix)).chain(fields) {
        match field {
            None => mac.update(&[0]),
            Some(text) => {
                mac.update(&[1]);
                mac.update(&(text.len() as u64).to_be_bytes());
                mac.update(text.as_bytes());
            }
        }
    }
    mac.finalize().into_bytes().into()
}
