//! The names of fields that edits remove, and how a name is compared with them.

/// Headers that a client could use to spoof its identity, its origin or the target of the request. Compared by [`folds_to`].
pub(super) const SPOOFABLE_HEADERS: [&str; 20] = [
    "forwarded",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "true-client-ip",
    "cf-connecting-ip",
    "x-original-url",
    "x-original-uri",
    "x-original-host",
    "x-rewrite-url",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-request-id",
    "client-ip",
    "forwarded-for",
    "x-original-forwarded-for",
    "remote-user",
    "x-client-cert",
    "proxy",
];
pub(super) const SPOOFABLE_PREFIXES: [&str; 5] =
    [IDENTITY_PREFIX, "x-forwarded-", "x-remote-", "x-ssl-client-", "proxy-"];
/// The prefix of the headers that carry the identity of the caller.
pub(super) const IDENTITY_PREFIX: &str = "x-keygate-";

/// Headers that carry credentials. Compared by [`folds_to`].
pub(super) const CREDENTIAL_HEADERS: [&str; 2] = ["authorization", "x-api-key"];

/// Hop-by-hop headers (RFC 9110 section 7.6.1). `Transfer-Encoding` belongs to the front, which frames the message.
pub(super) const HOP_BY_HOP: [&str; 8] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "http2-settings",
];

/// For each first byte, one bit for each length (bit 31 stands for 31 and more) of a name in the lists above. Most names match no
/// bit and need no comparison.
const LISTED_LENGTHS: [u32; 256] = {
    let mut lengths = mark([0; 256], &SPOOFABLE_HEADERS);
    lengths = mark(lengths, &CREDENTIAL_HEADERS);
    lengths = mark(lengths, &HOP_BY_HOP);
    lengths = mark(lengths, &["upgrade"]);
    let mut index = 0;
    while index < SPOOFABLE_PREFIXES.len() {
        let prefix = SPOOFABLE_PREFIXES[index].as_bytes();
        lengths = mark_bits(lengths, prefix[0], u32::MAX << prefix.len());
        index += 1;
    }
    lengths
};

/// Whether a name may be in one of the lists. Never `false` for a listed name.
pub(super) fn is_possibly_listed(name: &str) -> bool {
    let first = name.as_bytes().first().copied().unwrap_or_default();
    LISTED_LENGTHS[usize::from(first)] >> name.len().min(31) & 1 == 1
}

const fn mark(mut lengths: [u32; 256], names: &[&str]) -> [u32; 256] {
    let mut index = 0;
    while index < names.len() {
        let name = names[index].as_bytes();
        lengths = mark_bits(lengths, name[0], 1 << name.len());
        index += 1;
    }
    lengths
}

/// Marks both cases of a first byte.
const fn mark_bits(mut lengths: [u32; 256], first: u8, bits: u32) -> [u32; 256] {
    lengths[first as usize] |= bits;
    lengths[first.to_ascii_uppercase() as usize] |= bits;
    lengths
}

pub(super) fn is_spoofable(name: &str) -> bool {
    SPOOFABLE_PREFIXES.iter().any(|prefix| folds_to_prefix(name, prefix))
        || SPOOFABLE_HEADERS.iter().any(|listed| folds_to(name, listed))
}

pub(super) fn is_credential(name: &str) -> bool {
    // Most clients write the names as they are listed, and this comparison is cheaper.
    CREDENTIAL_HEADERS.iter().any(|listed| name.eq_ignore_ascii_case(listed) || folds_to(name, listed))
}

/// Whether a server that does not distinguish punctuation reads `name` as `listed`: CGI-style servers map all punctuation to `_`, so
/// that `X_Keygate.Actor-Id` would overwrite the header that Keygate sets.
pub(super) fn folds_to(name: &str, listed: &str) -> bool {
    name.len() == listed.len() && folds_to_prefix(name, listed)
}

pub(super) fn folds_to_prefix(name: &str, prefix: &str) -> bool {
    name.len() >= prefix.len() && name.bytes().map(fold).zip(prefix.bytes()).all(|(byte, wanted)| byte == wanted)
}

/// Whether a server that does not distinguish punctuation reads two names alike.
pub(super) fn is_same_name(one: &str, other: &str) -> bool {
    one.len() == other.len() && one.bytes().map(fold).eq(other.bytes().map(fold))
}

fn fold(byte: u8) -> u8 {
    if byte.is_ascii_alphanumeric() { byte.to_ascii_lowercase() } else { b'-' }
}

/// Whether a name has an underscore or a dot. Servers disagree about such names: some drop them, some read them with a dash.
pub(super) fn is_ambiguous(name: &str) -> bool {
    // No early exit, so that the compiler can vectorize it.
    name.bytes().fold(0, |found, byte| found | u8::from(matches!(byte, b'_' | b'.'))) != 0
}
