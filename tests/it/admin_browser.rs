//! Foreign web pages in a real browser against the admin API, and the same calls by other programs.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;

use keygate_test_servers::free_port;
use serde_json::{Value, json};

use crate::support::chromium::shown;
use crate::support::keygate::Keygate;

const IMPORT: &str = "/v2alpha1/admin/importedApiKeys";
const LIST: &str = "/v2alpha1/admin/issuedApiKeys";
/// The text of the key that the attacks import.
const RAW_KEY: &str = "text-that-the-page-knows";

/// A web site: `GET /page` is its page; every other request is passed to another server, as after a change of its DNS record.
struct Site {
    port: u16,
}

impl Site {
    fn start(page: String, other: &str) -> Self {
        Self::start_on(0, page, other)
    }

    fn start_on(port: u16, page: String, other: &str) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (page, other) = (Arc::new(page), other.trim_start_matches("http://").to_owned());
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (page, other) = (Arc::clone(&page), other.clone());
                // A browser may close a connection at any time.
                std::thread::spawn(move || drop(answer(stream, &page, &other)));
            }
        });
        Self { port }
    }
}

fn answer(mut stream: TcpStream, page: &str, other: &str) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut head = String::new();
    while reader.read_line(&mut head)? > 2 {}
    if head.starts_with("GET /page ") {
        let length = page.len();
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
        );
        return stream.write_all(format!("{head}{page}").as_bytes());
    }
    let mut upstream = TcpStream::connect(other)?;
    // One request for each connection.
    upstream.write_all(head.replacen("\r\n\r\n", "\r\nConnection: close\r\n\r\n", 1).as_bytes())?;
    let length = head
        .to_ascii_lowercase()
        .split("content-length: ")
        .nth(1)
        .map_or(0, |rest| rest.split("\r\n").next().and_then(|length| length.parse().ok()).unwrap_or_default());
    std::io::copy(&mut reader.take(length), &mut upstream)?;
    let mut response = Vec::new();
    upstream.read_to_end(&mut response)?;
    stream.write_all(&response)
}

/// A page that runs a script, whose result it shows.
fn page(script: &str) -> String {
    format!(
        "<!doctype html><body><p id=result>unfinished</p><script>\
         (async () => {{ {script} }})().catch(error => `failed: ${{error}}`)\
         .then(text => {{ document.getElementById('result').textContent = text; }});</script></body>"
    )
}

/// A request to import a key, as JSON.
fn import() -> String {
    json!({"name": "n", "actor_id": "a", "raw_key": RAW_KEY}).to_string()
}

async fn is_imported(keygate: &Keygate) -> bool {
    let body = json!({"credential": RAW_KEY}).to_string();
    keygate.send("POST /v2alpha1/admin/apiKeys:verify", body).await.body["is_valid"] == true
}

/// Servers without and with authentication; the browser has no key of the latter.
fn servers() -> [Keygate; 2] {
    const KEY: &str = "a-bootstrap-key-for-tests-0123456789abcdef";
    let mut secured = Keygate::serve_admin(&json!({"serve": {"http": {"auth": {"bootstrap_key": KEY}}}}));
    secured.admin_key = KEY.into();
    [Keygate::serve_admin(&json!({})), secured]
}

/// Asserts that the browser has sent the request and that it was refused before authentication.
#[track_caller]
fn assert_refused(keygate: &Keygate, why: &str) {
    let log = keygate.log();
    assert!(log.contains("a request to the admin API was refused") && log.contains(why), "{log}");
}

#[tokio::test]
async fn form_of_a_foreign_page_is_refused() {
    for mut keygate in servers() {
        // The body of this form is JSON: a name, = and a value.
        let (name, value) = (import().replace('}', r#","x":""#).replace('"', "&quot;"), "&quot;}");
        let form = format!(
            "<!doctype html><body><form method=post enctype=text/plain action='{}{IMPORT}'>\
             <input name='{name}' value='{value}'></form><script>document.forms[0].submit()</script></body>",
            keygate.admin
        );
        let site = Site::start(form, &keygate.admin);
        let Some(dom) = shown(&format!("http://127.0.0.1:{}/page", site.port), &[]).await else { return };
        assert!(!is_imported(&keygate).await, "{dom}");
        keygate.whole_log();
        assert_refused(&keygate, IMPORT);
        assert_refused(&keygate, "from a page of another site");
    }
}

#[tokio::test]
async fn no_cors_fetch_of_a_foreign_page_is_refused() {
    for mut keygate in servers() {
        let script = format!(
            "await fetch('{}{IMPORT}', {{ method: 'POST', mode: 'no-cors', body: JSON.stringify({}) }}); return 'sent';",
            keygate.admin,
            import()
        );
        let site = Site::start(page(&script), &keygate.admin);
        let Some(dom) = shown(&format!("http://127.0.0.1:{}/page", site.port), &[]).await else { return };
        assert!(dom.contains(">sent<"), "{dom}");
        assert!(!is_imported(&keygate).await);
        keygate.whole_log();
        assert_refused(&keygate, IMPORT);
    }
}

#[tokio::test]
async fn page_whose_name_is_rebound_to_the_listener_is_refused() {
    let mut keygate = Keygate::serve_admin(&json!({}));
    keygate.issue(json!({"name": "secret name"})).await;
    let script = format!(
        "const options = {{ method: 'POST', headers: {{ 'content-type': 'application/json' }}, body: JSON.stringify({}) }};\
         const [list, imported] = [await fetch('{LIST}'), await fetch('{IMPORT}', options)];\
         return `${{list.status}} ${{imported.status}} ${{await list.text()}}`;",
        import()
    );
    let site = Site::start(page(&script), &keygate.admin);
    let rules = "--host-resolver-rules=MAP evil.test 127.0.0.1";
    let url = |name: &str| format!("http://{name}:{}/page", site.port);
    let Some(dom) = shown(&url("evil.test"), &[rules]).await else { return };
    assert!(dom.contains(">403 403 ") && !dom.contains("secret name"), "{dom}");
    assert!(!is_imported(&keygate).await);
    // The same page by an address is the control: the site passes its requests to the admin API.
    let dom = shown(&url("127.0.0.1"), &[rules]).await.unwrap();
    assert!(dom.contains(">200 201 ") && dom.contains("secret name"), "{dom}");
    keygate.whole_log();
    assert_refused(&keygate, "the name in Host is not allowed");
    assert_refused(&keygate, "evil.test");
}

#[tokio::test]
async fn script_of_an_allowed_origin_calls_with_a_key() {
    let key = "a-bootstrap-key-for-tests-0123456789abcdef";
    for (allowed, expected) in [("http://*.console.test", ">201 true<"), ("http://console.test", ">failed: TypeError")]
    {
        // The port is a part of the origin.
        let port = free_port();
        let cors =
            json!({"enabled": true, "allowed_origins": [format!("{allowed}:{port}")], "exposed_headers": ["location"]});
        let keygate = Keygate::serve_admin(&json!({"serve": {"http": {"cors": cors, "auth": {"bootstrap_key": key}}}}));
        let script = format!(
            "const response = await fetch('{}{LIST}', {{ method: 'POST', \
             headers: {{ 'content-type': 'application/json', authorization: 'Bearer {key}' }}, \
             body: JSON.stringify({}) }}); return `${{response.status}} ${{response.headers.has('location')}}`;",
            keygate.admin,
            json!({"name": "n", "actor_id": "a"})
        );
        let site = Site::start_on(port, page(&script), &keygate.admin);
        let rules = "--host-resolver-rules=MAP *.console.test 127.0.0.1";
        let Some(dom) = shown(&format!("http://a.console.test:{}/page", site.port), &[rules]).await else { return };
        assert!(dom.contains(expected), "{allowed}: {dom}");
    }
}

#[tokio::test]
async fn same_calls_by_curl_work() {
    let keygate = Keygate::serve_admin(&json!({}));
    let curl = |arguments: &[&str]| {
        let output = Command::new("curl").args(["-sS", "--noproxy", "*"]).args(arguments).output().unwrap();
        serde_json::from_slice::<Value>(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
    };
    let url = |path: &str| format!("{}{path}", keygate.admin);
    for (index, kind) in ["", "content-type: text/plain", "content-type: multipart/form-data"].iter().enumerate() {
        let body = import().replace(RAW_KEY, &format!("{RAW_KEY}-{index}"));
        let imported = curl(&["-d", &body, "-H", kind, &url(IMPORT)]);
        assert_eq!(imported["actor_id"], "a", "{imported}");
    }
    let named = url(LIST).replace("127.0.0.1", "localhost");
    assert_eq!(curl(&[&named])["issued_api_keys"], json!([]));
    let refused = curl(&["-H", "Host: evil.example", &url(LIST)]);
    assert_eq!(refused["error"]["code"], 403, "{refused}");
    assert_eq!(curl(&["-H", "Host: evil.example", &url("/health/ready")])["status"], "ok");
    let own = Keygate::serve_admin(&json!({"serve": {"http": {"allowed_hosts": ["keygate.internal"]}}}));
    assert_eq!(
        curl(&["-H", "Host: keygate.internal:4420", &format!("{}{LIST}", own.admin)])["issued_api_keys"],
        json!([])
    );
}
