//! A temporary Redis server.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::{PausedProcesses, Process, eventually, free_port};

/// How often a server is started on another port. A member of a cluster also needs the port that is 10,000 higher, which may be in use.
const START_MAX: usize = 10;

/// A running Redis server without persistence.
#[derive(Debug)]
pub struct Redis {
    process: Process,
    port: u16,
    folder: TempDir,
}

/// The port and the configuration of a stopped server.
#[derive(Debug)]
pub struct StoppedRedis {
    port: u16,
    folder: TempDir,
}

impl Redis {
    /// Starts a server and waits until it accepts connections.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts a server with more lines in its configuration.
    pub fn start_with(options: &[&str]) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        std::fs::write(folder.path().join("redis.conf"), options.join("\n")).expect("redis.conf is written");
        let mut folder = folder;
        for _ in 0..START_MAX {
            match Self::run(folder, free_port()) {
                Ok(server) => return server,
                Err(returned) => folder = returned,
            }
        }
        panic!("redis-server ended at the start {START_MAX} times");
    }

    /// Runs a server and waits until it accepts connections. Returns the folder if the server ends instead.
    fn run(folder: TempDir, port: u16) -> Result<Self, TempDir> {
        let file = folder.path().join("redis.conf");
        let config = std::fs::read_to_string(&file).expect("redis.conf is read");
        let is_sentinel = config.lines().any(|line| line.starts_with("sentinel "));
        let mut process = Process::start(
            Command::new("redis-server")
                // A sentinel needs its file as the first argument, and writes to it.
                .arg(&file)
                .args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--appendonly", "no", "--dir"])
                .arg(folder.path())
                .args(is_sentinel.then_some("--sentinel"))
                .stdout(Stdio::null()),
        );
        let mut has_ended = false;
        eventually("Redis accepts connections", || {
            has_ended = process.child().try_wait().is_ok_and(|status| status.is_some());
            has_ended || TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        if has_ended { Err(folder) } else { Ok(Self { process, port, folder }) }
    }

    /// Kills the server; its data is lost.
    pub fn stop(self) -> StoppedRedis {
        let Self { mut process, port, folder } = self;
        process.kill();
        StoppedRedis { port, folder }
    }

    /// Deletes all data.
    pub fn flush(&self) {
        self.command("FLUSHALL");
    }

    /// Stops its process with SIGSTOP until the returned value is dropped.
    pub fn pause(&self) -> PausedProcesses {
        PausedProcesses::new(self.process.id())
    }

    /// The port on loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `host:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Runs a command of words without spaces; panics if the reply is an error.
    pub fn command(&self, words: &str) {
        let reply = self.query(words);
        assert!(reply.starts_with(['+', ':']), "{words}: {reply:?}");
    }

    /// Runs a command of words without spaces; the beginning of the reply in the Redis protocol.
    pub fn query(&self, words: &str) -> String {
        let mut stream = self.connect();
        stream.write_all(format!("{words}\r\n").as_bytes()).expect("the command is sent");
        let mut reply = [0; 4096];
        let read = stream.read(&mut reply).expect("the reply is read");
        String::from_utf8_lossy(&reply[..read]).into_owned()
    }

    /// Sends its process a signal by name, such as STOP.
    pub fn signal(&self, name: &str) {
        self.process.signal(name);
    }

    /// A new connection.
    pub fn connect(&self) -> TcpStream {
        TcpStream::connect(("127.0.0.1", self.port)).expect("Redis accepts a connection")
    }

    /// The server's process id and folder.
    pub fn process_and_folder(&self) -> (u32, PathBuf) {
        (self.process.id(), self.folder.path().to_owned())
    }
}

impl StoppedRedis {
    /// Starts an empty server on the same port.
    pub fn start_again(self) -> Redis {
        Redis::run(self.folder, self.port).expect("the server starts on its earlier port")
    }
}
