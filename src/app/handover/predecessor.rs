//! The process that a new process replaces.

use std::io;
use std::os::unix::process::parent_id;

use tokio::io::AsyncReadExt;

use super::channel::Channel;
use super::inherited::Inherited;
use crate::app::error::AppError;

/// The environment variable with the id of the process that is replaced.
pub(super) const VARIABLE: &str = "KEYGATE_PREDECESSOR";
/// The last message of the process that is replaced.
pub(super) const COMPLETE: &str = "complete";
/// The message of the new process when it is ready.
pub(super) const READY: &str = "ready";

/// The process that this process replaces. It has started this one.
#[derive(Debug)]
pub struct Predecessor {
    id: u32,
    channel: Channel,
}

impl Predecessor {
    /// The process that has started this one as its successor, if one has.
    ///
    /// # Errors
    /// [`AppError`] if its connection cannot be used.
    pub fn find() -> Result<Option<Self>, AppError> {
        let id = std::env::var(VARIABLE).ok().and_then(|id| id.parse().ok());
        // A process that a successor starts for another purpose has the variable as well.
        let Some(id) = id.filter(|id| *id == parent_id()) else { return Ok(None) };
        let channel = Channel::of_stdin()
            .map_err(|cause| AppError::io(format!("the connection to process {id} cannot be used"), cause))?;
        Ok(Some(Self { id, channel }))
    }

    /// Its id.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Receives its sockets and the lock of its database.
    ///
    /// # Errors
    /// [`AppError`] if it has ended, or sends something else.
    pub fn receive(&self) -> Result<Inherited, AppError> {
        let failed = |cause| AppError::io(format!("the sockets of process {} cannot be received", self.id), cause);
        let mut inherited = Inherited::default();
        loop {
            let message = self.channel.receive().map_err(failed)?;
            let message = message.ok_or_else(|| failed(io::ErrorKind::UnexpectedEof.into()))?;
            match message.descriptor {
                Some(descriptor) => inherited.add(message.text, descriptor),
                None if message.text == COMPLETE => return Ok(inherited),
                None => return Err(failed(io::ErrorKind::InvalidData.into())),
            }
        }
    }

    /// Has it end.
    ///
    /// # Errors
    /// If it has ended already.
    pub(in crate::app) fn replace(&self) -> io::Result<()> {
        self.channel.send(READY, None)
    }

    /// Completes when it has ended.
    pub(in crate::app) async fn ended(self) {
        if let Ok(mut stream) = self.channel.into_async() {
            // No message follows: the end of the connection is the end of the process.
            let _ = stream.read(&mut [0]).await;
        }
    }
}
