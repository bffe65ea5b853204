use std::convert::Infallible;
use std::future::{Ready, ready};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body::Body;
use tower_layer::Layer;
use tower_service::Service;

use super::*;
use crate::testing;

#[derive(Clone)]
struct Empty;

/// A body without data, which does not allocate.
struct EmptyBody;

impl Body for EmptyBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        Poll::Ready(None)
    }
}

impl Service<Request<()>> for Empty {
    type Response = Response<EmptyBody>;
    type Error = Infallible;
    type Future = Ready<Result<Response<EmptyBody>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<()>) -> Self::Future {
        ready(Ok(Response::new(EmptyBody)))
    }
}

/// The allocations of one request through a service.
fn allocations<S>(service: &mut S, request: Request<()>) -> u64
where
    S: Service<Request<()>, Error = Infallible>,
{
    let mut request = Some(request);
    let measured = allocation_counter::measure(|| {
        let call = pin!(service.call(request.take().unwrap()));
        let polled = call.poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(polled, Poll::Ready(Ok(_))), "the key is cached");
    });
    measured.count_total
}

#[test]
fn cached_key_allocates_only_what_an_extension_needs() {
    const WARM_UP: usize = 64;
    const ROUNDS: usize = 512;
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let engine = runtime.block_on(testing::engine());
    let key = runtime.block_on(testing::issue_key(&engine, "ana", ["a"]));
    let request = |key: &HeaderValue| {
        let mut request = Request::new(());
        request.headers_mut().insert("authorization", key.clone());
        request
    };
    let key = HeaderValue::from_str(&format!("Bearer {key}")).unwrap();
    let mut service = AuthLayer::new(&engine).layer(Empty);
    // The first request looks the key up.
    runtime.block_on(service.call(request(&key))).unwrap();

    let principal = testing::TestPrincipal::actor("ana").build();
    let extension = allocation_counter::measure(|| {
        let mut extensions = http::Extensions::new();
        extensions.insert(principal.clone());
    });
    let more = (0..WARM_UP + ROUNDS).map(|_| allocations(&mut service, request(&key)));
    let more = more.skip(WARM_UP).filter(|count| *count > extension.count_total).count();
    // moka runs its maintenance after 64 reads, which allocates.
    assert!(more <= ROUNDS / 32, "{more} of {ROUNDS} requests allocate more than an extension");
}
