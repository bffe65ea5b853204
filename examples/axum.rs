//! An axum service with API keys, without a proxy in front of it. `KEYGATE_SECRETS_HMAC_CURRENT` is the secret and `KEYGATE_DB_DSN` the
//! database of an installation; `keygate serve` with the same settings is its admin API.
//!
//! `cargo run --example axum --features axum`

use std::error::Error;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::routing::get;
use keygate::config::Config;
use keygate::engine::Engine;
use keygate::layer::{AuthLayer, Principal};
use tokio::net::TcpListener;

async fn list(caller: Principal) -> String {
    format!("orders of {}", caller.actor_id())
}

async fn create(caller: Principal) -> String {
    format!("created by key {}", caller.key_id())
}

async fn greet(caller: Option<Principal>) -> String {
    format!("hello {}", caller.map_or_else(|| "stranger".to_owned(), |caller| caller.actor_id().to_owned()))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (secret, dsn) = (std::env::var("KEYGATE_SECRETS_HMAC_CURRENT")?, std::env::var("KEYGATE_DB_DSN")?);
    let config = Config::new("https://keys.example.com".into(), secret.into(), dsn);
    let burst = NonZeroU64::new(10).ok_or("a quota is positive")?;
    let engine = Engine::builder(config).limit("burst", burst, Duration::from_secs(1)).start().await?;

    let auth =
        AuthLayer::new(&engine).client_ip(|_, extensions| Some(extensions.get::<ConnectInfo<SocketAddr>>()?.0.ip()));
    let write = auth.clone().name("write").require_scopes(["orders:write"]).limit("burst").cost(5);
    let orders = get(list).layer(auth.clone().require_scopes(["orders:read"]));
    let app = Router::new()
        .route("/orders", orders.post_service(axum::routing::post(create).layer(write)))
        .route("/", get(greet).layer(auth.optional()));

    let listener = TcpListener::bind(std::env::args().nth(1).unwrap_or("127.0.0.1:3000".into())).await?;
    println!("http://{}", listener.local_addr()?);
    axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>()).await?;
    engine.stop().await;
    Ok(())
}
