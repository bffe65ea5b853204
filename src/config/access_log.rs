//! `gateway.access_log`: which requests are logged, and which fields a line has.

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::problems::Problems;
use super::telemetry::LogFormat;
use super::template::{TemplateError, TemplatePart, parse_parts};

/// The value of `output` for lines among the other ones of the log.
const IN_LOG: &str = "log";
/// The value of `output` for the standard output.
const STDOUT: &str = "stdout";

/// The access log of the gateway, of external authorization and of the Tower layer. It does not depend on `log.level`.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AccessLogConfig {
    /// Whether requests are logged.
    pub enabled: bool,
    /// The fraction of requests that are logged, 0 to 1. Responses with a status of 500 or more are always logged.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub sample_rate: f64,
    /// The fields of a line. A field without a value is left out.
    pub fields: Vec<AccessLogField>,
    /// Where lines are written: `log` (among the other lines of the log), `stdout`, or the path of a file. A file is opened again at
    /// SIGUSR1, after it was renamed.
    pub output: String,
    /// The format of lines on an output of their own; that of `log.format` if absent.
    pub format: Option<LogFormat>,
    /// Lines of another form on an output of their own, for example `${peer} "${method} ${path}" ${status}`: the variables are `time` and
    /// the names of fields. A field without a value is `-`.
    pub template: Option<String>,
}

/// Where the lines of an access log are written, if they have an output of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessLogOutput<'c> {
    /// The standard output.
    Stdout,
    /// A file.
    File(&'c Path),
}

/// The form of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessLogForm {
    /// One of the formats of the log.
    Format(LogFormat),
    /// The parts of a template.
    Template(Vec<TemplatePart<AccessLogVariable>>),
}

/// A variable of the template of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessLogVariable {
    /// `time`: when the line is written.
    Time,
    /// A field of the line.
    Field(AccessLogField),
}

/// A field of an access-log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AccessLogField {
    /// Id of the request.
    RequestId,
    /// Method.
    Method,
    /// Host that the client requested.
    Host,
    /// Path as received, without the query.
    Path,
    /// Protocol that the client used, for example `HTTP/1.1`.
    Protocol,
    /// Status of the response; 499 if the client closed the connection before it.
    Status,
    /// Bytes of the response body that were sent.
    Bytes,
    /// Bytes of the request body that were received.
    BytesReceived,
    /// Time from the request head to the end of the response, in microseconds.
    DurationUs,
    /// Name of the route.
    Route,
    /// Name of the upstream.
    Upstream,
    /// Endpoint of the upstream that sent the response, or was tried last.
    Endpoint,
    /// Time from the first attempt at the upstream to the end of its response, in microseconds.
    UpstreamUs,
    /// Number of attempts at the upstream.
    Attempts,
    /// Whether the upstream broke off its response.
    Truncated,
    /// Id of the key.
    KeyId,
    /// Code of the rejection.
    Denial,
    /// Address of the client.
    Peer,
    /// Address of the proxy in front of the gateway, if there is one.
    Proxy,
    /// `User-Agent` of the client, at most 256 bytes.
    UserAgent,
    /// Id of the trace: that of the client's `traceparent`, or of the trace that the request begins (`tracing.enabled`).
    TraceId,
}

impl AccessLogField {
    /// All fields, in the order of a line.
    pub const ALL: [Self; 21] = [
        Self::RequestId,
        Self::Method,
        Self::Host,
        Self::Path,
        Self::Protocol,
        Self::Status,
        Self::Bytes,
        Self::BytesReceived,
        Self::DurationUs,
        Self::Route,
        Self::Upstream,
        Self::Endpoint,
        Self::UpstreamUs,
        Self::Attempts,
        Self::Truncated,
        Self::KeyId,
        Self::Denial,
        Self::Peer,
        Self::Proxy,
        Self::UserAgent,
        Self::TraceId,
    ];
}

impl Default for AccessLogConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            sample_rate: 1.0,
            fields: AccessLogField::ALL.to_vec(),
            output: IN_LOG.into(),
            format: None,
            template: None,
        }
    }
}

impl AccessLogField {
    /// The name, in the configuration and in a line.
    pub fn name(self) -> &'static str {
        match self {
            Self::RequestId => "request_id",
            Self::Method => "method",
            Self::Host => "host",
            Self::Path => "path",
            Self::Protocol => "protocol",
            Self::Status => "status",
            Self::Bytes => "bytes",
            Self::BytesReceived => "bytes_received",
            Self::DurationUs => "duration_us",
            Self::Route => "route",
            Self::Upstream => "upstream",
            Self::Endpoint => "endpoint",
            Self::UpstreamUs => "upstream_us",
            Self::Attempts => "attempts",
            Self::Truncated => "truncated",
            Self::KeyId => "key_id",
            Self::Denial => "denial",
            Self::Peer => "peer",
            Self::Proxy => "proxy",
            Self::UserAgent => "user_agent",
            Self::TraceId => "trace_id",
        }
    }
}

impl AccessLogConfig {
    /// The output of lines; `None` if they are not written, or are among the other lines of the log.
    pub fn own_output(&self) -> Option<AccessLogOutput<'_>> {
        match &*self.output {
            _ if !self.enabled => None,
            IN_LOG => None,
            STDOUT => Some(AccessLogOutput::Stdout),
            path => Some(AccessLogOutput::File(Path::new(path))),
        }
    }

    /// The form of lines on an output of their own. `format` is that of the log.
    ///
    /// # Errors
    /// If `template` is no template.
    pub fn form(&self, format: LogFormat) -> Result<AccessLogForm, TemplateError> {
        match &self.template {
            Some(text) => parse_parts(text, AccessLogVariable::parse).map(AccessLogForm::Template),
            None => Ok(AccessLogForm::Format(self.format.unwrap_or(format))),
        }
    }

    pub(super) fn validate(&self, path: &str, problems: &mut Problems) {
        if self.enabled && self.fields.is_empty() {
            problems.add(&format!("{path}.fields"), "must name a field; to log nothing, set enabled to false");
        }
        if self.output.trim().is_empty() {
            problems.add(&format!("{path}.output"), "must be log, stdout or the path of a file");
        }
        for (name, is_set) in [("format", self.format.is_some()), ("template", self.template.is_some())] {
            if is_set && self.output == IN_LOG {
                problems.add(
                    &format!("{path}.{name}"),
                    "has no effect on lines in the log, whose format is log.format; set output to stdout or to the path of a file",
                );
            }
        }
        if self.format.is_some() && self.template.is_some() {
            problems.add_first(&format!("{path}.template"), "excludes format; remove one of them");
        }
        match self.form(LogFormat::Json) {
            Ok(_) => {}
            Err(TemplateError::Unknown) => problems.add_first(
                &format!("{path}.template"),
                "has an unknown variable; use time or the name of a field, such as status, and $${ for the text ${",
            ),
            Err(error) => problems.add_first(&format!("{path}.template"), &error.to_string()),
        }
    }
}

impl AccessLogVariable {
    fn parse(name: &str) -> Option<Self> {
        if name == "time" {
            return Some(Self::Time);
        }
        AccessLogField::ALL.into_iter().find(|field| field.name() == name).map(Self::Field)
    }
}

#[cfg(test)]
mod tests {
    use super::super::problems::problem_paths;
    use super::*;

    #[test]
    fn names_of_fields_are_those_of_the_configuration() {
        for field in AccessLogField::ALL {
            assert_eq!(serde_json::to_value(field).unwrap(), field.name());
        }
    }

    #[test]
    fn template_consists_of_fields_and_texts() {
        let config = AccessLogConfig { template: Some("${time} ${status}".into()), ..AccessLogConfig::default() };
        let variable = TemplatePart::Variable;
        let parts = vec![
            variable(AccessLogVariable::Time),
            TemplatePart::Text(" ".into()),
            variable(AccessLogVariable::Field(AccessLogField::Status)),
        ];
        assert_eq!(config.form(LogFormat::Json), Ok(AccessLogForm::Template(parts)));
    }

    #[test]
    fn unusable_settings_are_rejected() {
        for (text, expected) in [
            ("{}", &[][..]),
            ("{ output: stdout, format: text }", &[]),
            ("{ output: /var/log/keygate/access.log, template: '${status}' }", &[]),
            ("{ output: '' }", &["a.output"]),
            ("{ format: text, template: '${status}' }", &["a.format", "a.template"]),
            ("{ output: stdout, format: text, template: '${status}' }", &["a.template"]),
            ("{ output: stdout, template: '${cookie}' }", &["a.template"]),
            ("{ output: stdout, template: '${status' }", &["a.template"]),
            ("{ fields: [] }", &["a.fields"]),
        ] {
            let validate = |config: &AccessLogConfig, problems: &mut Problems| config.validate("a", problems);
            assert_eq!(problem_paths(text, validate), expected, "{text}");
        }
    }
}
