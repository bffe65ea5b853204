//! The effective configuration of this node, without secrets.

use askama::Template;
use axum::response::Response;
use serde::Deserialize;
use serde_json::Value;

use crate::admin::console::failure::Failure;
use crate::admin::console::fields::Fields;
use crate::admin::console::page::{Page, Section, html};
use crate::admin::console::signed_in::SignedIn;
use crate::admin::console::time::Moment;
use crate::clock::Timestamp;

#[derive(Template)]
#[template(path = "console/configuration.html")]
struct ConfigurationPage {
    page: Page,
    node_id: String,
    /// The hash of all settings.
    hash: String,
    version: Version,
    /// `None` if the configuration is not reloaded.
    reload: Option<Reload>,
    groups: Vec<Group>,
    /// The text that paths must contain.
    query: String,
    /// Whether settings with their default are shown.
    is_all: bool,
}

/// The settings of a section.
struct Group {
    name: String,
    settings: Vec<Shown>,
}

/// A setting with its value as a text.
struct Shown {
    path: String,
    value: String,
    is_long: bool,
    source: String,
}

#[derive(Deserialize)]
struct Config {
    node_id: String,
    #[serde(rename = "config_hash")]
    hash: String,
    settings: Vec<Setting>,
}

#[derive(Deserialize)]
struct Setting {
    path: String,
    value: Value,
    source: String,
    source_name: Option<String>,
}

/// The state of the configuration.
struct Reload {
    is_loaded: bool,
    loaded: Moment,
    /// The number of changed settings that wait for a restart.
    waiting: u64,
}

#[derive(Deserialize)]
struct Overview {
    node: NodeState,
}

#[derive(Deserialize)]
struct NodeState {
    config: Option<ConfigState>,
}

#[derive(Deserialize)]
struct ConfigState {
    is_loaded: bool,
    load_time: f64,
    restart_settings: f64,
}

#[derive(Deserialize)]
struct Version {
    version: String,
    #[serde(default)]
    commit: String,
}

/// Shows the settings: those that are not the default, unless all are asked for.
pub(super) async fn show(who: SignedIn, fields: Fields) -> Result<Response, Failure> {
    let (config, version, overview) = tokio::join!(
        who.api.get::<Config>("/keygate/v1/config"),
        who.api.get::<Version>("/version"),
        who.api.get::<Overview>("/keygate/v1/overview")
    );
    let reload = overview?.node.config.map(|state| Reload::new(&state, who.now));
    let Config { node_id, hash, settings } = config?;
    let (query, is_all) = (fields.text("q").to_lowercase(), fields.text("all") == "yes");
    let mut groups: Vec<Group> = Vec::new();
    let is_shown = |setting: &Setting| (is_all || setting.source != "default") && setting.path.contains(&query);
    for setting in settings.into_iter().filter(is_shown) {
        let section = setting.path.split('.').next().unwrap_or_default().to_owned();
        let shown = Shown::new(setting);
        match groups.iter_mut().find(|group| group.name == section) {
            Some(group) => group.settings.push(shown),
            None => groups.push(Group { name: section, settings: vec![shown] }),
        }
    }
    let page = who.page(Section::Configuration, "Configuration");
    Ok(html(&ConfigurationPage { page, node_id, hash, version: version?, reload, groups, query, is_all }))
}

impl Reload {
    fn new(state: &ConfigState, now: Timestamp) -> Self {
        // Gauges are whole numbers.
        let whole = |number: f64| format!("{number:.0}").parse().unwrap_or_default();
        let seconds = i64::try_from(whole(state.load_time)).unwrap_or_default();
        let loaded = Timestamp::from_timestamp(seconds, 0).unwrap_or_default();
        let (is_loaded, waiting) = (state.is_loaded, whole(state.restart_settings));
        Self { is_loaded, loaded: Moment::new(loaded, now), waiting }
    }
}

impl Shown {
    fn new(setting: Setting) -> Self {
        let value = match &setting.value {
            Value::String(text) => text.clone(),
            Value::Array(_) | Value::Object(_) => format!("{:#}", setting.value),
            value => value.to_string(),
        };
        let source = match (setting.source.as_str(), setting.source_name) {
            ("default", _) => "default".to_owned(),
            (_, Some(name)) => name,
            (source, None) => source.to_owned(),
        };
        Self { path: setting.path, is_long: value.contains('\n'), value, source }
    }
}
