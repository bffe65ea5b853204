//! What examples name and a test does not have: addresses, keys, databases and files.

use keygate_test_servers::{Postgres, free_port};
use tempfile::TempDir;

use crate::support::keygate::{Keygate, command, write_private};
use crate::support::upstream::Upstream;

/// The values of the test, by the texts of the documents.
///
/// | in a document | in the test |
/// | --- | --- |
/// | `http://127.0.0.1:8080`, `:4420`, `:4422`, `http://INSTANCE:4422` | gateway, admin API, metrics of the server |
/// | `https://keygate.internal:4420`, `https://keys.internal.example.com` | its admin API |
/// | `kg_admin_v1_...` | its admin key |
/// | `/run/secrets/keygate-admin-key` | a file with its admin key |
/// | `/etc/keygate/keygate.yaml`, ` keygate.yaml` | a file with its settings |
/// | `http://127.0.0.1:9000` | an API, for examples that start the server |
/// | `sqlite:///var/lib/keygate/keygate.db` | its database |
/// | `postgres://keygate:PASSWORD@db.example.com/keygate` | an empty database |
/// | `SECRET`, `KEY_ID` | secret and id of a key that is issued for each example |
pub(super) struct Placeholders {
    pub(super) ports: [u16; 3],
    pub(super) endpoint: String,
    pub(super) admin_key: String,
    texts: Vec<(&'static str, String)>,
    postgres: std::cell::OnceCell<Postgres>,
    _folder: TempDir,
}

const DATABASE: &str = "postgres://keygate:PASSWORD@db.example.com/keygate";

impl Placeholders {
    /// Those for a running server, or for one that the examples start.
    pub(super) fn new(server: Option<&Keygate>) -> Self {
        let ports = [free_port(), free_port(), free_port()];
        let own = |port: u16| format!("http://127.0.0.1:{port}");
        let [gateway, admin, metrics] = match server {
            Some(server) => [server.gateway.clone(), server.admin.clone(), server.metrics.clone()],
            None => ports.map(own),
        };
        let admin_key = server.map_or_else(String::new, |server| server.admin_key.clone());
        let folder = TempDir::new().unwrap();
        let mut texts = vec![
            ("http://127.0.0.1:8080", gateway),
            ("http://127.0.0.1:4422", metrics.clone()),
            ("http://INSTANCE:4422", metrics),
            ("http://127.0.0.1:4420", admin.clone()),
            ("https://keygate.internal:4420", admin.clone()),
            ("https://keys.internal.example.com", admin.clone()),
        ];
        if let Some(server) = server {
            texts.extend(files(server, &folder));
            texts.push(("kg_admin_v1_...", admin_key.clone()));
        } else {
            texts.push(("http://127.0.0.1:9000", Upstream::start().url));
            // The key that `keygate dev` has printed.
            texts
                .push(("kg_admin_v1_...", "$(grep -o 'kg_admin_v1_[0-9A-Za-z_-]*' server.log | head -n 1)".to_owned()));
        }
        Self { ports, endpoint: admin, admin_key, texts, postgres: std::cell::OnceCell::new(), _folder: folder }
    }

    /// The example with the values of the test.
    pub(super) fn replace(&self, example: &str) -> String {
        let mut text = example.to_owned();
        if text.contains(DATABASE) {
            text = text.replace(DATABASE, &self.postgres.get_or_init(Postgres::start).url("postgres"));
        }
        for (documented, own) in &self.texts {
            text = text.replace(documented, own);
        }
        if has_word(&text, "SECRET") || has_word(&text, "KEY_ID") {
            let (id, secret) = self.issue();
            text = replace_word(&replace_word(&text, "SECRET", &secret), "KEY_ID", &id);
        }
        text
    }

    /// Issues a key.
    fn issue(&self) -> (String, String) {
        let arguments =
            ["keys", "issue", "orders-eu", "--actor", "user_1", "--scopes", "read:orders", "--format", "json"];
        let mut command = command();
        command.args(arguments).env("KEYGATE_ENDPOINT", &self.endpoint).env("KEYGATE_ADMIN_KEY", &self.admin_key);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let issued: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let text = |pointer: &str| issued.pointer(pointer).unwrap().as_str().unwrap().to_owned();
        (text("/issued_api_key/key_id"), text("/secret"))
    }
}

/// The files and the database of a server.
fn files(server: &Keygate, folder: &TempDir) -> [(&'static str, String); 4] {
    let data = server.path().join("data");
    let database = format!("sqlite://{}", data.join("keygate.db").display());
    let (settings, key) = (folder.path().join("settings.yaml"), folder.path().join("admin-key"));
    let secret = data.join("hmac-secret");
    let text = format!(
        "credentials: {{ issuer: 'https://keys.example.com' }}\ndb: {{ dsn: '{database}' }}\n\
         secrets: {{ hmac: {{ current_file: '{}' }} }}\n",
        secret.display()
    );
    write_private(&settings, &text);
    write_private(&key, &server.admin_key);
    let settings = settings.display().to_string();
    [
        ("/etc/keygate/keygate.yaml", settings.clone()),
        ("--config keygate.yaml", format!("--config {settings}")),
        ("/run/secrets/keygate-admin-key", key.display().to_string()),
        ("sqlite:///var/lib/keygate/keygate.db", database),
    ]
}

fn is_part(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '_'
}

/// The places of a word that is not a part of another one.
fn words<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    text.match_indices(word)
        .map(|(at, _)| at)
        .filter(move |at| !text[..*at].ends_with(is_part) && !text[at + word.len()..].starts_with(is_part))
}

fn has_word(text: &str, word: &str) -> bool {
    words(text, word).next().is_some()
}

fn replace_word(text: &str, word: &str, value: &str) -> String {
    let mut replaced = text.to_owned();
    let places: Vec<_> = words(text, word).collect();
    places.iter().rev().for_each(|at| replaced.replace_range(*at..at + word.len(), value));
    replaced
}
