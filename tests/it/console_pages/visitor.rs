//! A browser without a script: pages, links and forms of the console by plain HTTP, with a cookie.

use reqwest::header::{COOKIE, HeaderMap, LOCATION, SET_COOKIE};
use reqwest::redirect::Policy;
use reqwest::{Client, RequestBuilder};

use crate::support::keygate::Keygate;

/// A person with a browser that runs no script.
pub(crate) struct Visitor {
    http: Client,
    base: String,
    /// The cookie; empty for none.
    pub(crate) cookie: String,
}

/// A page as it was received.
#[derive(Debug)]
pub(crate) struct PageSeen {
    pub(crate) status: u16,
    /// The path, after redirects.
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) html: String,
}

impl Visitor {
    pub(crate) fn new(keygate: &Keygate) -> Self {
        let http = Client::builder().redirect(Policy::none()).build().unwrap();
        Self { http, base: keygate.admin.clone(), cookie: String::new() }
    }

    /// A person who has signed in with an admin key.
    pub(crate) async fn signed_in(keygate: &Keygate, key: &str) -> Self {
        let mut visitor = Self::new(keygate);
        let form = visitor.get("/console/sign-in").await;
        let page = visitor.submit(&form, "/console/sign-in", &[("admin_key", key)]).await;
        assert_eq!((page.status, page.path.as_str()), (200, "/console/"), "{}", page.html);
        visitor
    }

    /// Opens a page and follows redirects.
    pub(crate) async fn get(&mut self, path: &str) -> PageSeen {
        let request = self.http.get(format!("{}{path}", self.base));
        self.follow(path, request).await
    }

    /// Sends the form of a page that has this action: its hidden fields and choices that are checked, and more fields.
    pub(crate) async fn submit(&mut self, page: &PageSeen, action: &str, fields: &[(&str, &str)]) -> PageSeen {
        let mut all = page.hidden_fields(action);
        all.extend(fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        self.post(action, &all).await
    }

    /// Sends a form with exactly these fields.
    pub(crate) async fn post(&mut self, action: &str, fields: &[(String, String)]) -> PageSeen {
        let body = encode(fields);
        let request = self.http.post(format!("{}{action}", self.base)).body(body);
        self.follow(action, request.header("content-type", "application/x-www-form-urlencoded")).await
    }

    /// Sends a form as `multipart/form-data`.
    pub(crate) async fn upload(&mut self, page: &PageSeen, action: &str, (field, file): (&str, &str)) -> PageSeen {
        let part = |(name, value): (String, String)| {
            format!("--xyz\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
        };
        let fields = page.hidden_fields(action).into_iter().chain([(field.to_owned(), file.to_owned())]);
        let parts: Vec<_> = fields.map(part).collect();
        let request = self.http.post(format!("{}{action}", self.base)).body(parts.concat() + "--xyz--\r\n");
        self.follow(action, request.header("content-type", "multipart/form-data; boundary=xyz")).await
    }

    /// A request with the cookie.
    pub(crate) fn request(&self, operation: &str) -> RequestBuilder {
        let (method, path) = operation.split_once(' ').unwrap();
        let request = self.http.request(method.parse().unwrap(), format!("{}{path}", self.base));
        if self.cookie.is_empty() { request } else { request.header(COOKIE, &self.cookie) }
    }

    async fn follow(&mut self, path: &str, request: RequestBuilder) -> PageSeen {
        let mut path = path.to_owned();
        let mut request = request;
        for _ in 0..5 {
            if !self.cookie.is_empty() {
                request = request.header(COOKIE, &self.cookie);
            }
            let response = request.send().await.unwrap();
            let headers = response.headers().clone();
            for cookie in headers.get_all(SET_COOKIE) {
                let pair = cookie.to_str().unwrap().split(';').next().unwrap();
                self.cookie = if pair.ends_with('=') { String::new() } else { pair.to_owned() };
            }
            let Some(location) = headers.get(LOCATION) else {
                let status = response.status().as_u16();
                return PageSeen { status, path, headers, html: response.text().await.unwrap() };
            };
            path = location.to_str().unwrap().to_owned();
            request = self.http.get(format!("{}{path}", self.base));
        }
        panic!("{path} redirects too often");
    }
}

impl PageSeen {
    /// The form with an action.
    fn form(&self, action: &str) -> &str {
        let forms = self.html.split("<form ").skip(1).filter_map(|rest| rest.split("</form>").next());
        let is_meant = |form: &&str| form.contains("method=\"post\"") && form.contains(&format!("action=\"{action}\""));
        forms.into_iter().find(is_meant).unwrap_or_else(|| panic!("{} has no form {action}: {}", self.path, self.html))
    }

    /// The names and the values of the hidden fields of a form.
    pub(crate) fn hidden_fields(&self, action: &str) -> Vec<(String, String)> {
        let inputs = self.form(action).split("<input ").skip(1).filter(|input| input.starts_with("type=\"hidden\""));
        inputs.map(|input| (attribute(input, "name"), attribute(input, "value"))).collect()
    }

    /// The text of the element with an id, without marks.
    pub(crate) fn text(&self, id: &str) -> String {
        let start = self.html.split(&format!("id=\"{id}\"")).nth(1).unwrap_or_else(|| panic!("no {id}: {}", self.html));
        unescape(start.split_once('>').unwrap().1.split("</").next().unwrap().trim())
    }

    /// The target of the link with a text.
    pub(crate) fn link(&self, text: &str) -> String {
        let before = self.html.split(&format!(">{text}</a>")).next().unwrap();
        assert!(before.len() < self.html.len(), "no link {text}: {}", self.html);
        attribute(before.rsplit("<a ").next().unwrap(), "href")
    }
}

fn attribute(tag: &str, name: &str) -> String {
    let value = tag.split(&format!("{name}=\"")).nth(1).unwrap_or_else(|| panic!("no {name}: {tag}"));
    unescape(value.split('"').next().unwrap())
}

fn unescape(text: &str) -> String {
    let entities = [("&#34;", "\""), ("&#39;", "'"), ("&#60;", "<"), ("&#62;", ">"), ("&#38;", "&")];
    entities.iter().fold(text.to_owned(), |text, (entity, character)| text.replace(entity, character))
}

/// Fields in the form of `application/x-www-form-urlencoded`.
pub(super) fn encode(fields: &[(String, String)]) -> String {
    let encode = |text: &str| {
        let byte = |byte: u8| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        };
        text.bytes().map(byte).collect::<String>()
    };
    fields.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect::<Vec<_>>().join("&")
}
