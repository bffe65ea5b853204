//! A service with the Tower layer. It is called directly, without a server.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Empty;
use keygate::engine::RunningEngine;
use keygate::layer::{AuthLayer, AuthService};
use keygate::testing;
use tokio::runtime::Runtime;
use tower_layer::Layer;
use tower_service::Service;

use super::parts::poll_once;
use super::request::HOST_NAME;

/// A service that immediately returns an empty response with status 200.
#[derive(Clone)]
struct OkService;

/// A client of the service, with one key.
pub(super) struct LayerClient {
    service: AuthService<OkService>,
    request: Request<()>,
    _engine: RunningEngine,
    /// Runs the background tasks of the engine.
    runtime: Runtime,
}

impl Service<Request<()>> for OkService {
    type Response = Response<Empty<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Empty<Bytes>>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<()>) -> Self::Future {
        ready(Ok(Response::new(Empty::new())))
    }
}

impl LayerClient {
    /// A client whose key is cached.
    pub(super) fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("the runtime can be built");
        let engine = runtime.block_on(testing::engine());
        let key = runtime.block_on(testing::issue_key(&engine, "service-orders@example.com", ["orders:read"]));
        let service = AuthLayer::new(&engine).require_scopes(["orders:read"]).layer(OkService);
        let request = Request::get("/v1/orders/4711?page=2").header("host", HOST_NAME).header("accept", "*/*");
        let request = request.header("authorization", format!("Bearer {key}")).body(()).expect("the request is valid");
        let mut client = Self { service, request, _engine: engine, runtime };
        // The first request looks the key up and caches it.
        let first = client.service.call(client.request.clone());
        assert_eq!(client.runtime.block_on(first).expect("the service never fails").status(), 200);
        client
    }

    /// Copies the request.
    pub(super) fn copy(&self) -> Request<()> {
        self.request.clone()
    }

    /// Sends a copy of the request. Returns the status.
    pub(super) fn send(&mut self) -> u16 {
        let response = poll_once(self.service.call(self.request.clone()));
        response.expect("the service never fails").status().as_u16()
    }
}
