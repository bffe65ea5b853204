//! A service behind the layer, with keys in a SQLite file that a second engine opens again.

use std::convert::Infallible;
use std::error::Error;
use std::path::Path;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use keygate::config::Config;
use keygate::engine::{Engine, RunningEngine};
use keygate::layer::{AuthLayer, Principal};
use tower::{Layer, ServiceExt, service_fn};

async fn hello(request: Request<()>) -> Result<Response<Full<Bytes>>, Infallible> {
    let known = request.extensions().get::<Principal>().is_some_and(|caller| caller.actor_id() == "ana");
    Ok(Response::new(Full::from(if known { "hello ana" } else { "hello stranger" })))
}

async fn open(file: &Path) -> Result<RunningEngine, Box<dyn Error>> {
    let secret = "a secret of at least 32 characters".to_owned();
    let dsn = format!("sqlite://{}", file.display());
    Ok(Engine::builder(Config::new("https://keys.example.com".into(), secret.into(), dsn)).start().await?)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::temp_dir().join(format!("keygate-embedding-{}", std::process::id()));
    std::fs::create_dir(&folder)?;
    let file = folder.join("keys.db");
    let engine = open(&file).await?;
    let key = keygate::testing::issue_key(&engine, "ana", ["hello"]).await;
    engine.stop().await;

    let engine = open(&file).await?;
    let service = AuthLayer::new(&engine).require_scopes(["hello"]).layer(service_fn(hello));
    let request = Request::get("/").header("x-api-key", key).body(())?;
    let response = service.clone().oneshot(request).await?;
    assert_eq!(response.into_body().collect().await?.to_bytes(), "hello ana");
    let response = service.oneshot(Request::get("/").body(())?).await?;
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    engine.stop().await;
    std::fs::remove_dir_all(folder)?;
    println!("the embedded engine accepts and rejects");
    Ok(())
}
