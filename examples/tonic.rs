//! A gRPC service with API keys, as `authorization` metadata. Settings as in the axum example. A service that `tonic-build` generates is
//! used the same way.
//!
//! `cargo run --example tonic --features layer`

use std::convert::Infallible;
use std::error::Error;
use std::future::{Ready, ready};

use keygate::config::Config;
use keygate::engine::Engine;
use keygate::layer::{AuthLayer, Principal};
use tonic::body::Body;
use tonic::server::{Grpc, UnaryService};
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic_prost::ProstCodec;
use tower::service_fn;

/// `greeter.Greeter/Greet`: a text for a text.
struct Greet;

impl UnaryService<String> for Greet {
    type Response = String;
    type Future = Ready<Result<tonic::Response<String>, tonic::Status>>;

    fn call(&mut self, request: tonic::Request<String>) -> Self::Future {
        let caller = request.extensions().get::<Principal>().map_or("stranger", Principal::actor_id);
        ready(Ok(tonic::Response::new(format!("{} {caller}", request.get_ref()))))
    }
}

async fn greet(request: http::Request<axum::body::Body>) -> Result<http::Response<Body>, Infallible> {
    Ok(Grpc::new(ProstCodec::default()).unary(Greet, request).await)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (secret, dsn) = (std::env::var("KEYGATE_SECRETS_HMAC_CURRENT")?, std::env::var("KEYGATE_DB_DSN")?);
    let engine = Engine::builder(Config::new("https://keys.example.com".into(), secret.into(), dsn)).start().await?;
    let auth = AuthLayer::new(&engine).require_scopes(["greet"]);
    let router = axum::Router::new().route_service("/greeter.Greeter/Greet", service_fn(greet));

    let listener = tokio::net::TcpListener::bind(std::env::args().nth(1).unwrap_or("127.0.0.1:3001".into())).await?;
    println!("http://{}", listener.local_addr()?);
    let incoming = TcpIncoming::from(listener);
    Server::builder().layer(auth).add_routes(Routes::from(router)).serve_with_incoming(incoming).await?;
    engine.stop().await;
    Ok(())
}
