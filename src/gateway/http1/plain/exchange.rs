//! A plain exchange: the attempts at the upstream, one response to the client, and what failures mean.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use http::{Method, Response};
use pingora::Error;
use pingora::protocols::Stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::download::{Start, write_error};
use super::endpoint_stream::EndpointStream;
use super::request::{PlainRequest, Step, parse};
use super::send_batching::after_ready_tasks;
use super::upload::{Sides, Upload, poll_abandoned};
use crate::gateway::failure::{as_upstream_timeout, is_client_disconnect};
use crate::gateway::forwarding::{Forwarding, unreachable_upstream};
use crate::gateway::http1::buffer_pool;
use crate::gateway::http1::fields::{FieldStorage, HeadFields};
use crate::gateway::http1::head::ParsedHead;
use crate::gateway::http1::rare_stage::rare_stage;
use crate::gateway::http1::refusal::own_response;
use crate::gateway::request_state::{ConnectionState, Progress};
use crate::gateway::respond::{DRAIN_TIMEOUT, MAX_DRAIN};
use crate::gateway::upstream::RequestFacts;
use crate::pipeline::{Exchange, ResponseForm};

/// The end of a plain exchange.
pub(in crate::gateway::http1) struct Finished {
    /// Whether the connection of the client can be used for another request, if the body of this one was read.
    pub(in crate::gateway::http1) is_reusable: bool,
    /// What is kept of the connection.
    pub(in crate::gateway::http1) state: Option<Box<ConnectionState>>,
}

/// Why an attempt at the upstream failed.
enum Failed {
    /// No endpoint was selected.
    Unselected(Box<Error>),
    /// The endpoint cannot be reached.
    Connect(Box<Error>),
    /// The exchange with the endpoint broke off.
    Exchange(Box<Error>),
}

impl PlainRequest<'_> {
    /// Takes a request that was begun to its end.
    pub(in crate::gateway::http1) async fn run(mut self: Box<Self>) -> Finished {
        if matches!(self.step, Step::Authorize) {
            self.step = rare_stage(self.authorize()).await;
        }
        let is_reusable = match self.take_response() {
            Some(response) => self.respond(&response).await,
            None => self.forward().await,
        };
        buffer_pool::put(std::mem::take(&mut self.head));
        Finished { is_reusable, state: self.request.connection.get_mut().take() }
    }

    /// Waits for the authorization.
    async fn authorize(&mut self) -> Step {
        let bytes = self.head.clone();
        let mut storage = Box::new(FieldStorage::new());
        let Ok(head) = ParsedHead::parse(&bytes, &mut storage, self.client.limits()) else { return Step::Select };
        let Forwarding { exchange, connection, .. } = &mut self.request;
        let (Some(exchange), Some(state)) = (exchange, connection.get_mut()) else { return Step::Select };
        let outcome = exchange.authorize(&HeadFields::new(head.fields), &mut state.connection).await;
        self.decide(outcome, &head, Instant::now())
    }

    /// Forwards the request.
    async fn forward(&mut self) -> bool {
        after_ready_tasks().await;
        loop {
            let failed = match self.attempt().await {
                Ok(()) => {
                    self.finish();
                    return !self.closes;
                }
                Err(failed) => failed,
            };
            let (error, is_retried) = match failed {
                Failed::Unselected(error) => (error, false),
                Failed::Connect(error) => {
                    let is_retried = self.request.call.connect_failed(&error);
                    (error, is_retried)
                }
                Failed::Exchange(error) => {
                    let error = as_upstream_timeout(error);
                    let facts = RequestFacts {
                        is_idempotent: self.method.is_idempotent(),
                        is_replayable: self.replay.is_complete(),
                    };
                    let is_retried = self.request.call.failed(&error, facts);
                    (error, is_retried)
                }
            };
            if !is_retried {
                return rare_stage(self.fail(&error)).await;
            }
        }
    }

    /// Ends a request that could not be forwarded, or whose response broke off.
    async fn fail(&mut self, error: &Error) -> bool {
        let path = self.request.exchange.as_deref().map(Exchange::received_path).unwrap_or_default();
        self.request.log_fault(error, self.method.as_str(), path);
        let is_answered = self.request.progress().is_some_and(Progress::is_answered);
        if is_answered {
            self.request.end_reason = self.request.supervision.end_reason(error);
        }
        // A response that was begun cannot be replaced; the client sees the end of the connection.
        if is_client_disconnect(error) || is_answered {
            self.request.is_truncated = !is_client_disconnect(error);
            self.finish();
            return false;
        }
        self.closes |= !self.request.is_shed();
        let response = self.request.reject(error, ResponseForm::Problem);
        self.respond(&response).await
    }

    /// Sends a response that Keygate makes itself.
    async fn respond(&mut self, response: &Response<Bytes>) -> bool {
        let is_drained = self.client.is_body_read() || rare_stage(self.is_drained()).await;
        self.closes |= !is_drained || self.client.is_stopping();
        let body = if self.method == Method::HEAD { &[] } else { &response.body()[..] };
        let bytes = own_response(response, body, self.closes);
        after_ready_tasks().await;
        if let Some(progress) = self.request.progress() {
            progress.set_answered();
            progress.set_last_part();
        }
        if let Err(error) = self.client.send_last(&bytes).await {
            tracing::debug!(%error, "the client closed the connection before the response was sent");
            self.closes = true;
        }
        buffer_pool::put(bytes);
        let status = Some(response.status().as_u16());
        let bytes_received = self.client.body_bytes();
        self.request.finish((status, body.len()), bytes_received);
        !self.closes
    }

    /// Reads what is left of a short body, so that the connection can be used again.
    async fn is_drained(&mut self) -> bool {
        let client = &mut self.client;
        if client.body_left().is_none_or(|left| left > MAX_DRAIN) {
            return false;
        }
        let read = async {
            let mut part = [0; 1024];
            while !client.is_body_read() {
                // The error of a connection that ends is that of the body.
                let _ = client.read(&mut part).await?;
            }
            std::io::Result::Ok(())
        };
        matches!(tokio::time::timeout(DRAIN_TIMEOUT, read).await, Ok(Ok(())))
    }

    /// Counts and logs the request.
    fn finish(&mut self) {
        let (status, bytes) = (self.request.supervision.status, self.request.supervision.sent);
        let bytes_received = self.client.body_bytes();
        self.request.finish((status, bytes), bytes_received);
    }

    /// Forwards the request to an endpoint, and the response to the client.
    async fn attempt(&mut self) -> Result<(), Failed> {
        let head = match self.take_head() {
            Some(head) => head,
            None => rare_stage(self.select()).await.map_err(Failed::Unselected)?,
        };
        let mut endpoint = self.connect().await?;
        let mut upload = Upload::new(head, &self.replay);
        let is_persistent = self.exchange(&mut endpoint, &mut upload).await.map_err(Failed::Exchange)?;
        if is_persistent
            && upload.is_complete()
            && let Some(stream) = endpoint.into_idle()
        {
            self.request.call.keep_idle(stream, self.client.now());
        }
        upload.end();
        Ok(())
    }

    /// Selects an endpoint, and writes the head for it.
    async fn select(&mut self) -> pingora::Result<BytesMut> {
        let upstream = self.request.upstream()?;
        self.request.select(&upstream, &self.key).await?;
        let bytes = self.head.clone();
        let limits = *self.client.limits();
        let written = parse(&bytes, &limits, |head| self.write_head(head));
        written.unwrap_or_else(|_| Err(unreachable_upstream()))
    }

    /// A connection to the endpoint that was selected: an idle one, or a new one.
    async fn connect(&mut self) -> Result<EndpointStream, Failed> {
        let write_limit = self.request.supervision.write_limit();
        if let Some(stream) = self.request.call.take_idle(self.client.now()) {
            self.request.call.connected(true, None).map_err(Failed::Exchange)?;
            return Ok(EndpointStream::new(stream, write_limit));
        }
        let stream = rare_stage(self.connect_new()).await?;
        Ok(EndpointStream::new(stream, write_limit))
    }

    async fn connect_new(&mut self) -> Result<Stream, Failed> {
        let mut peer = self.request.call.peer().ok_or_else(|| Failed::Unselected(unreachable_upstream()))?;
        self.request.supervision.apply_timeouts(&mut peer);
        let connected = {
            let mut connecting = pin!(self.request.call.connect(self.connector, &peer));
            let client = &mut self.client;
            poll_fn(|context| match connecting.as_mut().poll(context) {
                Poll::Ready(result) => Poll::Ready(result.map_err(|error| Failed::Connect(error.into_up()))),
                // The client may go while the connection is established, which says nothing about the endpoint.
                Poll::Pending => poll_abandoned(client, context).map(|error| Err(Failed::Exchange(error))),
            })
            .await
        };
        let stream = connected?;
        let tls = stream.get_ssl_digest();
        self.request.call.connected(false, tls.as_deref()).map_err(Failed::Exchange)?;
        Ok(stream)
    }

    /// Sends the request and passes the response on. Returns whether the endpoint keeps its connection.
    async fn exchange(&mut self, endpoint: &mut EndpointStream, upload: &mut Upload) -> pingora::Result<bool> {
        let is_body_empty = self.client.is_body_read();
        if let Some((supervision, exchange, progress)) = self.request.supervised() {
            supervision.begin_request(is_body_empty, exchange, progress)?;
        }
        let mut download = loop {
            match self.start(endpoint, upload).await? {
                Start::Interim(bytes) => rare_stage(self.pass_interim(&bytes)).await?,
                Start::Final(download) => break download,
            }
        };
        after_ready_tasks().await;
        // Not before: an exchange that is answered is dropped when it must end, without the response.
        if let Some(progress) = self.request.progress() {
            progress.set_answered();
        }
        let Self { request, client, replay, .. } = self;
        let mut sides = Sides { client, endpoint, request, replay };
        poll_fn(|context| download.poll(upload, &mut sides, context)).await?;
        let is_persistent = download.is_persistent;
        download.end();
        Ok(is_persistent)
    }

    /// Waits for a head of the response.
    async fn start(&mut self, endpoint: &mut EndpointStream, upload: &mut Upload) -> pingora::Result<Start> {
        poll_fn(|context| {
            let Self { request, client, replay, .. } = self;
            let mut sides = Sides { client, endpoint, request, replay };
            if let Poll::Ready(Err(error)) = upload.poll(&mut sides, context) {
                return Poll::Ready(Err(error));
            }
            loop {
                if let Some(start) = self.read_head(endpoint)? {
                    return Poll::Ready(Ok(start));
                }
                let received = endpoint.poll_receive(context);
                let is_over = !matches!(received, Poll::Ready(Ok(1..)));
                if let Some(error) = upload.failure.take_if(|_| is_over) {
                    return Poll::Ready(Err(error));
                }
                match received? {
                    Poll::Ready(0) => return Poll::Ready(Err(endpoint.closed())),
                    Poll::Ready(_) => {}
                    Poll::Pending => return poll_abandoned(&mut self.client, context).map(Err),
                }
            }
        })
        .await
    }

    /// Passes an interim response on.
    async fn pass_interim(&mut self, bytes: &[u8]) -> pingora::Result<()> {
        let sent = async {
            self.client.write_all(bytes).await?;
            self.client.flush().await
        };
        sent.await.map_err(write_error)
    }
}
