use std::pin::Pin;
use std::time::Duration;

use pingora::connectors::TransportConnector;
use pingora::upstreams::peer::HttpPeer;
use rustls::crypto::CryptoProvider;
use sqlx::{Connection, PgConnection};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::config::RedisConfig;
use crate::redis::Redis;

/// The key exchange X25519MLKEM768. Only aws-lc-rs offers it, ring does not.
const POST_QUANTUM: u16 = 0x11ec;

#[test]
fn the_default_provider_is_aws_lc_rs() {
    install_crypto_provider();
    let provider = CryptoProvider::get_default().unwrap();
    assert_eq!(format!("{:?} {:?}", provider.secure_random, provider.key_provider), "AwsLcRs AwsLcRs");
}

/// The key exchange groups that a client offers in its first TLS message. With `postgres` the client first sends the
/// 8 bytes of an `SSLRequest` and expects `S`.
async fn offered_groups(listener: TcpListener, postgres: bool) -> Vec<u16> {
    let (mut stream, _) = listener.accept().await.unwrap();
    if postgres {
        stream.read_exact(&mut [0; 8]).await.unwrap();
        stream.write_all(b"S").await.unwrap();
    }
    let mut header = [0; 5];
    stream.read_exact(&mut header).await.unwrap();
    let mut hello = vec![0; usize::from(u16::from_be_bytes([header[3], header[4]]))];
    stream.read_exact(&mut hello).await.unwrap();
    supported_groups(&hello)
}

/// The extension `supported_groups` of a `ClientHello` (RFC 8446, sections 4.1.2 and 4.2.7).
fn supported_groups(hello: &[u8]) -> Vec<u16> {
    let number = |at: usize| u16::from_be_bytes([hello[at], hello[at + 1]]);
    // Handshake header, version and random; then session id, cipher suites and compression methods.
    let session = 4 + 2 + 32;
    let suites = session + 1 + usize::from(hello[session]);
    let compression = suites + 2 + usize::from(number(suites));
    let mut at = compression + 1 + usize::from(hello[compression]) + 2;
    while number(at) != 10 {
        at += 4 + usize::from(number(at + 2));
    }
    let groups = usize::from(number(at + 4)) / 2;
    (0..groups).map(|index| number(at + 6 + 2 * index)).collect()
}

async fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

/// Runs a client against a server that reads its first message.
async fn groups_of(client: Pin<Box<dyn Future<Output = ()> + '_>>, listener: TcpListener, postgres: bool) -> Vec<u16> {
    let read = tokio::time::timeout(Duration::from_secs(10), offered_groups(listener, postgres));
    // The client may fail before the server has read everything that it sent.
    let running = async {
        client.await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        groups = read => groups.unwrap(),
        () = running => unreachable!(),
    }
}

#[tokio::test]
async fn connections_to_redis_use_aws_lc_rs() {
    let (listener, address) = listen().await;
    let mut config = RedisConfig { addrs: vec![address], ..RedisConfig::default() };
    config.tls.enabled = true;
    let redis = Redis::new(&config).unwrap();
    assert!(groups_of(Box::pin(redis.keep_connected()), listener, false).await.contains(&POST_QUANTUM));
}

#[tokio::test]
async fn connections_to_postgresql_use_aws_lc_rs() {
    let (listener, address) = listen().await;
    let url = format!("postgres://user@{address}/database?sslmode=require");
    assert!(
        groups_of(Box::pin(async { drop(PgConnection::connect(&url).await) }), listener, true)
            .await
            .contains(&POST_QUANTUM)
    );
}

#[tokio::test]
async fn https_clients_use_aws_lc_rs() {
    let (listener, address) = listen().await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let call = async { drop(client.get(format!("https://{address}/")).send().await) };
    assert!(groups_of(Box::pin(call), listener, false).await.contains(&POST_QUANTUM));
}

#[tokio::test]
async fn connections_to_upstreams_use_aws_lc_rs() {
    install_crypto_provider();
    let (listener, address) = listen().await;
    let connector = TransportConnector::new(None);
    let peer = HttpPeer::new(address, true, "localhost".into());
    let call = async { drop(connector.get_stream(&peer).await) };
    assert!(groups_of(Box::pin(call), listener, false).await.contains(&POST_QUANTUM));
}
