//! The replacement of a running process by another one, which gets its listening sockets, so that no connection is refused meanwhile.
//!
//! - `channel`: the connection between the two, over which descriptors are passed.
//! - `successor`: the side of the process that is replaced: starts the other one and waits until it is ready.
//! - `predecessor`: the side of the new process.
//! - `inherited`: the sockets that a process gets from its predecessor or from systemd.
//! - `shared`: the sockets that a process passes on.
//! - `attempts`: new connections to sockets that are closed instead of being passed on.
//! - `notify`: notifications to systemd.

mod attempts;
mod channel;
mod inherited;
mod notify;
mod predecessor;
mod shared;
mod successor;

pub(super) use attempts::HANDSHAKE;
pub use inherited::Inherited;
pub use predecessor::Predecessor;
pub use shared::SharedSockets;
pub(super) use successor::Successor;
