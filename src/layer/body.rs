//! The body of a response: that of the inner service, or of a rejection. It records the request when it ends.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::Response;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::kept::KeptExchange;
use crate::pipeline::ResponseInfo;

pin_project! {
    /// A response body with data of [`Bytes`] and the error type of the inner service's body.
    pub struct ResponseBody<R> {
        #[pin]
        content: Content<R>,
        record: Record,
    }
}

pin_project! {
    #[project = ContentProjection]
    enum Content<R> {
        Inner { #[pin] body: R },
        Rejection { body: Option<Bytes> },
    }
}

/// Counts and logs a request when its response has ended or is dropped.
struct Record {
    /// `None` for a response that is not recorded.
    exchange: Option<KeptExchange>,
    status: u16,
    /// Bytes sent.
    bytes: usize,
}

impl<R> ResponseBody<R> {
    pub(super) fn inner(response: Response<R>, exchange: Option<KeptExchange>) -> Response<Self> {
        let status = response.status().as_u16();
        response.map(|body| Self { content: Content::Inner { body }, record: Record::new(exchange, status) })
    }

    pub(super) fn rejection(response: Response<Bytes>, exchange: KeptExchange) -> Response<Self> {
        let status = response.status().as_u16();
        response.map(|body| {
            let body = (!body.is_empty()).then_some(body);
            Self { content: Content::Rejection { body }, record: Record::new(Some(exchange), status) }
        })
    }
}

impl Record {
    fn new(exchange: Option<KeptExchange>, status: u16) -> Self {
        Self { exchange, status, bytes: 0 }
    }

    fn finish(&mut self) {
        if let Some(exchange) = &mut self.exchange {
            exchange.record(ResponseInfo::new(self.status, self.bytes));
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.finish();
    }
}

impl<R: Body<Data = Bytes>> Body for ResponseBody<R> {
    type Data = Bytes;
    type Error = R::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, R::Error>>> {
        let this = self.project();
        let frame = match this.content.project() {
            ContentProjection::Inner { body } => ready!(body.poll_frame(context)),
            ContentProjection::Rejection { body } => body.take().map(|body| Ok(Frame::data(body))),
        };
        match &frame {
            Some(Ok(frame)) => this.record.bytes += frame.data_ref().map_or(0, Buf::remaining),
            Some(Err(_)) | None => this.record.finish(),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Inner { body } => body.is_end_stream(),
            Content::Rejection { body } => body.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Inner { body } => body.size_hint(),
            Content::Rejection { body } => {
                SizeHint::with_exact(body.as_ref().map_or(0, |body| u64::try_from(body.len()).unwrap_or(u64::MAX)))
            }
        }
    }
}

impl<R: Default> Default for ResponseBody<R> {
    /// The default of the inner body; records nothing.
    fn default() -> Self {
        Self { content: Content::Inner { body: R::default() }, record: Record::new(None, 0) }
    }
}
