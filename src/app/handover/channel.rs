//! The connection between a process and its successor: messages of a text, and a descriptor with some of them.

use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::cmsg_space;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};

/// The longest text in bytes: more than the longest path.
const TEXT_MAX: usize = 8 * 1024;

/// One end of the connection. The socket keeps the boundaries of messages.
#[derive(Debug)]
pub(super) struct Channel(OwnedFd);

/// A message.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) text: String,
    pub(super) descriptor: Option<OwnedFd>,
}

impl Channel {
    /// An end, and the other one for the process that is started with it as its standard input.
    pub(super) fn pair() -> io::Result<(Self, OwnedFd)> {
        let (one, other) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Self(one), other))
    }

    /// The end that is the standard input of this process.
    pub(super) fn of_stdin() -> io::Result<Self> {
        use std::os::fd::AsFd;
        std::io::stdin().as_fd().try_clone_to_owned().map(Self)
    }

    pub(super) fn send(&self, text: &str, descriptor: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let descriptors = descriptor.as_slice();
        if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(ErrorKind::OutOfMemory.into());
        }
        // A process that has ended is an error, not a signal.
        sendmsg(&self.0, &[IoSlice::new(text.as_bytes())], &mut control, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// Waits for a message; `None` if the other process has ended.
    pub(super) fn receive(&self) -> io::Result<Option<Message>> {
        let mut bytes = vec![0; TEXT_MAX];
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = recvmsg(&self.0, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
        if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
            return Err(ErrorKind::InvalidData.into());
        }
        let descriptor = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
            _ => None,
        });
        bytes.truncate(received.bytes);
        if bytes.is_empty() {
            return Ok(None);
        }
        let text = String::from_utf8(bytes).map_err(|_| io::Error::from(ErrorKind::InvalidData))?;
        Ok(Some(Message { text, descriptor }))
    }

    /// The end for an asynchronous task, which receives texts alone. Must be called within a runtime.
    pub(super) fn into_async(self) -> io::Result<tokio::net::UnixStream> {
        let stream = UnixStream::from(self.0);
        stream.set_nonblocking(true)?;
        tokio::net::UnixStream::from_std(stream)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn descriptors_arrive_with_their_texts() {
        let (one, other) = Channel::pair().unwrap();
        let other = Channel(other);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        one.send("tcp", Some(listener.as_fd())).unwrap();
        one.send("end", None).unwrap();
        drop(listener);
        let message = other.receive().unwrap().unwrap();
        assert_eq!(message.text, "tcp");
        let listener = TcpListener::from(message.descriptor.unwrap());
        TcpStream::connect(address).unwrap();
        listener.accept().unwrap();
        let message = other.receive().unwrap().unwrap();
        assert!(message.text == "end" && message.descriptor.is_none());
        drop(one);
        assert!(other.receive().unwrap().is_none());
    }
}
