//! The way to a collector with TLS, and the fields that are sent to it.

use keygate_test_servers::eventually;
use serde_json::json;

use super::collector::{Collector, Protocol};
use super::gateway;
use crate::support::authority::Authority;
use crate::support::keygate::{Keygate, command, merge, write_private};
use crate::support::upstream::Upstream;
use crate::support::wait::wait_for;

const SECRET: &str = "hunter2-of-the-collector";

#[tokio::test]
async fn spans_are_sent_over_tls_with_the_fields_of_the_configuration() {
    let (folder, upstream) = (tempfile::tempdir().unwrap(), Upstream::start());
    let authority = Authority::new(folder.path());
    let secret = folder.path().join("authorization");
    write_private(&secret, &format!("Bearer {SECRET}\n"));
    for protocol in [Protocol::Grpc, Protocol::Http] {
        let collector = Collector::start_tls(protocol, &authority.server(&["localhost"])).await;
        let mut tracing = collector.settings.clone();
        let more = json!({
            "tls": {"ca_file": authority.file}, "headers": {"x-scope-orgid": "orders"},
            "header_files": {"Authorization": secret}
        });
        merge(&mut tracing, &more);
        let settings = json!({"tracing": tracing, "log": {"level": "debug"}});
        let mut keygate = Keygate::serve(&gateway(&upstream.url), &settings);
        assert_eq!(keygate.call("/open/1", "").await.status(), 200);
        collector.trace_of("GET open").await;
        let fields = collector.fields().pop().unwrap();
        assert_eq!(fields["x-scope-orgid"], "orders");
        assert_eq!(fields["authorization"], format!("Bearer {SECRET}"));
        assert_eq!(keygate.count(r#"keygate_trace_spans_dropped_total{reason="export_failed"}"#).await, Some(0));
        let config = keygate.path().join("keygate.json");
        let shown = command().args(["config", "show", "--config"]).arg(config).output().unwrap();
        let shown = String::from_utf8(shown.stdout).unwrap();
        assert!(shown.contains("tracing.headers") && !shown.contains(SECRET), "{shown}");
        assert!(!keygate.whole_log().contains(SECRET));
    }
}

#[tokio::test]
async fn nothing_is_sent_to_a_collector_whose_certificate_is_not_accepted() {
    let (folder, upstream) = (tempfile::tempdir().unwrap(), Upstream::start());
    let authority = Authority::new(folder.path());
    let other = Authority::named(folder.path(), "other");
    for protocol in [Protocol::Grpc, Protocol::Http] {
        for certificate in
            [other.server(&["localhost"]), authority.server(&["example.com"]), authority.expired(&["localhost"])]
        {
            let collector = Collector::start_tls(protocol, &certificate).await;
            let mut tracing = collector.settings.clone();
            merge(&mut tracing, &json!({"tls": {"ca_file": authority.file}, "headers": {"authorization": SECRET}}));
            let keygate = Keygate::serve(&gateway(&upstream.url), &json!({"tracing": tracing}));
            assert_eq!(keygate.call("/open/1", "").await.status(), 200);
            wait_for(async || {
                match keygate.count(r#"keygate_trace_spans_dropped_total{reason="export_failed"}"#).await {
                    Some(1..) => Ok(()),
                    count => Err(format!("{count:?} spans are dropped")),
                }
            })
            .await;
            assert!(collector.fields().is_empty() && collector.spans().is_empty(), "{protocol:?}");
            let log = keygate.log();
            assert!(log.contains("traces cannot be delivered") && log.contains("invalid peer certificate"), "{log}");
        }
    }
}

#[tokio::test]
async fn file_of_authorities_is_checked_and_without_it_no_traces_are_recorded() {
    let (folder, upstream) = (tempfile::tempdir().unwrap(), Upstream::start());
    let file = folder.path().join("ca.pem");
    let tracing = json!({
        "enabled": true, "exporter": "otlp", "endpoint": "https://localhost:1", "tls": {"ca_file": file}, "sample_rate": 1
    });
    let keygate = Keygate::serve(&gateway(&upstream.url), &json!({"tracing": tracing}));
    assert_eq!(keygate.call("/open/1", "").await.status(), 200);
    eventually("the log names the setting", || keygate.log().contains("correct tracing.tls.ca_file and restart"));
    for (content, words) in [(None, "cannot be read"), (Some("x"), "contains no certificate")] {
        if let Some(content) = content {
            std::fs::write(&file, content).unwrap();
        }
        let config = keygate.path().join("keygate.json");
        let checked = command().args(["config", "check", "--config"]).arg(config).output().unwrap();
        let errors = String::from_utf8(checked.stderr).unwrap();
        assert!(!checked.status.success(), "{errors}");
        assert!(errors.contains("tracing.tls.ca_file") && errors.contains(words), "{errors}");
    }
}
