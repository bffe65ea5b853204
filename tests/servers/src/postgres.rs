//! A temporary PostgreSQL server.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::{PausedProcesses, Process, WAIT_TIMEOUT, eventually, free_port};

/// A running PostgreSQL server with the database `postgres`; it accepts every connection from loopback.
#[derive(Debug)]
pub struct Postgres {
    process: Process,
    port: u16,
    folder: TempDir,
}

/// The port and the data of a stopped server.
#[derive(Debug)]
pub struct StoppedPostgres {
    port: u16,
    folder: TempDir,
}

impl Postgres {
    /// Starts a server and waits until it answers.
    pub fn start() -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let data = folder.path().join("data");
        std::fs::create_dir(&data).expect("the data folder is created");
        give_to_server_user(&data);
        give_to_server_user(folder.path());
        let status = as_server_user(&postgres_program("initdb"))
            .args(["--auth=trust", "--username=postgres", "--no-sync", "--pgdata"])
            .arg(&data)
            .stdout(Stdio::null())
            .status();
        assert!(status.is_ok_and(|status| status.success()), "initdb");
        Self::run(folder, free_port())
    }

    fn run(folder: TempDir, port: u16) -> Self {
        let process = Process::start(
            as_server_user(&postgres_program("postgres"))
                .arg("-D")
                .arg(folder.path().join("data"))
                .args(["-h", "127.0.0.1", "-p", &port.to_string(), "-F", "-k"])
                .arg(folder.path())
                .stdout(Stdio::null())
                .stderr(Stdio::null()),
        );
        let server = Self { process, port, folder };
        eventually("PostgreSQL answers", || server.query("SELECT 1").is_some());
        server
    }

    /// Stops the server immediately; its data stays.
    pub fn stop(self) -> StoppedPostgres {
        let Self { mut process, port, folder } = self;
        process.signal("QUIT");
        process.wait(WAIT_TIMEOUT);
        StoppedPostgres { port, folder }
    }

    /// Runs a statement with psql; `None` if psql fails.
    pub fn query(&self, statement: &str) -> Option<String> {
        let output = Command::new(postgres_program("psql"))
            .args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-U", "postgres", "-Atc", statement])
            .output()
            .expect("psql runs");
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Enables TLS with a certificate and its private key in PEM.
    pub fn enable_tls(&self, certificate: &str, key: &str) {
        for (name, text) in [("server.crt", certificate), ("server.key", key)] {
            let file = self.folder.path().join("data").join(name);
            std::fs::write(&file, text).expect("the file is written");
            std::fs::set_permissions(&file, Permissions::from_mode(0o600)).expect("the permissions are set");
            give_to_server_user(&file);
        }
        for statement in ["ALTER SYSTEM SET ssl = on", "SELECT pg_reload_conf()"] {
            assert!(self.query(statement).is_some(), "{statement}");
        }
        eventually("PostgreSQL offers TLS", || self.query("SHOW ssl").as_deref() == Some("on"));
    }

    /// The port on loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Stops its processes with SIGSTOP until the returned value is dropped.
    pub fn pause(&self) -> PausedProcesses {
        // The postmaster first, so that it cannot start another backend.
        let mut paused = PausedProcesses::new(self.process.id());
        for child in children_of(self.process.id()) {
            paused.add(child);
        }
        paused
    }

    /// The connection URL of a database.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// The server's process id and folder.
    pub fn process_and_folder(&self) -> (u32, PathBuf) {
        (self.process.id(), self.folder.path().to_owned())
    }
}

impl StoppedPostgres {
    /// Starts the server again with the same port and data.
    pub fn start_again(self) -> Postgres {
        Postgres::run(self.folder, self.port)
    }
}

fn children_of(parent: u32) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").expect("/proc is read").flatten();
    let processes = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_child = |process: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        // `id (name) state parent …`; the name may contain any character.
        let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        after_name.split_whitespace().nth(1).and_then(|id| id.parse().ok()) == Some(parent)
    };
    processes.filter(is_child).collect()
}

fn is_root() -> bool {
    let output = Command::new("id").arg("-u").output().expect("id runs");
    output.stdout.trim_ascii() == b"0"
}

/// A command that runs as another user if this one is root, which PostgreSQL refuses, and that is killed with this process.
fn as_server_user(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]);
    if is_root() {
        command.args(["--reuid", server_user(), "--regid", server_user(), "--clear-groups"]);
    }
    command.arg(program);
    command
}

fn server_user() -> &'static str {
    let status = Command::new("id").arg("postgres").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if status.is_ok_and(|status| status.success()) { "postgres" } else { "nobody" }
}

fn give_to_server_user(path: &Path) {
    if is_root() {
        let status = Command::new("chown").arg(server_user()).arg(path).status();
        assert!(status.is_ok_and(|status| status.success()), "chown");
    }
}

/// The path of a PostgreSQL program: the newest version in Debian's folders, else from the PATH.
fn postgres_program(name: &str) -> PathBuf {
    let mut debian: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|version| version.path().join("bin"))
        .collect();
    debian.sort();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders = debian.into_iter().rev().chain(std::env::split_paths(&path));
    let folder = folders.find(|folder| folder.join(name).is_file());
    folder.unwrap_or_else(|| panic!("{name} is not installed; run the tests with `make test`")).join(name)
}
