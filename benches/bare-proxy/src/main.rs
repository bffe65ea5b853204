//! `bare-proxy LISTEN UPSTREAM`: a pingora proxy that forwards every request to one upstream. It runs on one thread with the defaults of
//! pingora, and accepts HTTP/1.1 and HTTP/2 in clear text.
//!
//! It is the baseline of `make bench`: its CPU time per request is the minimum for a gateway built on pingora.

use async_trait::async_trait;
use mimalloc::MiMalloc;
use pingora::Result;
use pingora::apps::HttpServerOptions;
use pingora::prelude::{HttpPeer, ProxyHttp, Server, Session, http_proxy_service};
use pingora::server::configuration::ServerConf;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

struct BareProxy {
    upstream: String,
}

#[async_trait]
impl ProxyHttp for BareProxy {
    type CTX = ();

    fn new_ctx(&self) -> Self::CTX {}

    async fn upstream_peer(&self, _session: &mut Session, _ctx: &mut Self::CTX) -> Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(self.upstream.as_str(), false, String::new())))
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let (Some(listen), Some(upstream)) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: bare-proxy LISTEN UPSTREAM, for example: bare-proxy 127.0.0.1:8080 127.0.0.1:9000");
        std::process::exit(2);
    };
    let mut server = Server::new_with_opt_and_conf(None, ServerConf { threads: 1, ..ServerConf::default() });
    server.bootstrap();
    let mut proxy = http_proxy_service(&server.configuration, BareProxy { upstream });
    let mut options = HttpServerOptions::default();
    // Accept HTTP/2 with prior knowledge in addition to HTTP/1.1.
    options.h2c = true;
    proxy.app_logic_mut().expect("the service has an app").server_options = Some(options);
    proxy.add_tcp(&listen);
    server.add_service(proxy);
    server.run_forever();
}
