//! A gRPC service with calls of all four kinds, and its client.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::HeaderMap;
use http::uri::PathAndQuery;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use keygate_test_servers::WAIT_TIMEOUT;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tonic::client::Grpc as Client;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::tokio_stream::{self, Stream, StreamExt};
use tonic::metadata::MetadataValue;
use tonic::server::{ClientStreamingService, Grpc, ServerStreamingService, StreamingService, UnaryService};
use tonic::service::Routes;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;
use tower::{ServiceExt, service_fn};

use crate::support::authority::Pair;
use crate::support::listeners::{ListenerKind, Listeners, Protocol};

type Responses = Pin<Box<dyn Stream<Item = Result<String, Status>> + Send>>;
type Codec = ProstCodec<String, String>;

/// `test.Echo`: `Unary`, `Server`, `Client`, `Both`. Fails with the status of a text such as `fail 5`.
#[derive(Clone)]
struct Echo;

/// The service.
pub(crate) struct GrpcUpstream {
    pub(crate) url: String,
    /// The metadata of the calls so far.
    heads: Arc<Mutex<Vec<HeaderMap>>>,
}

/// A way to a gateway.
pub(super) struct Hop {
    channel: Channel,
}

/// A call that streams in both directions.
pub(super) struct Call {
    requests: mpsc::Sender<String>,
    responses: Streaming<String>,
}

fn check(text: String) -> Result<String, Status> {
    match text.strip_prefix("fail ") {
        Some(code) => Err(Status::new(code.parse::<i32>().unwrap().into(), "as requested: ä%")),
        None => Ok(text),
    }
}

impl UnaryService<String> for Echo {
    type Response = String;
    type Future = Ready<Result<Response<String>, Status>>;

    fn call(&mut self, request: Request<String>) -> Self::Future {
        ready(check(request.into_inner()).map(Response::new))
    }
}

impl ServerStreamingService<String> for Echo {
    type Response = String;
    type ResponseStream = Responses;
    type Future = Ready<Result<Response<Responses>, Status>>;

    /// A response for each word.
    fn call(&mut self, request: Request<String>) -> Self::Future {
        let words: Vec<_> = request.get_ref().split(',').map(|word| check(word.to_owned())).collect();
        ready(Ok(Response::new(Box::pin(tokio_stream::iter(words)))))
    }
}

impl ClientStreamingService<String> for Echo {
    type Response = String;
    type Future = Pin<Box<dyn Future<Output = Result<Response<String>, Status>> + Send>>;

    /// All requests in one response.
    fn call(&mut self, request: Request<Streaming<String>>) -> Self::Future {
        Box::pin(async move {
            let mut requests = request.into_inner();
            let mut all = String::new();
            while let Some(text) = requests.message().await? {
                all.push_str(&check(text)?);
            }
            Ok(Response::new(all))
        })
    }
}

impl StreamingService<String> for Echo {
    type Response = String;
    type ResponseStream = Responses;
    type Future = Ready<Result<Response<Responses>, Status>>;

    /// A response for each request.
    fn call(&mut self, request: Request<Streaming<String>>) -> Self::Future {
        let responses = request.into_inner().map(|text| text.and_then(check));
        ready(Ok(Response::new(Box::pin(responses))))
    }
}

impl GrpcUpstream {
    /// Starts the service on the current runtime.
    pub(crate) async fn start() -> Self {
        let (heads, routes) = service();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let incoming = TcpIncoming::from(listener);
        tokio::spawn(Server::builder().add_routes(Routes::from(routes)).serve_with_incoming(incoming));
        Self { url, heads }
    }

    /// The same with TLS and this certificate for `localhost`.
    pub(super) async fn start_with_tls(pair: &Pair) -> Self {
        let (heads, routes) = service();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        let acceptor = TlsAcceptor::from(Arc::new(tls(pair)));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, routes) = (acceptor.clone(), routes.clone());
                tokio::spawn(async move {
                    let stream = acceptor.accept(stream).await.unwrap();
                    let serve = hyper::service::service_fn(move |request| routes.clone().oneshot(request));
                    let _ = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), serve).await;
                });
            }
        });
        Self { url, heads }
    }

    /// The metadata of the calls since the last time.
    pub(super) fn take_heads(&self) -> Vec<HeaderMap> {
        std::mem::take(&mut self.heads.lock().unwrap())
    }
}

/// The service, and where it records the metadata of its calls.
fn service() -> (Arc<Mutex<Vec<HeaderMap>>>, axum::Router) {
    let heads: Arc<Mutex<Vec<HeaderMap>>> = Arc::default();
    let recorded = Arc::clone(&heads);
    let serve = move |request: http::Request<axum::body::Body>| {
        recorded.lock().unwrap().push(request.headers().clone());
        async move {
            let mut grpc = Grpc::new(Codec::default());
            Ok::<_, Infallible>(match request.uri().path() {
                "/test.Echo/Unary" => grpc.unary(Echo, request).await,
                "/test.Echo/Server" => grpc.server_streaming(Echo, request).await,
                "/test.Echo/Client" => grpc.client_streaming(Echo, request).await,
                _ => grpc.streaming(Echo, request).await,
            })
        }
    };
    (heads, axum::Router::new().route_service("/test.Echo/{call}", service_fn(serve)))
}

fn tls(pair: &Pair) -> ServerConfig {
    let chain = CertificateDer::pem_slice_iter(pair.certificate.as_bytes()).map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
    let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()));
    let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let mut config = builder.with_single_cert(chain, key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

impl Hop {
    /// To the address of an `http` URL, with prior knowledge.
    pub(super) fn tcp(url: &str) -> Self {
        let address: SocketAddr = url.trim_start_matches("http://").parse().unwrap();
        Self::new(move || async move { tokio::net::TcpStream::connect(address).await.map(TokioIo::new) })
    }

    /// To a listener.
    pub(super) fn listener(listeners: &Arc<Listeners>, kind: ListenerKind) -> Self {
        let listeners = Arc::clone(listeners);
        Self::new(move || {
            let listeners = Arc::clone(&listeners);
            async move { Ok(TokioIo::new(listeners.connect_async(kind, Protocol::Http2).await)) }
        })
    }

    fn new<C, F, S>(connect: C) -> Self
    where
        C: Fn() -> F + Clone + Send + Sync + 'static,
        F: Future<Output = std::io::Result<TokioIo<S>>> + Send + 'static,
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let endpoint = Endpoint::from_static("http://localhost").timeout(WAIT_TIMEOUT);
        Self { channel: endpoint.connect_with_connector_lazy(service_fn(move |_: http::Uri| connect())) }
    }

    async fn client(&self) -> Client<Channel> {
        let mut client = Client::new(self.channel.clone());
        client.ready().await.unwrap();
        client
    }

    pub(super) async fn unary(&self, credential: &str, text: &str) -> Result<String, Status> {
        self.unary_within(credential, text, WAIT_TIMEOUT).await
    }

    /// A call with this deadline.
    pub(super) async fn unary_within(
        &self,
        credential: &str,
        text: &str,
        deadline: Duration,
    ) -> Result<String, Status> {
        let mut request = authorized(text.to_owned(), credential);
        request.set_timeout(deadline);
        let response = self.client().await.unary(request, path("Unary"), Codec::default()).await;
        response.map(Response::into_inner)
    }

    pub(super) async fn server_streaming(&self, credential: &str, text: &str) -> Result<Vec<String>, Status> {
        let request = authorized(text.to_owned(), credential);
        let response = self.client().await.server_streaming(request, path("Server"), Codec::default()).await?;
        response.into_inner().collect().await
    }

    pub(super) async fn client_streaming(&self, credential: &str, texts: &[&str]) -> Result<String, Status> {
        let texts: Vec<_> = texts.iter().map(|text| (*text).to_owned()).collect();
        let request = authorized(tokio_stream::iter(texts), credential);
        let response = self.client().await.client_streaming(request, path("Client"), Codec::default()).await;
        response.map(Response::into_inner)
    }
}

impl Call {
    /// Begins a call that streams in both directions.
    pub(super) async fn open(hop: &Hop, credential: &str) -> Self {
        Self::try_open(hop, credential).await.unwrap()
    }

    pub(super) async fn try_open(hop: &Hop, credential: &str) -> Result<Self, Status> {
        let (requests, receiver) = mpsc::channel(1);
        let request = authorized(ReceiverStream::new(receiver), credential);
        let response = hop.client().await.streaming(request, path("Both"), Codec::default()).await?;
        Ok(Self { requests, responses: response.into_inner() })
    }

    /// Sends a text and waits for its echo.
    pub(super) async fn echo(&mut self, text: &str) {
        self.requests.send(text.to_owned()).await.unwrap();
        assert_eq!(self.responses.message().await.unwrap().as_deref(), Some(text));
    }

    /// Waits for the status that ends the call.
    pub(super) async fn end(&mut self) -> Status {
        let ended = tokio::time::timeout(WAIT_TIMEOUT, self.responses.message()).await.unwrap();
        ended.expect_err("the call is ended")
    }

    /// Ends the requests, and waits for the end of the responses.
    pub(super) async fn finish(self) {
        let Self { requests, mut responses } = self;
        drop(requests);
        assert_eq!(responses.message().await.unwrap(), None);
    }
}

fn path(call: &str) -> PathAndQuery {
    format!("/test.Echo/{call}").parse().unwrap()
}

fn authorized<T>(message: T, credential: &str) -> Request<T> {
    let mut request = Request::new(message);
    if !credential.is_empty() {
        let value = MetadataValue::try_from(format!("Bearer {credential}")).unwrap();
        request.metadata_mut().insert("authorization", value);
    }
    request
}
