//! The access log of the gateway, and the lines about failures of upstreams.

use reqwest::Version;
use serde_json::{Value, json};

use crate::support::keygate::Keygate;
use crate::support::listeners::{ListenerKind, Listeners, Protocol};
use crate::support::raw_upstream::RawUpstream;

fn gateway(upstream: &RawUpstream, access_log: &Value) -> Value {
    json!({
        "routes": [{"name": "open", "upstream": "api", "auth": "none"}],
        "upstreams": {"api": {"endpoints": [upstream.url]}},
        "access_log": access_log
    })
}

/// The fields of all access-log lines, in order.
fn lines(log: &str) -> Vec<Value> {
    let lines = log.lines().filter(|line| line.contains(r#""target":"keygate::access""#));
    lines.map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The names of the fields of a line without those that every line has.
fn names(line: &Value) -> Vec<&str> {
    let names = line.as_object().unwrap().keys().map(String::as_str);
    names.filter(|name| !["timestamp", "level", "target", "message"].contains(name)).collect()
}

#[tokio::test]
async fn line_describes_request_response_and_upstream() {
    let upstream = RawUpstream::start();
    let listeners = Listeners::new();
    let mut keygate = listeners.serve(&gateway(&upstream, &json!({})), &json!({}));
    let request = keygate.http.post(format!("{}/echo/1?secret=x", keygate.gateway));
    let request = request.header("host", "api.example.com").header("user-agent", "tester/1.0").body("12345");
    assert_eq!(request.send().await.unwrap().text().await.unwrap(), "/echo/1?secret=x");
    let client = listeners.client(ListenerKind::Tls, Protocol::Http2);
    let answer = client.get(format!("{}/chunked", listeners.url(ListenerKind::Tls))).send().await.unwrap();
    assert_eq!(answer.version(), Version::HTTP_2);
    assert_eq!(answer.text().await.unwrap(), "abcdefg");
    let log = keygate.whole_log();
    let [first, second] = <[Value; 2]>::try_from(lines(&log)).unwrap();
    let expected = json!({
        "method": "POST", "host": "api.example.com", "path": "/echo/1", "protocol": "HTTP/1.1", "status": 200, "bytes": 16,
        "bytes_received": 5, "route": "open", "upstream": "api", "endpoint": upstream.url.trim_start_matches("http://"), "attempts": 1, "peer": "127.0.0.1",
        "user_agent": "tester/1.0"
    });
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&first[name], value, "{name} of {first}");
    }
    assert!(first["upstream_us"].as_u64().unwrap() <= first["duration_us"].as_u64().unwrap(), "{first}");
    for (name, value) in [("protocol", json!("HTTP/2.0")), ("bytes", json!(7)), ("bytes_received", json!(0))] {
        assert_eq!(second[name], value, "{name} of {second}");
    }
    assert!(!log.contains("secret=x"), "{log}");
}

#[tokio::test]
async fn body_that_is_sent_again_is_counted_once() {
    let upstreams = [RawUpstream::start(), RawUpstream::start()];
    let mut settings = gateway(&upstreams[0], &json!({}));
    settings["upstreams"]["api"]["endpoints"] = json!(upstreams.each_ref().map(|upstream| &upstream.url));
    let mut keygate = Keygate::serve(&settings, &json!({}));
    let request = keygate.http.put(format!("{}/drop", keygate.gateway)).body("12345");
    assert_eq!(request.send().await.unwrap().status(), 502);
    assert_eq!(upstreams.map(|upstream| upstream.take().len()), [1, 1]);
    let log = keygate.whole_log();
    let line = &lines(&log)[0];
    assert_eq!([&line["attempts"], &line["bytes_received"]], [&json!(2), &json!(5)], "{line}");
}

#[tokio::test]
async fn rejected_request_has_no_upstream() {
    let upstream = RawUpstream::start();
    let mut settings = gateway(&upstream, &json!({}));
    settings["routes"][0]["auth"] = "required".into();
    let mut keygate = Keygate::serve(&settings, &json!({}));
    assert_eq!(keygate.call("/echo/1", "wrong").await.status(), 401);
    let log = keygate.whole_log();
    let line = &lines(&log)[0];
    assert_eq!([&line["status"], &line["denial"]], [&json!(401), &json!("credential_invalid")]);
    assert!(
        !names(line).iter().any(|name| ["upstream", "endpoint", "upstream_us", "attempts"].contains(name)),
        "{line}"
    );
}

#[tokio::test]
async fn log_level_does_not_silence_the_access_log() {
    let upstream = RawUpstream::start();
    let settings = gateway(&upstream, &json!({"fields": ["status", "path"]}));
    let mut keygate = Keygate::serve(&settings, &json!({"log": {"level": "error"}}));
    assert_eq!(keygate.call("/echo/1", "").await.status(), 200);
    let log = keygate.whole_log();
    assert_eq!(lines(&log).iter().map(names).collect::<Vec<_>>(), [["path", "status"]]);
    assert!(!log.contains("INFO\",\"message\":\"keygate"), "{log}");
}

#[tokio::test]
async fn access_log_can_be_switched_off() {
    let upstream = RawUpstream::start();
    let mut keygate = Keygate::serve(&gateway(&upstream, &json!({"enabled": false})), &json!({}));
    assert_eq!(keygate.call("/echo/1", "").await.status(), 200);
    assert_eq!(keygate.call("/drop", "").await.status(), 502);
    assert_eq!(lines(&keygate.whole_log()), Vec::<Value>::new());
}

#[tokio::test]
async fn failures_are_logged_whatever_the_sample_rate_is() {
    let upstream = RawUpstream::start();
    let mut keygate = Keygate::serve(&gateway(&upstream, &json!({"sample_rate": 0})), &json!({}));
    for _ in 0..20 {
        assert_eq!(keygate.call("/echo/1", "").await.status(), 200);
    }
    assert_eq!(keygate.call("/drop", "").await.status(), 502);
    let paths: Vec<_> = lines(&keygate.whole_log()).iter().map(|line| line["path"].clone()).collect();
    assert_eq!(paths, ["/drop"]);
}

#[tokio::test]
async fn response_that_breaks_off_is_logged_as_truncated() {
    let upstream = RawUpstream::start();
    let mut keygate = Keygate::serve(&gateway(&upstream, &json!({})), &json!({}));
    let answer = keygate.call("/truncated", "").await;
    assert_eq!(answer.status(), 200);
    answer.bytes().await.unwrap_err();
    assert_eq!(keygate.call("/chunked", "").await.text().await.unwrap(), "abcdefg");
    let log = keygate.whole_log();
    let truncated: Vec<_> =
        lines(&log).iter().map(|line| (line["status"].clone(), line["truncated"].clone())).collect();
    assert_eq!(truncated, [(json!(200), json!(true)), (json!(200), Value::Null)]);
    assert!(log.contains("the connection was closed before the response was complete"), "{log}");
}

#[tokio::test]
async fn malformed_head_of_the_upstream_is_named_but_not_logged() {
    for path in ["/malformed", "/malformed-length"] {
        let upstream = RawUpstream::start();
        let mut keygate = Keygate::serve(&gateway(&upstream, &json!({})), &json!({}));
        let answer = keygate.call(path, "").await;
        assert_eq!(answer.status(), 502);
        let body = answer.text().await.unwrap();
        let log = keygate.whole_log();
        for text in [&log, &body] {
            assert!(!text.contains("of-the-upstream"), "{text}");
        }
        let failures = log.lines().filter(|line| line.contains("\"ERROR\"")).collect::<Vec<_>>();
        assert_eq!(failures.len(), 1, "{log}");
        assert!(failures[0].contains("the head of the response is malformed"), "{log}");
    }
}
