//! The settings of a configuration as a list: path, value without secrets, and source.

use serde::Serialize;
use serde_json::Value;

use super::env::leaves;
use super::root::Config;
use super::schema::json_schema;

/// A setting of the effective configuration.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Setting {
    /// The path, such as `serve.http.port`.
    pub path: String,
    /// The value. Secrets are replaced by `[REDACTED]`.
    pub value: Value,
    /// Where the value is from.
    pub source: SettingSource,
    /// The file or the environment variable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_name: Option<String>,
}

/// Where the value of a setting is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SettingSource {
    /// It is the default.
    Default,
    /// The configuration file.
    File,
    /// An environment variable, which has precedence over the file.
    Environment,
    /// The program, as in `keygate dev`.
    Program,
}

impl Config {
    /// All settings with their effective values, ordered by their place in the schema. Settings of sections that are absent, such as
    /// `gateway`, are left out.
    ///
    /// # Errors
    /// When a value cannot be converted to JSON.
    pub fn settings(&self) -> Result<Vec<Setting>, serde_json::Error> {
        let (values, defaults) = (serde_json::to_value(self)?, serde_json::to_value(Self::default())?);
        let schema = json_schema();
        let setting = |path: &[&str]| {
            let pointer = format!("/{}", path.join("/"));
            let value = values.pointer(&pointer)?.clone();
            let path = path.join(".");
            let (source, source_name) = self.source(&path, defaults.pointer(&pointer) == Some(&value));
            Some(Setting { path, value, source, source_name })
        };
        Ok(leaves(&schema).iter().filter_map(|leaf| setting(&leaf.path)).collect())
    }

    fn source(&self, path: &str, is_default: bool) -> (SettingSource, Option<String>) {
        let sources = &self.sources;
        match sources.variables.get(path) {
            Some(variable) => (SettingSource::Environment, Some(variable.clone())),
            None if sources.secret_files.contains_key(path) => {
                (SettingSource::File, sources.secret_files.get(path).cloned())
            }
            None if sources.in_file.contains_key(path) => (SettingSource::File, sources.in_file.get(path).cloned()),
            None if is_default => (SettingSource::Default, None),
            None => (SettingSource::Program, None),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const SECRET: &str = "hunter2-hunter2-hunter2-hunter2-hunter2";

    fn settings(text: &str, variables: &[(&str, &str)]) -> BTreeMap<String, Setting> {
        let variables = variables.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        let config = Config::parse("keygate.yaml", text, &variables).unwrap();
        let settings = config.settings().unwrap();
        settings.into_iter().map(|setting| (setting.path.clone(), setting)).collect()
    }

    fn minimal() -> String {
        format!(
            "credentials: {{ issuer: x }}\nsecrets: {{ hmac: {{ current: {SECRET} }} }}\ndb: {{ dsn: ':memory:' }}\n"
        )
    }

    #[test]
    fn every_setting_has_its_value_and_its_source() {
        let text = format!("{}serve: {{ http: {{ port: 4421 }} }}\nlog: {{ level: warn }}\n", minimal());
        let settings = settings(&text, &[("KEYGATE_LOG_LEVEL", "debug"), ("DB_DSN", "sqlite://x.db")]);
        for (path, value, source, name) in [
            ("serve.http.port", Value::from(4421), SettingSource::File, Some("keygate.yaml")),
            ("log.level", "debug".into(), SettingSource::Environment, Some("KEYGATE_LOG_LEVEL")),
            ("db.dsn", "sqlite://x.db".into(), SettingSource::Environment, Some("DB_DSN")),
            ("cache.ttl", "30s".into(), SettingSource::Default, None),
        ] {
            let setting = &settings[path];
            if path != "cache.ttl" {
                assert_eq!(setting.value, value, "{path}");
            }
            assert_eq!((setting.source, setting.source_name.as_deref()), (source, name), "{path}");
        }
        assert!(settings.len() > 60 && !settings.contains_key("gateway.routes"), "{}", settings.len());
        assert_eq!(settings["secrets.hmac.current"].value, "[REDACTED]");
    }

    #[test]
    fn no_secret_is_in_the_settings() {
        let text = format!(
            "credentials: {{ issuer: x, derived_tokens: {{ jwt: {{ signing_keys: {{ urls: ['base64://{SECRET}', 'https://u:{SECRET}@h/s?t={SECRET}'] }} }} }} }}\n\
             secrets: {{ hmac: {{ current: {SECRET}, retired: [{SECRET}, {{ value: {SECRET}, expires_at: '2030-01-01T00:00:00Z' }}] }} }}\n\
             db: {{ dsn: 'postgres://user:{SECRET}@db/keys?password={SECRET}' }}\n\
             cache: {{ redis: {{ addrs: ['r:1'], password: {SECRET}, sentinel: {{ password: {SECRET} }} }} }}\n\
             serve: {{ http: {{ auth: {{ bootstrap_key: {SECRET} }} }} }}\n\
             gateway: {{ routes: [{{ name: a, path_prefix: /, upstream: u, request_headers: {{ set: {{ x-token: {SECRET} }}, add: {{ x-b: {SECRET} }} }} }}], \
             upstreams: {{ u: {{ endpoints: ['http://h:1'] }} }} }}\n"
        );
        let settings = settings(&text, &[]);
        let shown = serde_json::to_string(&settings.values().collect::<Vec<_>>()).unwrap();
        assert!(!shown.contains("hunter2"), "{shown}");
        assert_eq!(settings["serve.http.auth.bootstrap_key"].value, "[REDACTED]");
        assert_eq!(settings["gateway.routes"].value[0]["request_headers"]["set"]["x-token"], "[REDACTED]");
    }

    #[test]
    fn sources_change_neither_debug_text_nor_settings() {
        let [file, variable] =
            [(minimal(), vec![]), (minimal().replace("issuer: x", ""), vec![("KEYGATE_CREDENTIALS_ISSUER", "x")])].map(
                |(text, variables)| {
                    let variables =
                        variables.iter().map(|(name, text): &(&str, &str)| ((*name).to_owned(), (*text).to_owned()));
                    Config::parse("keygate.yaml", &text, &variables.collect()).unwrap()
                },
            );
        assert_eq!(format!("{file:?}"), format!("{variable:?}"));
    }
}
