//! The process that replaces this one.

use std::io;
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::channel::Channel;
use super::inherited::lock_name;
use super::notify::notify_main_process;
use super::predecessor::{COMPLETE, READY, VARIABLE};
use super::shared::SharedSockets;
use crate::store::LentLock;

/// How long the new process may take until it is ready.
const READY_LIMIT: Duration = Duration::from_secs(60);
/// How long a process that has ended is waited for.
const EXIT_LIMIT: Duration = Duration::from_secs(1);
const EXIT_LOOK: Duration = Duration::from_millis(10);

/// A process that replaces this one. Until it is ready, it is ended when this is dropped.
#[derive(Debug)]
pub(in crate::app) struct Successor {
    process: Child,
    /// Set once it is ready. It sees the end of this process by the end of the connection.
    connection: Option<UnixStream>,
}

/// Why a process was not replaced.
#[derive(Debug, thiserror::Error)]
pub(in crate::app) enum NotReplaced {
    /// The program cannot be started.
    #[error("{program} cannot be started: {cause}")]
    Program {
        /// The program.
        program: String,
        /// The error of the system.
        cause: io::Error,
    },
    /// The sockets cannot be passed on.
    #[error("its sockets cannot be passed on: {0}")]
    Sockets(#[from] io::Error),
    /// The new process has ended.
    #[error("process {id} has ended before it was ready ({status}); the reason is in its output")]
    Ended {
        /// The new process.
        id: u32,
        /// How it has ended.
        status: String,
    },
    /// The new process takes too long.
    #[error("process {0} was not ready within {limit} seconds, and was ended", limit = READY_LIMIT.as_secs())]
    Late(u32),
}

impl Successor {
    /// Starts the program of this process again, with the same arguments, environment and output, passes the sockets and the lock on, and
    /// waits until it is ready. The program is found as it was found for this process, so that a new version may have its place.
    ///
    /// # Errors
    /// [`NotReplaced`]; the new process has ended then.
    pub(in crate::app) async fn start(sockets: &SharedSockets, lock: Option<&LentLock>) -> Result<Self, NotReplaced> {
        let mut arguments = std::env::args_os();
        let program = arguments.next().unwrap_or_else(|| "keygate".into());
        let (channel, other) = Channel::pair()?;
        let mut command = Command::new(&program);
        command.args(arguments).env(VARIABLE, std::process::id().to_string()).stdin(Stdio::from(other));
        let process = command
            .spawn()
            .map_err(|cause| NotReplaced::Program { program: program.to_string_lossy().into_owned(), cause })?;
        // The other end belongs to the new process alone.
        drop(command);
        let mut successor = Self { process, connection: None };
        let sent = send(&channel, sockets, lock);
        successor.wait_until_ready(channel, sent).await?;
        notify_main_process(successor.id());
        Ok(successor)
    }

    /// The id of the process.
    pub(in crate::app) fn id(&self) -> u32 {
        self.process.id()
    }

    async fn wait_until_ready(&mut self, channel: Channel, sent: io::Result<()>) -> Result<(), NotReplaced> {
        let id = self.id();
        let mut stream = channel.into_async()?;
        let mut text = [0; READY.len()];
        let received = timeout(READY_LIMIT, stream.read(&mut text)).await.map_err(|_| NotReplaced::Late(id))?;
        if received.is_ok_and(|length| &text[..length] == READY.as_bytes()) {
            self.connection = Some(stream);
            return Ok(());
        }
        // What it could not be sent is a reason only if it has not ended by itself.
        let status = self.exit_status().await;
        match (status, sent) {
            (Some(status), _) => Err(NotReplaced::Ended { id, status }),
            (None, Err(error)) => Err(error.into()),
            (None, Ok(())) => Err(NotReplaced::Ended { id, status: "it has closed its standard input".into() }),
        }
    }

    async fn exit_status(&mut self) -> Option<String> {
        let exited = async {
            loop {
                match self.process.try_wait() {
                    Ok(Some(status)) => return Some(status.to_string()),
                    Ok(None) => tokio::time::sleep(EXIT_LOOK).await,
                    Err(_) => return None,
                }
            }
        };
        timeout(EXIT_LIMIT, exited).await.ok().flatten()
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        if self.connection.is_none() {
            // Both fail if it has ended already.
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
    }
}

fn send(channel: &Channel, sockets: &SharedSockets, lock: Option<&LentLock>) -> io::Result<()> {
    sockets.send(channel)?;
    if let Some(lock) = lock {
        channel.send(&lock_name(&lock.database), Some(lock.file.as_fd()))?;
    }
    channel.send(COMPLETE, None)
}
