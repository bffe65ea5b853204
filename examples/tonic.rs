//! A gRPC service with API keys, as `authorization` metadata. Settings as in the axum example. A service that `tonic-build` generates is
//! used the same way.
//!
//! `cargo run --example tonic --features layer`

use std::convert::Infallible;
use std::error::Error;
use std::future::{Ready, ready};
use std::pin::Pin;
use std::task::{Context, Poll};

use keygate::config::Config;
use keygate::engine::Engine;
use keygate::layer::{AuthLayer, Principal};
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::transport::Server;
use tonic_prost::ProstCodec;

/// `greeter.Greeter/Greet`: a text for a text.
#[derive(Clone)]
struct Greeter;

impl UnaryService<String> for Greeter {
    type Response = String;
    type Future = Ready<Result<tonic::Response<String>, tonic::Status>>;

    fn call(&mut self, request: tonic::Request<String>) -> Self::Future {
        let caller = request.extensions().get::<Principal>().map_or("stranger", Principal::actor_id);
        ready(Ok(tonic::Response::new(format!("{} {caller}", request.get_ref()))))
    }
}

impl tower::Service<Request<Body>> for Greeter {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(async { Ok(Grpc::new(ProstCodec::default()).unary(Greeter, request).await) })
    }
}

impl NamedService for Greeter {
    const NAME: &'static str = "greeter.Greeter";
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (secret, dsn) = (std::env::var("KEYGATE_SECRETS_HMAC_CURRENT")?, std::env::var("KEYGATE_DB_DSN")?);
    let engine = Engine::builder(Config::new("https://keys.example.com".into(), secret.into(), dsn)).start().await?;
    let listener = tokio::net::TcpListener::bind(std::env::args().nth(1).unwrap_or("127.0.0.1:3001".into())).await?;
    println!("http://{}", listener.local_addr()?);
    let auth = AuthLayer::new(&engine).require_scopes(["greet"]);
    let incoming = tonic::transport::server::TcpIncoming::from(listener);
    Server::builder().layer(auth).add_service(Greeter).serve_with_incoming(incoming).await?;
    Ok(())
}
