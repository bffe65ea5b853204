//! The limit of requests in flight of a listener.

use keygate_test_servers::free_port;
use reqwest::{Client, Response};
use serde_json::{Value, json};

use super::clients::shed_because;
use super::in_flight;
use crate::reload::reload;
use crate::support::keygate::Keygate;
use crate::support::upstream::Upstream;

/// The clients of one protocol and path, each with the name of its case.
fn cases() -> [(&'static str, bool, Client); 3] {
    let http2 = Client::builder().http2_prior_knowledge().build().unwrap();
    [("fast path", true, Client::new()), ("pingora", false, Client::new()), ("HTTP/2", true, http2)]
}

async fn get(client: &Client, url: &str, key: &str) -> Response {
    client.get(url).header("x-api-key", key).send().await.unwrap()
}

/// A response that was not sent because of the limit.
async fn is_refused(response: Response) {
    assert_eq!((response.status().as_u16(), &response.headers()["retry-after"]), (503, &"1".parse().unwrap()));
    assert_eq!(response.json::<Value>().await.unwrap()["code"], "overloaded");
}

#[tokio::test]
async fn listener_refuses_beyond_its_own_limit_on_every_path() {
    for (name, fast_path, client) in cases() {
        let upstream = Upstream::start();
        let limited = format!("127.0.0.1:{}", free_port());
        let listener = |max: Option<u32>| json!([{"address": limited, "limits": {"max_in_flight": max}}]);
        let gateway = |max: Option<u32>| {
            json!({
                "fast_path": fast_path,
                "listeners": listener(max),
                "routes": [{"name": "api", "upstream": "api", "auth": "optional"}],
                "upstreams": {"api": {"endpoints": [upstream.url]}},
            })
        };
        let keygate = Keygate::serve(&gateway(Some(1)), &json!({}));
        let (_, key) = keygate.issue(json!({})).await;
        let url = |path: &str| format!("http://{limited}{path}");
        assert_eq!(get(&client, &url("/a"), &key).await.status(), 200, "{name}");
        let hold = || {
            let (client, url, key) = (client.clone(), url("/held"), key.clone());
            tokio::spawn(async move { get(&client, &url, &key).await.status() })
        };
        let first = hold();
        upstream.holds(1).await;
        // Without a key, one is too many; with one that is in the cache, two are.
        is_refused(client.get(url("/a")).send().await.unwrap()).await;
        in_flight(&keygate, 1).await;
        assert_eq!(get(&client, &url("/a"), &key).await.status(), 200, "{name}");
        in_flight(&keygate, 1).await;
        let second = hold();
        upstream.holds(2).await;
        is_refused(get(&client, &url("/a"), &key).await).await;
        let grpc = client.post(url("/a")).header("content-type", "application/grpc").send().await.unwrap();
        assert_eq!(grpc.headers()["grpc-status"], "14", "{name}");
        assert_eq!(shed_because(&keygate, "listener_in_flight").await, 3, "{name}");
        // Another listener has no part in it.
        assert_eq!(keygate.http.get(&keygate.gateway).send().await.unwrap().status(), 200, "{name}");
        // A reload changes the limit, also of connections that are open.
        reload(&keygate, &json!({"gateway": {"listeners": listener(None)}})).await;
        assert_eq!(client.get(url("/a")).send().await.unwrap().status(), 200, "{name}");
        upstream.release();
        for held in [first, second] {
            assert_eq!(held.await.unwrap(), 200, "{name}");
        }
    }
}
