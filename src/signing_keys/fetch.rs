//! HTTP client for JWK sets: bounded in size and time, without proxies, redirects and internal addresses.

use std::error::Error;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use reqwest::{Client, Url};

use super::address::is_internal;
use super::error::Failure;

/// The maximum size of a JWK set in bytes.
pub(super) const BODY_MAX: usize = 1 << 20;
const TIMEOUT: Duration = Duration::from_secs(10);

/// An HTTP client with the restrictions of this module.
#[derive(Clone)]
pub(super) struct Fetcher {
    client: Client,
    allow_internal: bool,
}

/// Resolves names to public addresses only. The client connects to these addresses without a second lookup, so DNS rebinding
/// does not reach internal ones.
struct PublicResolver;

#[derive(Debug, thiserror::Error)]
#[error("the name has only internal addresses")]
struct InternalAddress;

impl Fetcher {
    pub(super) fn new(allow_internal: bool) -> Result<Self, Failure> {
        let builder = Client::builder().no_proxy().redirect(Policy::none()).timeout(TIMEOUT).user_agent("keygate");
        let builder = if allow_internal { builder } else { builder.dns_resolver(Arc::new(PublicResolver)) };
        Ok(Self { client: builder.build().map_err(|_| Failure::NoClient)?, allow_internal })
    }

    /// Fetches the body of a 200 response.
    pub(super) async fn get(&self, url: &Url) -> Result<Vec<u8>, Failure> {
        // The client does not resolve address literals.
        if !self.allow_internal && literal(url).is_some_and(is_internal) {
            return Err(Failure::Internal);
        }
        let mut response = self.client.get(url.clone()).send().await.map_err(|error| failure(&error))?;
        if response.status() != 200 {
            return Err(Failure::Status(response.status().as_u16()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| failure(&error))? {
            if body.len() + chunk.len() > BODY_MAX {
                return Err(Failure::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

impl Resolve for PublicResolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let all = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let public: Vec<SocketAddr> = all.filter(|address| !is_internal(address.ip())).collect();
            if public.is_empty() {
                return Err(InternalAddress.into());
            }
            let addresses: Addrs = Box::new(public.into_iter());
            Ok(addresses)
        })
    }
}

fn literal(url: &Url) -> Option<IpAddr> {
    url.host_str()?.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// The failure, without the text of the client's error: it contains the URL.
fn failure(error: &reqwest::Error) -> Failure {
    let mut causes = std::iter::successors(error.source(), |&cause| cause.source());
    if causes.any(<dyn Error>::is::<InternalAddress>) {
        Failure::Internal
    } else if error.is_timeout() {
        Failure::Timeout
    } else {
        Failure::Unreachable
    }
}
