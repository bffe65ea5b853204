//! The response future of the layer.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_service::Service;

use super::body::ResponseBody;
use super::kept::KeptExchange;
use crate::pipeline::ResponseInfo;

/// The status that is recorded when the inner service returns an error instead of a response.
const INNER_ERROR: u16 = 500;

/// A request after its authorization: admitted for the inner service, or rejected.
type Authorized<B> = Result<(Request<B>, KeptExchange), (Response<Bytes>, KeptExchange)>;
pub(super) type AuthorizedFuture<B> = Pin<Box<dyn Future<Output = Authorized<B>> + Send>>;

pin_project! {
    /// The response of an [`AuthService`](super::AuthService). Dropping it cancels the request, which is counted and logged.
    pub struct ResponseFuture<S: Service<Request<B>>, B> {
        #[pin]
        state: State<S, B>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<S: Service<Request<B>>, B> {
        /// A record is looked up, or the request is counted in Redis.
        Pending { authorized: AuthorizedFuture<B>, inner: S },
        /// The inner service handles the request.
        Inner { #[pin] future: S::Future, exchange: Option<KeptExchange> },
        Rejected { response: Option<(Response<Bytes>, KeptExchange)> },
    }
}

impl<S: Service<Request<B>>, B> ResponseFuture<S, B> {
    pub(super) fn inner(future: S::Future, exchange: KeptExchange) -> Self {
        Self { state: State::Inner { future, exchange: Some(exchange) } }
    }

    pub(super) fn rejected(response: Response<Bytes>, exchange: KeptExchange) -> Self {
        Self { state: State::Rejected { response: Some((response, exchange)) } }
    }

    pub(super) fn pending(authorized: AuthorizedFuture<B>, inner: S) -> Self {
        Self { state: State::Pending { authorized, inner } }
    }
}

impl<S, B, R> Future for ResponseFuture<S, B>
where
    S: Service<Request<B>, Response = Response<R>>,
    R: Body<Data = Bytes>,
{
    type Output = Result<Response<ResponseBody<R>>, S::Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            let next = match state.as_mut().project() {
                StateProjection::Pending { authorized, inner } => match ready!(authorized.as_mut().poll(context)) {
                    Ok((request, exchange)) => State::Inner { future: inner.call(request), exchange: Some(exchange) },
                    Err(rejected) => State::Rejected { response: Some(rejected) },
                },
                StateProjection::Inner { future, exchange } => {
                    let result = ready!(future.poll(context));
                    return Poll::Ready(respond(result, exchange.take()));
                }
                StateProjection::Rejected { response } => {
                    return match response.take() {
                        Some((response, exchange)) => Poll::Ready(Ok(ResponseBody::rejection(response, exchange))),
                        None => Poll::Pending,
                    };
                }
            };
            state.set(next);
        }
    }
}

/// The response of the inner service, with the rate-limit fields.
fn respond<R: Body<Data = Bytes>, E>(
    result: Result<Response<R>, E>,
    mut exchange: Option<KeptExchange>,
) -> Result<Response<ResponseBody<R>>, E> {
    match (result, &mut exchange) {
        (Ok(mut response), authorized) => {
            if let Some(authorized) = authorized {
                authorized.edit_limits(response.headers_mut());
            }
            Ok(ResponseBody::inner(response, exchange))
        }
        (Err(error), authorized) => {
            if let Some(authorized) = authorized {
                authorized.record(ResponseInfo::new(INNER_ERROR, 0));
            }
            Err(error)
        }
    }
}
