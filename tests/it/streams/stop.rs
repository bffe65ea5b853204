//! Live streams at the stop.

use keygate_test_servers::WAIT_TIMEOUT;
use serde_json::json;
use tungstenite::Message;
use tungstenite::protocol::frame::coding::CloseCode;

use super::stream_upstream::StreamUpstream;
use super::{connect, echo, get, logged, open_socket, rest};
use crate::support::keygate::Keygate;

#[tokio::test]
async fn stop_closes_websockets_and_lets_event_streams_finish() {
    let upstream = StreamUpstream::start();
    let gateway = json!({
        "shutdown_grace": "2s",
        "routes": [{"name": "all", "upstream": "api", "auth": "none"}],
        "upstreams": {"api": {"endpoints": [upstream.url]}}
    });
    let mut keygate = Keygate::serve(&gateway, &json!({}));
    let mut socket = open_socket(connect(&keygate.gateway), "/socket", "").unwrap();
    echo(&mut socket, "hello");
    let mut events = connect(&keygate.gateway);
    get(&mut events, "/events", "", "data: 1\n\n\r\n");
    keygate.process.signal("TERM");
    let Message::Close(Some(close)) = socket.read().unwrap() else { panic!("no close frame") };
    assert_eq!((close.code, close.reason.as_str()), (CloseCode::Away, "server_stopping"));
    events.set_nonblocking(true).unwrap();
    assert!(events.peek(&mut [0]).is_err(), "the event stream goes on");
    events.set_nonblocking(false).unwrap();
    rest(&mut events);
    assert!(keygate.process.wait(WAIT_TIMEOUT).success());
    assert_eq!(logged(&keygate.log(), "/socket"), [(101, "server_stopping".to_owned(), true)]);
}
