//! Keygate processes.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use keygate_test_servers::{Process, WAIT_TIMEOUT, eventually, free_port};
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The binary under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_keygate");
/// The HMAC secret in test configurations.
pub(crate) const HMAC_SECRET: &str = "an-hmac-secret-for-tests-0123456789abcdef";

/// A running Keygate process; it ends on drop.
pub(crate) struct Keygate {
    pub(crate) process: Process,
    pub(crate) gateway: String,
    pub(crate) admin: String,
    pub(crate) metrics: String,
    pub(crate) key_id: String,
    pub(crate) secret: String,
    /// The admin key that calls of the admin API carry; empty for none.
    pub(crate) admin_key: String,
    pub(crate) http: Client,
    pub(crate) folder: TempDir,
}

/// Has the gateways of tests pass every request to pingora's proxy: all tests hold on both paths.
const WITHOUT_FAST_PATH: &str = "TESTS_WITHOUT_FAST_PATH";

/// The path of plain requests through the gateway, as metrics name it.
pub(crate) fn request_path() -> &'static str {
    if has_fast_path() { "fast" } else { "proxy" }
}

fn has_fast_path() -> bool {
    std::env::var_os(WITHOUT_FAST_PATH).is_none()
}

/// A `keygate` command without settings in its environment; stdout and stderr are piped.
pub(crate) fn command() -> Command {
    command_of(BINARY, &[])
}

/// A command of a program that ends as the `keygate` command.
pub(crate) fn command_of(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments);
    for (name, _) in std::env::vars() {
        if name.starts_with("KEYGATE_") || name.starts_with("TALOS_") {
            command.env_remove(name);
        }
    }
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

impl Keygate {
    /// Starts `keygate dev` with free ports and more arguments.
    pub(crate) fn dev(arguments: &[&str]) -> Self {
        let folder = TempDir::new().unwrap();
        let ports = ["--gateway-port", "0", "--admin-port", "0", "--metrics-port", "0", "--format", "json"];
        let mut command = command();
        command.arg("dev").args(ports).args(arguments).current_dir(folder.path());
        Self::ready(Process::start(command.stderr(Stdio::null())), folder)
    }

    fn ready(mut process: Process, folder: TempDir) -> Self {
        let mut line = String::new();
        BufReader::new(process.child().stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
        let text = |name: &str| ready[name].as_str().unwrap_or_default().to_owned();
        Self {
            gateway: text("gateway"),
            admin: text("admin"),
            metrics: text("metrics"),
            key_id: text("key_id"),
            secret: text("secret"),
            admin_key: text("admin_key"),
            http: Client::new(),
            process,
            folder,
        }
    }

    /// Starts `keygate serve` with a `gateway` section and more settings, which are merged into defaults. It logs to `keygate.log`.
    pub(crate) fn serve(gateway: &Value, settings: &Value) -> Self {
        Self::launch(gateway, settings, command())
    }

    /// The same; the system's certificate authorities are those in a file.
    pub(crate) fn serve_trusting(gateway: &Value, settings: &Value, authorities: Option<&Path>) -> Self {
        let mut command = command();
        command.envs(authorities.map(|file| ("SSL_CERT_FILE", file)));
        Self::launch(gateway, settings, command)
    }

    /// The same, with environment variables.
    pub(crate) fn serve_with(gateway: &Value, settings: &Value, variables: &[(&str, &str)]) -> Self {
        let mut command = command();
        command.envs(variables.iter().copied());
        Self::launch(gateway, settings, command)
    }

    /// The same, with another file as the program.
    pub(crate) fn serve_program(program: &Path, gateway: &Value) -> Self {
        Self::launch(gateway, &json!({}), command_of(program.to_str().unwrap(), &[]))
    }

    /// The same, with soft and hard limit of open files.
    pub(crate) fn serve_within(gateway: &Value, open_files: Option<(u32, u32)>) -> Self {
        let command = match open_files {
            Some((soft, hard)) => {
                let script = format!(r#"ulimit -Sn {soft} && ulimit -Hn {hard} && exec "$0" "$@""#);
                command_of("sh", &["-c", &script, BINARY])
            }
            None => command(),
        };
        Self::launch(gateway, &json!({}), command)
    }

    /// The same, with another file as `/etc/hosts`, which may change while it runs. `None` if the system does not let a process have mounts of
    /// its own.
    pub(crate) fn serve_with_hosts(gateway: &Value, hosts: &Path) -> Option<Self> {
        Self::serve_with_files(gateway, &[(hosts, "/etc/hosts")])
    }

    /// The same, with other files in these places.
    pub(crate) fn serve_with_files(gateway: &Value, files: &[(&Path, &str)]) -> Option<Self> {
        let options = ["--user", "--map-root-user", "--mount", "sh", "-c"];
        let mounts: Vec<_> =
            files.iter().map(|(file, place)| format!("mount --bind '{}' {place} && ", file.display())).collect();
        let attempt = Command::new("unshare").args(options).arg(format!("{}true", mounts.concat())).output();
        if !attempt.is_ok_and(|output| output.status.success()) {
            eprintln!("SKIPPED: unshare cannot mount");
            return None;
        }
        let script = format!(r#"{}exec "$0" "$@""#, mounts.concat());
        let mut command = command_of("unshare", &options);
        command.args([&script, BINARY]);
        Some(Self::launch(gateway, &json!({}), command))
    }

    fn launch(gateway: &Value, settings: &Value, command: Command) -> Self {
        let folder = TempDir::new().unwrap();
        let ports: Vec<u16> = (0..3).map(|_| free_port()).collect();
        let mut config = json!({
            "serve": {
                "http": {"port": ports[1]},
                "metrics": {"host": "127.0.0.1", "port": ports[2]},
                // Clients of tests keep connections that are idle at the stop.
                "shutdown_idle_timeout": "100ms"
            },
            "credentials": {"issuer": "https://keys.example.com"},
            "secrets": {"hmac": {"current": HMAC_SECRET}},
            "db": {"dsn": format!("sqlite://{}", folder.path().join("keys.db").display())},
            "gateway": gateway,
        });
        merge(&mut config, settings);
        config["gateway"]["address"] = format!("127.0.0.1:{}", ports[0]).into();
        if !has_fast_path() && config["gateway"].get("fast_path").is_none() {
            config["gateway"]["fast_path"] = false.into();
        }
        write_private(&folder.path().join("keygate.json"), &config.to_string());
        let process = serve(folder.path(), command, ports.iter().map(|port| format!("127.0.0.1:{port}")));
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        Self {
            process,
            gateway: url(ports[0]),
            admin: url(ports[1]),
            metrics: url(ports[2]),
            key_id: String::new(),
            secret: String::new(),
            admin_key: String::new(),
            http: Client::new(),
            folder,
        }
    }

    /// Stops `serve` and starts it again with the same files and ports.
    pub(crate) fn restart(&mut self) {
        self.stop();
        self.start_again();
    }

    fn stop(&mut self) {
        self.process.signal("TERM");
        self.process.wait(WAIT_TIMEOUT);
    }

    /// Starts `serve` again after it has ended, with the same files and ports.
    pub(crate) fn start_again(&mut self) {
        let urls = [&self.gateway, &self.admin, &self.metrics];
        // The earlier connections are closed.
        self.http = Client::new();
        self.process =
            serve(self.folder.path(), command(), urls.map(|url| url.trim_start_matches("http://").to_owned()));
    }

    /// Stops `serve` and returns its whole log. While it runs, the last lines may not be written yet.
    pub(crate) fn whole_log(&mut self) -> String {
        self.stop();
        self.log()
    }

    /// The log of `serve` so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("keygate.log")).unwrap()
    }

    /// The folder of its files.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Sends a GET request with a key to the gateway.
    pub(crate) async fn call(&self, path: &str, key: &str) -> Response {
        self.http.get(format!("{}{path}", self.gateway)).bearer_auth(key).send().await.unwrap()
    }

    /// The value of a metric, by name and labels as in the text format.
    pub(crate) async fn metric(&self, name: &str) -> Option<f64> {
        let text = self.http.get(format!("{}/metrics", self.metrics)).send().await.unwrap().text().await.unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map(|value| value.parse().unwrap())
    }

    /// The value of a metric that is a whole number.
    pub(crate) async fn count(&self, name: &str) -> Option<u64> {
        let value = self.metric(name).await?;
        Some(format!("{value}").parse().unwrap())
    }

    /// Sends a POST request to a path below `/v2alpha1/admin`.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Response {
        let url = format!("{}/v2alpha1/admin/{path}", self.admin);
        self.with_admin_key(self.http.post(url)).body(body.to_string()).send().await.unwrap()
    }

    /// Adds the admin key to a call, if there is one.
    pub(crate) fn with_admin_key(&self, request: RequestBuilder) -> RequestBuilder {
        if self.admin_key.is_empty() { request } else { request.bearer_auth(&self.admin_key) }
    }

    /// Issues a key with more fields; returns its id and its secret.
    pub(crate) async fn issue(&self, fields: Value) -> (String, String) {
        let mut body = json!({"name": "test", "actor_id": "tester"});
        merge(&mut body, &fields);
        let response = self.post("issuedApiKeys", &body).await;
        assert_eq!(response.status(), StatusCode::CREATED);
        let response: Value = response.json().await.unwrap();
        let id = response["issued_api_key"]["key_id"].as_str().unwrap().to_owned();
        (id, response["secret"].as_str().unwrap().to_owned())
    }

    /// Revokes a key.
    pub(crate) async fn revoke(&self, id: &str) {
        let response = self.post(&format!("issuedApiKeys/{id}:revoke"), &json!({})).await;
        assert_eq!(response.status(), StatusCode::NO_CONTENT);
    }
}

/// Starts `keygate serve` with the files of a folder and waits until it listens.
fn serve(folder: &Path, mut command: Command, addresses: impl IntoIterator<Item = String>) -> Process {
    let log = File::options().create(true).append(true).open(folder.join("keygate.log")).unwrap();
    let config = folder.join("keygate.json");
    let mut process =
        Process::start(command.arg("serve").arg("--config").arg(config).stderr(log).stdout(Stdio::null()));
    // All ports are bound before the database is opened, so wait for a response of the last one, which is for probes.
    let probes = addresses.into_iter().last().unwrap();
    eventually("keygate serve answers", || {
        let ended = process.child().try_wait().unwrap();
        let log = || std::fs::read_to_string(folder.join("keygate.log")).unwrap();
        assert!(ended.is_none(), "keygate serve has ended, {ended:?}: {}", log());
        is_alive(&probes)
    });
    process
}

fn is_alive(address: &str) -> bool {
    let probe = || {
        let mut stream = TcpStream::connect(address)?;
        stream.write_all(b"GET /health/alive HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")?;
        stream.read(&mut [0; 16])
    };
    probe().is_ok_and(|read| read > 0)
}

pub(crate) fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (name, value) in from {
                merge(into.entry(name.clone()).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from.clone(),
    }
}

/// Writes a file that other users cannot read, for a configuration with secrets.
pub(crate) fn write_private(path: &Path, text: &str) {
    let mut file = File::options().create(true).truncate(true).write(true).mode(0o600).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}
