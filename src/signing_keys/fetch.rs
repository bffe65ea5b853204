//! Fetching over HTTP: bounded in size and time, never through a proxy or a redirect, and from no internal address.

use std::error::Error;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use reqwest::{Client, Url};

use super::address::is_internal;
use super::{BODY_MAX, Failure};

const TIMEOUT: Duration = Duration::from_secs(10);

/// A client with the rules of this module.
#[derive(Clone)]
pub(super) struct Fetcher {
    client: Client,
    allow_internal: bool,
}

/// Resolves names to addresses that are not internal. Only these are connected to, so a second answer of the name
/// server cannot lead elsewhere.
struct PublicOnly;

#[derive(Debug, thiserror::Error)]
#[error("the name has internal addresses alone")]
struct InternalAddress;

impl Fetcher {
    pub(super) fn new(allow_internal: bool) -> Result<Self, Failure> {
        let builder = Client::builder().no_proxy().redirect(Policy::none()).timeout(TIMEOUT).user_agent("keygate");
        let builder = if allow_internal { builder } else { builder.dns_resolver(Arc::new(PublicOnly)) };
        Ok(Self { client: builder.build().map_err(|_| Failure::NoClient)?, allow_internal })
    }

    /// The body of a 200 answer.
    pub(super) async fn get(&self, url: &Url) -> Result<Vec<u8>, Failure> {
        // The client does not resolve what is an address already.
        if !self.allow_internal && literal(url).is_some_and(is_internal) {
            return Err(Failure::Internal);
        }
        let mut answer = self.client.get(url.clone()).send().await.map_err(|error| failure(&error))?;
        if answer.status() != 200 {
            return Err(Failure::Status(answer.status().as_u16()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| failure(&error))? {
            if body.len() + chunk.len() > BODY_MAX {
                return Err(Failure::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

impl Resolve for PublicOnly {
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

/// What went wrong, without the client's own words: they name the URL.
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
