//! Notifications to systemd (`sd_notify(3)`).

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The environment variable with the address of systemd's socket.
const VARIABLE: &str = "NOTIFY_SOCKET";

/// Names another process as the main process of the service, if systemd has started this one and waits for such messages.
pub(super) fn notify_main_process(id: u32) {
    let Some(address) = std::env::var_os(VARIABLE) else { return };
    if let Err(error) = send(&address, &format!("MAINPID={id}\nREADY=1")) {
        tracing::warn!(%error, "systemd could not be notified of the new main process; it may end the service with this process");
    }
}

fn send(address: &std::ffi::OsStr, text: &str) -> std::io::Result<()> {
    let bytes = address.as_encoded_bytes();
    let address = match bytes.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(address)?,
    };
    UnixDatagram::unbound()?.send_to_addr(text.as_bytes(), &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_arrives_at_a_path_and_at_an_abstract_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let name = format!("keygate-notify-test-{}", std::process::id());
        let abstract_name = SocketAddr::from_abstract_name(&name).unwrap();
        let sockets = [UnixDatagram::bind(&path).unwrap(), UnixDatagram::bind_addr(&abstract_name).unwrap()];
        for (socket, address) in sockets.iter().zip([path.into_os_string(), format!("@{name}").into()]) {
            send(&address, "MAINPID=1").unwrap();
            let mut text = [0; 32];
            let length = socket.recv(&mut text).unwrap();
            assert_eq!(&text[..length], b"MAINPID=1");
        }
    }
}
