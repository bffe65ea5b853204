//! Other HTTP servers: proxies that ask Keygate or stand in front of it, and origins behind it.

use std::fs::File;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::{Process, WAIT_TIMEOUT, eventually, free_port};

/// The program of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerProgram {
    /// nginx; it is configured with a complete `nginx.conf`. It has one process, unless the configuration has `master_process on;`.
    Nginx,
    /// Caddy; it is configured with a `Caddyfile`.
    Caddy,
    /// Envoy; it is configured with a bootstrap configuration in YAML.
    Envoy,
    /// `HAProxy`; it is configured with a complete `haproxy.cfg`.
    Haproxy,
    /// Apache httpd; it is configured with a complete `httpd.conf`, except for its folders.
    Apache,
    /// Varnish; it is configured in VCL.
    Varnish,
    /// Python; its configuration is a script.
    Python,
    /// Node.js; its configuration is a script.
    Node,
}

/// A running peer; it is killed on drop.
#[derive(Debug)]
pub struct Peer {
    process: Process,
    folder: TempDir,
    has_workers: bool,
}

/// Whether nginx is to run with a master and workers, which it needs for a graceful end.
fn has_workers(config: &str) -> bool {
    config.contains("master_process on;")
}

impl PeerProgram {
    /// Starts the program with a configuration and waits until it listens on a port on loopback. `None` if it is not installed, after
    /// a line on stderr.
    pub fn start(self, config: &str, port: u16) -> Option<Peer> {
        let Some(program) = self.path() else {
            eprintln!("SKIPPED: {self:?} is not installed; deploy/ci/ensure.sh test installs it");
            return None;
        };
        let folder = TempDir::new().expect("a temporary folder");
        let log = File::create(folder.path().join("log")).expect("the log is created");
        let mut command = self.command(&program, folder.path(), config, port);
        command.current_dir(folder.path()).stdout(log.try_clone().expect("the log is shared")).stderr(log);
        let mut peer = Peer { process: Process::start(&mut command), folder, has_workers: has_workers(config) };
        eventually("the peer listens", || {
            let ended = peer.process.child().try_wait().expect("the peer can be waited for");
            assert!(ended.is_none(), "{self:?} has ended, {ended:?}: {}", peer.log());
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        Some(peer)
    }

    /// Debian installs most servers to `/usr/sbin`, which is not on the PATH of most users; `deploy/ci/ensure.sh` installs Envoy to the target
    /// folder of cargo, which has this executable.
    fn path(self) -> Option<PathBuf> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let executable = std::env::current_exe().unwrap_or_default();
        let installed = executable.ancestors().map(|folder| folder.join("envoy/bin"));
        let folders = installed.chain(std::env::split_paths(&path)).chain(["/usr/sbin".into()]);
        folders.map(|folder| folder.join(self.name())).find(|program| program.is_file())
    }

    fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Caddy => "caddy",
            Self::Envoy => "envoy",
            Self::Haproxy => "haproxy",
            Self::Apache => "apache2",
            Self::Varnish => "varnishd",
            Self::Python => "python3",
            Self::Node => "node",
        }
    }

    /// Writes the configuration into a folder, in which the peer also keeps all its other files.
    fn command(self, program: &Path, folder: &Path, config: &str, port: u16) -> Command {
        let mut command = Command::new(program);
        let file = folder.join("config.yaml");
        if self != Self::Nginx {
            std::fs::write(&file, config).expect("the configuration is written");
        }
        match self {
            Self::Nginx => {
                let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
                    .map(|name| format!("{name}_temp_path {}/{name};", folder.display()))
                    .concat();
                let config = config.replacen("http {", &format!("http {{ access_log off; {temporary}"), 1);
                std::fs::write(&file, &config).expect("the configuration is written");
                // One process: workers would outlive a master that is killed.
                let processes = if has_workers(&config) { "" } else { "master_process off;" };
                let options = format!("daemon off; {processes} pid {}/pid;", folder.display());
                command.args(["-e", "stderr", "-g", &options, "-c"]).arg(file);
            }
            Self::Caddy => {
                command.args(["run", "--adapter", "caddyfile", "--config"]).arg(file);
                command.env("CADDY_ADMIN", format!("127.0.0.1:{}", free_port()));
                command.envs(["HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"].map(|name| (name, folder)));
            }
            Self::Envoy => {
                command.args(["--disable-hot-restart", "--concurrency", "1", "--log-level", "warning", "-c"]).arg(file);
            }
            Self::Haproxy => {
                // In the foreground.
                command.args(["-db", "-f"]).arg(file);
            }
            Self::Apache => {
                // One process in the foreground.
                command.arg("-X").arg("-d").arg(folder).arg("-f").arg(file);
                for name in ["PidFile pid", "DefaultRuntimeDir .", "ErrorLog /dev/stderr"] {
                    command.args(["-C", name]);
                }
            }
            Self::Varnish => {
                // In the foreground; its second process ends with the first.
                command
                    .args(["-F", "-j", "none", "-s", "malloc,64m", "-a", &format!("127.0.0.1:{port}"), "-f"])
                    .arg(file);
                command.arg("-n").arg(folder.join("varnish"));
            }
            Self::Python | Self::Node => {
                command.arg(file);
            }
        }
        command.stdin(Stdio::null());
        command
    }
}

impl Peer {
    /// What it has written to stdout and stderr so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// The server's process id and folder.
    pub fn process_and_folder(&self) -> (u32, PathBuf) {
        (self.process.id(), self.folder.path().to_owned())
    }

    /// Ends it gracefully: it accepts no more connections, closes idle ones, and answers the requests that it has received. Waits for its end.
    pub fn quit(&mut self) {
        self.process.signal("QUIT");
        self.process.wait(WAIT_TIMEOUT);
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Workers outlive a master that is killed.
        if self.has_workers && matches!(self.process.child().try_wait(), Ok(None)) {
            self.process.signal("TERM");
            self.process.wait(WAIT_TIMEOUT);
        }
    }
}
