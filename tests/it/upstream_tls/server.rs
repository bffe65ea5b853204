//! An upstream over TLS that describes each connection in its responses.

use std::io::BufReader;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use axum::Router;
use envoy_types::ext_authz::v3::pb::{
    Authorization, AuthorizationServer, CheckRequest, CheckResponse, HttpResponse, OkHttpResponse,
};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

use crate::support::authority::Pair;

/// What an upstream offers.
pub(crate) struct Settings<'s> {
    pub(crate) certificate: &'s Pair,
    /// The file of the authority of clients, whose certificates are then required.
    pub(crate) clients: Option<&'s Path>,
    pub(crate) versions: &'s [&'static SupportedProtocolVersion],
    pub(crate) alpn: &'s [&'static str],
}

/// A running upstream; it ends on drop. It answers every request with a description of the connection, and gRPC calls of
/// `envoy.service.auth.v3.Authorization` with success.
pub(super) struct TlsUpstream {
    pub(super) port: u16,
    requests: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl<'s> Settings<'s> {
    pub(crate) fn new(certificate: &'s Pair) -> Self {
        Self { certificate, clients: None, versions: rustls::ALL_VERSIONS, alpn: &["http/1.1"] }
    }

    pub(crate) fn config(&self) -> ServerConfig {
        let provider = Arc::new(default_provider());
        let builder =
            ServerConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(self.versions).unwrap();
        let builder = match self.clients {
            Some(file) => {
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(CertificateDer::pem_file_iter(file).unwrap().map(Result::unwrap));
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
            None => builder.with_no_client_auth(),
        };
        let chain = CertificateDer::pem_reader_iter(BufReader::new(self.certificate.certificate.as_bytes()));
        let key = PrivateKeyDer::from_pem_slice(self.certificate.key.as_bytes()).unwrap();
        let mut config = builder.with_single_cert(chain.map(Result::unwrap).collect(), key).unwrap();
        config.alpn_protocols = self.alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        config
    }
}

impl TlsUpstream {
    pub(super) async fn start(settings: Settings<'_>) -> Self {
        let acceptor = TlsAcceptor::from(Arc::new(settings.config()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&requests);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            for number in 0_usize.. {
                let (stream, _) = listener.accept().await.unwrap();
                connections.spawn(serve(stream, acceptor.clone(), number, Arc::clone(&counter)));
            }
        });
        Self { port, requests, _tasks: tasks }
    }

    /// The URL by the name that certificates for `localhost` have.
    pub(super) fn url(&self) -> String {
        format!("https://localhost:{}", self.port)
    }

    /// The number of requests so far.
    pub(super) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

async fn serve(stream: tokio::net::TcpStream, acceptor: TlsAcceptor, number: usize, requests: Arc<AtomicUsize>) {
    // The client refuses the certificate, or has none.
    let Ok(stream) = acceptor.accept(stream).await else { return };
    let tls = stream.get_ref().1;
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let client = tls.peer_certificates().and_then(<[_]>::first).map(|certificate| hex::encode(certificate.as_ref()));
    let facts = json!({
        "connection": number,
        "protocol": tls.alpn_protocol().map(text),
        "server_name": tls.server_name(),
        "client": client,
    });
    let router = router(&facts);
    let service = service_fn(move |request| {
        requests.fetch_add(1, Ordering::SeqCst);
        router.clone().oneshot(request)
    });
    let _ = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
}

fn router(facts: &Value) -> Router {
    let text = facts.to_string();
    Router::new()
        .route_service("/envoy.service.auth.v3.Authorization/{*method}", AuthorizationServer::new(Allow))
        .fallback(move || async move { text })
}

/// Allows every check, and says which path it is about.
struct Allow;

#[async_trait]
impl Authorization for Allow {
    async fn check(
        &self,
        request: tonic::Request<CheckRequest>,
    ) -> Result<tonic::Response<CheckResponse>, tonic::Status> {
        assert!(request.metadata().get("authorization").is_none(), "the credential is removed");
        let ok = HttpResponse::OkResponse(OkHttpResponse::default());
        Ok(tonic::Response::new(CheckResponse { http_response: Some(ok), ..CheckResponse::default() }))
    }
}
