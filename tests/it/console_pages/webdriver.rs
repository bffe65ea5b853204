//! A real browser that a test controls: Chromium, by chromedriver (W3C standard `WebDriver`).

use std::process::{Command, Stdio};

use keygate_test_servers::{Process, free_port};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::wait::wait_for;

/// The name of the member that identifies an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A browser with one window. It ends on drop, after [`WebDriver::quit`] or with the process of chromedriver.
pub(crate) struct WebDriver {
    http: Client,
    session: String,
    _process: Process,
    _folder: TempDir,
}

impl WebDriver {
    /// Starts a browser; `None` if chromedriver or chromium is not installed.
    pub(crate) async fn start() -> Option<Self> {
        let folder = TempDir::new().unwrap();
        let port = free_port();
        let mut command = Command::new("chromedriver");
        command.arg(format!("--port={port}")).env("HOME", folder.path()).stdout(Stdio::null()).stderr(Stdio::null());
        if Command::new("chromedriver").arg("--version").stdout(Stdio::null()).status().is_err() {
            eprintln!("SKIPPED: chromedriver cannot be started; deploy/ci/ensure.sh test installs it");
            return None;
        }
        let process = Process::start(&mut command);
        let http = Client::builder().no_proxy().build().unwrap();
        let base = format!("http://127.0.0.1:{port}");
        wait_for(async || http.get(format!("{base}/status")).send().await.map_err(|error| error.to_string())).await;
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--no-proxy-server",
            "--force-device-scale-factor=1",
            "--hide-scrollbars",
            &format!("--user-data-dir={}", folder.path().join("profile").display()),
        ];
        let capabilities = json!({"capabilities": {"alwaysMatch": {
            "goog:chromeOptions": {"args": arguments}, "goog:loggingPrefs": {"browser": "ALL"}}}});
        let response = http.post(format!("{base}/session")).body(capabilities.to_string()).send().await.unwrap();
        let body: Value = response.json().await.unwrap();
        let id = body["value"]["sessionId"].as_str().unwrap_or_else(|| panic!("{body}"));
        let session = format!("{base}/session/{id}");
        Some(Self { http, session, _process: process, _folder: folder })
    }

    /// Opens a page.
    pub(crate) async fn open(&self, url: &str) {
        self.call(Method::POST, "/url", json!({"url": url})).await;
    }

    /// The address of the page.
    pub(crate) async fn url(&self) -> String {
        self.call(Method::GET, "/url", Value::Null).await.as_str().unwrap().to_owned()
    }

    /// The element that a CSS selector finds, once it is on the page.
    pub(crate) async fn find(&self, selector: &str) -> String {
        self.element("css selector", selector).await
    }

    /// Clicks the button or the link with a text.
    pub(crate) async fn press(&self, text: &str) {
        let path = format!("//*[self::a or self::button or self::summary][normalize-space()='{text}']");
        let element = self.element("xpath", &path).await;
        self.call(Method::POST, &format!("/element/{element}/click"), json!({})).await;
    }

    /// Clicks the element that a CSS selector finds.
    pub(crate) async fn click(&self, selector: &str) {
        let element = self.find(selector).await;
        self.call(Method::POST, &format!("/element/{element}/click"), json!({})).await;
    }

    /// Types a text into a field, in place of what is in it.
    pub(crate) async fn fill(&self, selector: &str, text: &str) {
        let element = self.find(selector).await;
        self.call(Method::POST, &format!("/element/{element}/clear"), json!({})).await;
        self.call(Method::POST, &format!("/element/{element}/value"), json!({"text": text})).await;
    }

    /// Waits until the page shows a text.
    pub(crate) async fn wait_for_text(&self, text: &str) {
        wait_for(async || match self.text("body").await {
            shown if shown.contains(text) => Ok(()),
            shown => Err(format!("no {text:?} on the page: {shown}")),
        })
        .await;
    }

    /// The text that an element shows.
    pub(crate) async fn text(&self, selector: &str) -> String {
        let script = "const element = document.querySelector(arguments[0]); return element ? element.innerText : '';";
        self.run(script, json!([selector])).await.as_str().unwrap_or_default().trim().to_owned()
    }

    /// The result of a script.
    pub(crate) async fn run(&self, script: &str, arguments: Value) -> Value {
        self.call(Method::POST, "/execute/sync", json!({"script": script, "args": arguments})).await
    }

    /// The result that an asynchronous script passes to its last argument.
    pub(crate) async fn run_async(&self, script: &str) -> Value {
        self.call(Method::POST, "/execute/async", json!({"script": script, "args": []})).await
    }

    /// Calls a command of the protocol of the developer tools.
    pub(crate) async fn devtools(&self, command: &str, parameters: Value) -> Value {
        self.call(Method::POST, "/goog/cdp/execute", json!({"cmd": command, "params": parameters})).await
    }

    /// The messages of the console of the browser since the last call, of errors and warnings.
    pub(crate) async fn complaints(&self) -> Vec<String> {
        let log = self.call(Method::POST, "/se/log", json!({"type": "browser"})).await;
        let entries = log.as_array().cloned().unwrap_or_default();
        entries.iter().map(|entry| entry["message"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// A picture of the page as PNG.
    pub(crate) async fn screenshot(&self) -> Vec<u8> {
        use base64::Engine;
        let parameters = json!({"format": "png", "captureBeyondViewport": false});
        let picture = self.devtools("Page.captureScreenshot", parameters).await;
        base64::engine::general_purpose::STANDARD.decode(picture["data"].as_str().unwrap()).unwrap()
    }

    /// Ends the browser.
    pub(crate) async fn quit(self) {
        self.call(Method::DELETE, "", Value::Null).await;
    }

    async fn element(&self, using: &str, value: &str) -> String {
        let body = json!({"using": using, "value": value});
        let found = wait_for(async || match self.try_call(Method::POST, "/element", body.clone()).await {
            Ok(found) => Ok(found),
            Err(error) => Err(format!("no {value}: {error}: {}", self.text("body").await)),
        });
        found.await[ELEMENT].as_str().unwrap().to_owned()
    }

    async fn call(&self, method: Method, path: &str, body: Value) -> Value {
        let result = self.try_call(method, path, body).await;
        result.unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    async fn try_call(&self, method: Method, path: &str, body: Value) -> Result<Value, String> {
        let request = self.http.request(method.clone(), format!("{}{path}", self.session));
        let request = if method == Method::POST { request.body(body.to_string()) } else { request };
        let response = request.send().await.map_err(|error| error.to_string())?;
        let is_success = response.status().is_success();
        let mut body: Value = response.json().await.map_err(|error| error.to_string())?;
        let value = body["value"].take();
        if is_success { Ok(value) } else { Err(value["message"].as_str().unwrap_or_default().to_owned()) }
    }
}
