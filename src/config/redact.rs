//! Serialization of settings with secrets, which are replaced by a fixed text. `SecretString` cannot be serialized in another way, so a new
//! secret does not compile without one of these functions.

use std::collections::BTreeMap;

use secrecy::{ExposeSecret, SecretString};
use serde::{Serialize, Serializer};

/// What stands for a secret.
pub(super) const REDACTED: &str = "[REDACTED]";
/// Parameters of data source names that are no secrets.
const PLAIN_PARAMETERS: [&str; 14] = [
    "acquire_timeout",
    "application_name",
    "connect_timeout",
    "dbname",
    "host",
    "hostaddr",
    "max_conn_idle_time",
    "max_conn_lifetime",
    "max_conns",
    "min_conns",
    "port",
    "sslmode",
    "sslrootcert",
    "statement_timeout",
];

/// A secret that may be absent.
pub(super) trait Secret {
    /// The text that stands for it; empty or `None` if there is none.
    fn redacted(&self) -> Option<&'static str>;
}

impl Secret for SecretString {
    fn redacted(&self) -> Option<&'static str> {
        Some(if self.expose_secret().is_empty() { "" } else { REDACTED })
    }
}

impl Secret for Option<SecretString> {
    fn redacted(&self) -> Option<&'static str> {
        self.as_ref().map(|_| REDACTED)
    }
}

/// Serializes whether there is a secret.
pub(super) fn secret<S: Serializer>(secret: &impl Secret, serializer: S) -> Result<S::Ok, S::Error> {
    secret.redacted().serialize(serializer)
}

/// Serializes a data source name without user, password and unknown parameters.
pub(super) fn dsn<S: Serializer>(dsn: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&redacted_dsn(dsn))
}

/// Serializes URLs without user, password, query and inline data.
pub(super) fn urls<S: Serializer>(urls: &[String], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(urls.iter().map(|url| redacted_url(url)))
}

/// Serializes values that may be secrets, such as those of headers for upstreams, by their names only.
pub(super) fn values<S: Serializer>(values: &BTreeMap<String, String>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(values.keys().map(|name| (name, REDACTED)))
}

/// Serializes secrets by their names only.
pub(super) fn secrets<S: Serializer>(
    secrets: &BTreeMap<String, SecretString>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(secrets.keys().map(|name| (name, REDACTED)))
}

fn redacted_dsn(dsn: &str) -> String {
    let Some((scheme, _)) = dsn.split_once("://") else {
        let is_plain = dsn.is_empty() || dsn == ":memory:";
        return if is_plain { dsn } else { REDACTED }.to_owned();
    };
    if scheme == "sqlite" {
        return dsn.to_owned();
    }
    let Some((place, query)) = without_user(dsn) else { return REDACTED.to_owned() };
    let parameter = |parameter: &str| {
        let name = parameter.split('=').next().unwrap_or_default();
        if PLAIN_PARAMETERS.contains(&name) { parameter.to_owned() } else { format!("{name}={REDACTED}") }
    };
    let query: Vec<_> = query.split('&').filter(|text| !text.is_empty()).map(parameter).collect();
    if query.is_empty() { place } else { format!("{place}?{}", query.join("&")) }
}

fn redacted_url(url: &str) -> String {
    if url.starts_with("base64://") {
        return format!("base64://{REDACTED}");
    }
    match without_user(url) {
        Some((place, "")) => place,
        Some((place, _)) => format!("{place}?{REDACTED}"),
        // `host:port`.
        None if url.contains('@') => REDACTED.to_owned(),
        None => url.to_owned(),
    }
}

/// A URL without user and password, and its query. Everything before the last `@` may belong to a password that is not encoded.
fn without_user(url: &str) -> Option<(String, &str)> {
    let (scheme, rest) = url.split_once("://")?;
    let (user, rest) = rest.rsplit_once('@').map_or(("", rest), |(_, rest)| (REDACTED, rest));
    let at = if user.is_empty() { "" } else { "@" };
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    Some((format!("{scheme}://{user}{at}{place}"), query))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_source_name_is_shown_without_user_and_password() {
        for (dsn, expected) in [
            ("", ""),
            (":memory:", ":memory:"),
            ("sqlite:///var/keygate.db?max_conns=2", "sqlite:///var/keygate.db?max_conns=2"),
            ("postgres://u:hunter2@db:5432/keys", "postgres://[REDACTED]@db:5432/keys"),
            ("postgres://u:hun/t?er@2@db/keys?sslmode=require", "postgres://[REDACTED]@db/keys?sslmode=require"),
            ("postgres://db/keys", "postgres://db/keys"),
            (
                "postgres://db/keys?user=u&password=hunter2&max_conns=4",
                "postgres://db/keys?user=[REDACTED]&password=[REDACTED]&max_conns=4",
            ),
            ("hunter2", "[REDACTED]"),
        ] {
            assert_eq!(redacted_dsn(dsn), expected, "{dsn}");
        }
    }

    #[test]
    fn url_is_shown_without_secrets() {
        for (url, expected) in [
            ("base64://aHVudGVyMg==", "base64://[REDACTED]"),
            ("file:///etc/keygate/signing.json", "file:///etc/keygate/signing.json"),
            (
                "https://u:hunter2@keys.example.com/set.json?token=hunter2",
                "https://[REDACTED]@keys.example.com/set.json?[REDACTED]",
            ),
            ("redis:6379", "redis:6379"),
            (":hunter2@redis:6379", "[REDACTED]"),
        ] {
            assert_eq!(redacted_url(url), expected, "{url}");
        }
    }
}
