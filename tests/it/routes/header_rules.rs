//! Rules for the headers of requests and responses.

use serde_json::json;

use super::{Gateway, start, values};

fn gateway() -> Gateway {
    start(json!([{
        "name": "all",
        "auth": "optional",
        "request_headers": {
            "set": {
                "X-Key": "${key.id}",
                "X-Who": "${key.actor} of ${key.metadata.team}",
                "X-Cost": "${key.metadata.cost}",
                "X-Missing": "${key.metadata.missing}",
                "X-From": "for=${client.address};id=${request.id}",
                "X-San": "${tls.client.san}",
                "X-Price": "$${5}$",
                "X-Path": "${request.path}${request.query}",
                "Authorization": "Basic dXBzdHJlYW0=",
                "User-Agent": "keygate"
            },
            "add": {"Via": "1.1 keygate", "X-None": "${key.metadata.missing}"},
            "remove": ["Cookie", "X-Forwarded-Proto"]
        },
        "response_headers": {
            "set": {"Server": "keygate", "X-Caller": "${key.actor}"},
            "add": {"Vary": "Origin", "X-Id": "${request.id}"},
            "remove": ["X-Internal", "X-Request-Id"]
        }
    }]))
}

/// The fields of a head with these names, in lower case.
fn fields(head: &str, names: &[&str]) -> Vec<String> {
    let fields = head.lines().skip(1).filter_map(|line| line.split_once(": "));
    let fields = fields.map(|(name, value)| (name.to_ascii_lowercase(), value));
    let chosen = fields.filter(|(name, _)| names.contains(&&**name));
    let mut chosen: Vec<_> = chosen.map(|(name, value)| format!("{name}: {value}")).collect();
    chosen.sort();
    chosen
}

const NAMES: [&str; 16] = [
    "x-key",
    "x-who",
    "x-cost",
    "x-missing",
    "x-from",
    "x-san",
    "x-price",
    "x-path",
    "authorization",
    "user-agent",
    "via",
    "x-none",
    "cookie",
    "x-forwarded-proto",
    "x-forwarded-for",
    "x-request-id",
];

/// Headers with which a client tries to spoof its identity.
const SMUGGLED: [(&str, &str); 12] = [
    ("x-key", "theirs"),
    ("X-Key", "theirs"),
    ("x_key", "theirs"),
    ("x-who", "theirs"),
    ("x-missing", "theirs"),
    ("x-san", "theirs"),
    ("x-none", "kept"),
    ("cookie", "a=b"),
    ("via", "1.0 other"),
    ("user-agent", "curl"),
    ("connection", "x-key, x-from"),
    ("x-request-id", "r-1"),
];

#[tokio::test]
async fn request_rules_use_variables_and_replace_what_a_client_sends() {
    let gateway = gateway();
    let metadata = json!({"team": "Büro\r\nX-Evil: 1", "cost": 7});
    let (id, key) = gateway.keygate.issue(json!({"actor_id": "ana", "metadata": metadata})).await;
    for caller in gateway.callers() {
        // Connection is no field of HTTP/2.
        let is_http2 = caller.get("/", &[]).await.version() == reqwest::Version::HTTP_2;
        gateway.upstream.take();
        let mut sent: Vec<_> = SMUGGLED.into_iter().filter(|(name, _)| !is_http2 || *name != "connection").collect();
        sent.push(("x-api-key", &key));
        assert_eq!(caller.get("/a%20b?c=%41", &sent).await.status(), 200);
        let head = gateway.upstream.take().remove(0).head;
        let expected = [
            "authorization: Basic dXBzdHJlYW0=",
            "user-agent: keygate",
            "via: 1.0 other",
            "via: 1.1 keygate",
            "x-cost: 7",
            "x-forwarded-for: 127.0.0.1",
            "x-from: for=127.0.0.1;id=r-1",
            &format!("x-key: {id}"),
            "x-none: kept",
            "x-path: /a%20b?c=%41",
            "x-price: ${5}$",
            "x-request-id: r-1",
            "x-who: ana of B%C3%BCro%0D%0AX-Evil: 1",
        ];
        assert_eq!(fields(&head, &NAMES), expected);
        assert!(!head.contains("theirs"), "{head}");
    }
}

#[tokio::test]
async fn variables_without_a_value_set_nothing() {
    let gateway = gateway();
    for caller in gateway.callers() {
        let sent: Vec<_> = SMUGGLED.into_iter().filter(|(name, _)| *name != "connection").collect();
        assert_eq!(caller.get("/", &sent).await.status(), 200);
        let head = gateway.upstream.take().remove(0).head;
        let expected = [
            "authorization: Basic dXBzdHJlYW0=",
            "user-agent: keygate",
            "via: 1.0 other",
            "via: 1.1 keygate",
            "x-forwarded-for: 127.0.0.1",
            "x-from: for=127.0.0.1;id=r-1",
            "x-none: kept",
            "x-path: /",
            "x-price: ${5}$",
            "x-request-id: r-1",
        ];
        assert_eq!(fields(&head, &NAMES), expected);
    }
}

#[tokio::test]
async fn response_rules_apply_to_responses_of_the_upstream() {
    let gateway = gateway();
    let (_, key) = gateway.keygate.issue(json!({"actor_id": "ana"})).await;
    for caller in gateway.callers() {
        let answer = "200 OK; Server: upstream; Vary: Accept; X-Internal: 1; X-Caller: upstream";
        let sent = [("x-answer", answer), ("x-api-key", &key), ("x-request-id", "r-1")];
        let response = caller.get("/", &sent).await;
        for (name, expected) in [
            ("server", &["keygate"][..]),
            ("vary", &["Accept", "Origin"]),
            ("x-internal", &[]),
            ("x-caller", &["ana"]),
            ("x-id", &["r-1"]),
            ("x-request-id", &[]),
        ] {
            assert_eq!(values(&response, name), expected, "{name}");
        }
        let rejected = caller.get("/", &[("x-api-key", "unknown")]).await;
        assert_eq!(rejected.status(), 401);
        assert!(rejected.headers().contains_key("x-request-id") && !rejected.headers().contains_key("vary"));
        let anonymous = caller.get("/", &[("x-answer", answer)]).await;
        assert_eq!(values(&anonymous, "x-caller"), [""; 0]);
    }
}
