//! Throw-away PostgreSQL and Redis servers, on free ports, in folders of their own.

use std::fs::Permissions;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::process::Process;
use super::{eventually, free_port};

/// A PostgreSQL server with one database, `postgres`, open to everybody on loopback.
pub(crate) struct Postgres {
    process: Process,
    port: u16,
    folder: TempDir,
}

/// A Redis server that keeps nothing.
pub(crate) struct Redis {
    process: Process,
    port: u16,
    folder: TempDir,
}

impl Postgres {
    /// Starts one and waits until it answers.
    pub(crate) fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let data = folder.path().join("data");
        std::fs::create_dir(&data).unwrap();
        own(&data);
        own(folder.path());
        let made = as_other_user(&postgres_program("initdb"))
            .args(["--auth=trust", "--username=postgres", "--no-sync", "--pgdata"])
            .arg(&data)
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(made.success(), "initdb");
        Self::run(folder, free_port())
    }

    fn run(folder: TempDir, port: u16) -> Self {
        let process = Process::start(
            as_other_user(&postgres_program("postgres"))
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

    /// Ends the server at once and keeps its data.
    pub(crate) fn stop(self) -> StoppedPostgres {
        let Self { mut process, port, folder } = self;
        process.signal("QUIT");
        process.wait(Duration::from_secs(30));
        StoppedPostgres { port, folder }
    }

    /// Runs a statement with psql; `None` when the server does not answer.
    pub(crate) fn query(&self, statement: &str) -> Option<String> {
        let output = Command::new(postgres_program("psql"))
            .args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-U", "postgres", "-Atc", statement])
            .output()
            .unwrap();
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap().trim().to_owned())
    }

    /// Offers TLS from now on, with a certificate and its key as PEM.
    pub(crate) fn encrypt(&self, certificate: &str, key: &str) {
        for (name, text) in [("server.crt", certificate), ("server.key", key)] {
            let file = self.folder.path().join("data").join(name);
            std::fs::write(&file, text).unwrap();
            std::fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
            own(&file);
        }
        for statement in ["ALTER SYSTEM SET ssl = on", "SELECT pg_reload_conf()"] {
            assert!(self.query(statement).is_some(), "{statement}");
        }
        eventually("PostgreSQL offers TLS", || self.query("SHOW ssl").as_deref() == Some("on"));
    }

    /// Where it listens.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Stops it and its connections in the middle of whatever they do, until the answer is dropped.
    pub(crate) fn pause(&self) -> Paused {
        // The server first: it cannot begin another child then.
        let mut paused = Paused::new(self.process.id());
        for child in children_of(self.process.id()) {
            paused.add(child);
        }
        paused
    }

    /// The name under which a database is found.
    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// The server's process and folder.
    pub(crate) fn traces(&self) -> (u32, PathBuf) {
        (self.process.id(), self.folder.path().to_owned())
    }
}

/// The data of a server that does not run.
pub(crate) struct StoppedPostgres {
    port: u16,
    folder: TempDir,
}

impl StoppedPostgres {
    /// Starts the server again, where it was.
    pub(crate) fn start_again(self) -> Postgres {
        Postgres::run(self.folder, self.port)
    }
}

/// Processes that stand still.
pub(crate) struct Paused(Vec<u32>);

impl Paused {
    fn new(process: u32) -> Self {
        let mut paused = Self(Vec::new());
        paused.add(process);
        paused
    }

    fn add(&mut self, process: u32) {
        signal("-STOP", process);
        self.0.push(process);
    }
}

impl Drop for Paused {
    fn drop(&mut self) {
        for process in &self.0 {
            signal("-CONT", *process);
        }
    }
}

/// Sends a signal; to a process that has ended meanwhile, nothing.
fn signal(name: &str, process: u32) {
    let _ = Command::new("kill").arg(name).arg(process.to_string()).output();
}

fn children_of(parent: u32) -> Vec<u32> {
    let processes =
        std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    let is_child = |process: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        // `id (name) state parent …`; a name may hold anything.
        let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        after_name.split_whitespace().nth(1).and_then(|id| id.parse().ok()) == Some(parent)
    };
    processes.filter(is_child).collect()
}

impl Redis {
    /// Starts one and waits until it answers.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts one with more options, each a name and its values.
    pub(crate) fn start_with(options: &[&str]) -> Self {
        let folder = TempDir::new().unwrap();
        std::fs::write(folder.path().join("redis.conf"), options.join("\n")).unwrap();
        Self::run(folder, free_port())
    }

    fn run(folder: TempDir, port: u16) -> Self {
        let file = folder.path().join("redis.conf");
        let is_sentinel = std::fs::read_to_string(&file).unwrap().lines().any(|line| line.starts_with("sentinel "));
        let process = Process::start(
            Command::new("redis-server")
                // Options follow a file's: the first argument of a sentinel has to be one that it can write to.
                .arg(&file)
                .args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--appendonly", "no", "--dir"])
                .arg(folder.path())
                .args(is_sentinel.then_some("--sentinel"))
                .stdout(Stdio::null()),
        );
        let server = Self { process, port, folder };
        eventually("Redis answers", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        server
    }

    /// Ends the server at once, and what it held with it.
    pub(crate) fn stop(self) -> StoppedRedis {
        let Self { mut process, port, folder } = self;
        process.kill();
        StoppedRedis { port, folder }
    }

    /// Makes it forget everything.
    pub(crate) fn flush(&self) {
        self.command("FLUSHALL");
    }

    /// Stops it in the middle of whatever it does, until the answer is dropped.
    pub(crate) fn pause(&self) -> Paused {
        Paused::new(self.process.id())
    }

    /// Where it listens.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// `host:port`.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Runs a command, of words without spaces; panics when it is refused.
    pub(crate) fn command(&self, words: &str) {
        let mut stream = self.connect();
        stream.write_all(format!("{words}\r\n").as_bytes()).unwrap();
        let mut answer = [0; 64];
        let read = stream.read(&mut answer).unwrap();
        assert!(matches!(answer[..read].first(), Some(b'+' | b':')), "{words}: {:?}", &answer[..read]);
    }

    /// Sends its process a signal by name, such as STOP.
    pub(crate) fn signal(&self, name: &str) {
        self.process.signal(name);
    }

    /// A connection to it.
    pub(crate) fn connect(&self) -> TcpStream {
        TcpStream::connect(("127.0.0.1", self.port)).unwrap()
    }

    /// The server's process and folder.
    pub(crate) fn traces(&self) -> (u32, PathBuf) {
        (self.process.id(), self.folder.path().to_owned())
    }
}

/// The place of a server that does not run.
pub(crate) struct StoppedRedis {
    port: u16,
    folder: TempDir,
}

impl StoppedRedis {
    /// Starts a server there again, with nothing in it.
    pub(crate) fn start_again(self) -> Redis {
        Redis::run(self.folder, self.port)
    }
}

fn is_root() -> bool {
    let output = Command::new("id").arg("-u").output().unwrap();
    output.stdout.trim_ascii() == b"0"
}

/// PostgreSQL refuses to run as root; and it must not outlive a test that is killed.
fn as_other_user(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]);
    if is_root() {
        command.args(["--reuid", user(), "--regid", user(), "--clear-groups"]);
    }
    command.arg(program);
    command
}

fn user() -> &'static str {
    let exists = Command::new("id").arg("postgres").stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
    if exists.success() { "postgres" } else { "nobody" }
}

fn own(folder: &Path) {
    if is_root() {
        let status = Command::new("chown").arg(user()).arg(folder).status().unwrap();
        assert!(status.success(), "chown");
    }
}

/// A program of PostgreSQL: from the PATH, or from where Debian puts it, the newest first.
fn postgres_program(name: &str) -> PathBuf {
    let folders =
        std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect::<Vec<_>>()).unwrap_or_default();
    let mut debian: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .map(|version| version.unwrap().path().join("bin"))
        .collect();
    debian.sort();
    let mut all = debian.into_iter().rev().chain(folders);
    let folder = all.find(|folder| folder.join(name).is_file());
    folder.unwrap_or_else(|| panic!("{name} is not installed; run the tests with `make test`")).join(name)
}
