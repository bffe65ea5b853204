//! The access log on an output of its own: the standard output, or a file that is rotated.

use std::path::Path;
use std::process::Stdio;

use keygate_test_servers::Process;
use serde_json::{Value, json};

use crate::support::keygate::{Keygate, command, write_private};
use crate::support::upstream::Upstream;
use crate::support::wait::wait_for;

fn gateway(upstream: &Upstream, access_log: &Value) -> Value {
    json!({
        "routes": [{"name": "open", "upstream": "api", "auth": "none"}],
        "upstreams": {"api": {"endpoints": [upstream.url]}},
        "access_log": access_log
    })
}

/// The lines of a file once it has this number of them.
async fn lines(path: &Path, count: usize) -> Vec<String> {
    wait_for(async || {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let lines: Vec<_> = text.lines().map(str::to_owned).collect();
        if lines.len() == count && text.ends_with('\n') { Ok(lines) } else { Err(format!("{lines:?}")) }
    })
    .await
}

async fn call(keygate: &Keygate, path: &str) {
    let request = keygate.http.get(format!("{}{path}", keygate.gateway)).header("user-agent", "a \"b\"\\");
    assert_eq!(request.header("x-request-id", "req-1").send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn lines_in_a_file_have_the_chosen_form() {
    let folder = tempfile::tempdir().unwrap();
    let upstream = Upstream::start();
    let fields = json!(["request_id", "method", "path", "status", "denial", "user_agent"]);
    for (name, more, line) in [
        (
            "json",
            json!({"format": "json"}),
            r#"{"timestamp":"TIME","request_id":"req-1","method":"GET","path":"/a","status":200,"user_agent":"a \"b\"\\"}"#,
        ),
        (
            "text",
            json!({"format": "text"}),
            r#"TIME request_id=req-1 method=GET path=/a status=200 user_agent="a \"b\"\\""#,
        ),
        (
            "template",
            json!({"template": "${peer} [${time}] \"${method} ${path} ${protocol}\" ${status} ${denial} \"${user_agent}\""}),
            r#"127.0.0.1 [TIME] "GET /a HTTP/1.1" 200 - "a \x22b\x22\x5C""#,
        ),
    ] {
        let path = folder.path().join(name);
        let mut access_log = more;
        access_log["output"] = path.to_str().unwrap().into();
        access_log["fields"] = fields.clone();
        let mut keygate = Keygate::serve(&gateway(&upstream, &access_log), &json!({}));
        call(&keygate, "/a").await;
        let written = lines(&path, 1).await.remove(0);
        let at = written.find("202").unwrap();
        let time = &written[at..at + "2026-11-26T15:00:00.000000Z".len()];
        assert!(time.ends_with('Z') && time.as_bytes()[19] == b'.', "{written}");
        assert_eq!(written.replace(time, "TIME"), line);
        assert!(!keygate.whole_log().contains("keygate::access"), "a line is also in the log");
        assert_eq!(mode(&path), 0o640);
    }
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn renamed_file_is_opened_again_at_sigusr1() {
    let folder = tempfile::tempdir().unwrap();
    let upstream = Upstream::start();
    let (path, old) = (folder.path().join("access.log"), folder.path().join("access.log.1"));
    let access_log = json!({"output": path, "template": "${path}"});
    let keygate = Keygate::serve(&gateway(&upstream, &access_log), &json!({}));
    call(&keygate, "/one").await;
    lines(&path, 1).await;
    std::fs::rename(&path, &old).unwrap();
    call(&keygate, "/two").await;
    assert_eq!(lines(&old, 2).await, ["/one", "/two"]);
    keygate.process.signal("USR1");
    wait_for(async || if path.exists() { Ok(()) } else { Err("the file is not opened again".to_owned()) }).await;
    call(&keygate, "/three").await;
    assert_eq!(lines(&path, 1).await, ["/three"]);
    assert_eq!(lines(&old, 2).await, ["/one", "/two"]);
}

#[tokio::test]
async fn stop_writes_the_last_lines() {
    let folder = tempfile::tempdir().unwrap();
    let upstream = Upstream::start();
    let path = folder.path().join("access.log");
    let access_log = json!({"output": path, "template": "${path}"});
    let mut keygate = Keygate::serve(&gateway(&upstream, &access_log), &json!({}));
    call(&keygate, "/last").await;
    keygate.whole_log();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "/last\n");
}

#[tokio::test]
async fn standard_output_has_the_lines_and_nothing_else() {
    let upstream = Upstream::start();
    let access_log = json!({"output": "stdout", "fields": ["path", "status"]});
    let mut keygate = Keygate::serve(&gateway(&upstream, &access_log), &json!({}));
    keygate.whole_log();
    let written = keygate.path().join("stdout");
    let mut command = command();
    command.arg("serve").arg("--config").arg(keygate.path().join("keygate.json"));
    command.stdout(std::fs::File::create(&written).unwrap()).stderr(Stdio::null());
    keygate.process = Process::start(&mut command);
    let probe = || keygate.http.get(format!("{}/a", keygate.gateway)).send();
    wait_for(async || probe().await.map(|_| ()).map_err(|error| error.to_string())).await;
    let line: Value = serde_json::from_str(&lines(&written, 1).await[0]).unwrap();
    assert_eq!([&line["path"], &line["status"]], [&json!("/a"), &json!(200)], "{line}");
}

#[tokio::test]
async fn reload_changes_the_output_and_a_bad_one_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let upstream = Upstream::start();
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    let access_log = |path: &Path| json!({"output": path, "template": "${path}"});
    let keygate = Keygate::serve(&gateway(&upstream, &access_log(&first)), &json!({}));
    call(&keygate, "/one").await;
    let file = keygate.path().join("keygate.json");
    let reload = async |path: &Path, outcome: &str| {
        let mut config: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        config["gateway"]["access_log"] = access_log(path);
        write_private(&file, &config.to_string());
        keygate.process.signal("HUP");
        wait_for(async || {
            let log = keygate.log();
            if log.contains(outcome) { Ok(()) } else { Err(log) }
        })
        .await;
    };
    reload(&second, "the configuration was reloaded").await;
    call(&keygate, "/two").await;
    reload(Path::new("/nonexistent/access.log"), "gateway.access_log.output cannot be opened").await;
    call(&keygate, "/three").await;
    assert_eq!(lines(&first, 1).await, ["/one"]);
    assert_eq!(lines(&second, 2).await, ["/two", "/three"]);
}
