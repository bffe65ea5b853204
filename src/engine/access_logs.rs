//! The outputs of the access log. An output stays open as long as a configuration uses it.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::error::EngineError;
use crate::config::{AccessLogForm, AccessLogOutput, Config};
use crate::pipeline::AccessLogSink;
use crate::telemetry::LogOutput;

const SETTING: &str = "gateway.access_log.output";

/// The outputs that are in use.
#[derive(Default)]
pub(super) struct AccessLogs {
    outputs: Mutex<Vec<(Output, Weak<LogOutput>)>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Output {
    Stdout,
    File(PathBuf),
}

impl AccessLogs {
    /// The output and the form of lines of a configuration; `None` if lines are not written, or are events of `tracing`
    /// for a subscriber that is not Keygate's.
    ///
    /// # Errors
    /// [`EngineError::Setting`] if the output cannot be opened.
    pub(super) fn sink(&self, config: &Config) -> Result<Option<AccessLogSink>, EngineError> {
        let Some(access_log) = config.gateway.as_ref().map(|gateway| &gateway.access_log) else { return Ok(None) };
        let Some(output) = access_log.own_output() else {
            let sink = |output| AccessLogSink {
                output,
                form: Arc::new(AccessLogForm::Format(config.log.format)),
                is_process_log: true,
            };
            return Ok(LogOutput::of_process().map(sink));
        };
        let form = access_log.form(config.log.format);
        let form = form.map_err(|why| EngineError::Setting(format!("gateway.access_log.template: {why}")))?;
        let output = match output {
            AccessLogOutput::Stdout => Output::Stdout,
            AccessLogOutput::File(path) => Output::File(path.to_owned()),
        };
        Ok(Some(AccessLogSink { output: self.open(output)?, form: Arc::new(form), is_process_log: false }))
    }

    fn open(&self, output: Output) -> Result<Arc<LogOutput>, EngineError> {
        let mut outputs = self.outputs.lock().unwrap_or_else(PoisonError::into_inner);
        outputs.retain(|(_, open)| open.strong_count() > 0);
        let open = outputs.iter().find(|(other, _)| *other == output).and_then(|(_, open)| open.upgrade());
        if let Some(open) = open {
            return Ok(open);
        }
        let opened = match &output {
            Output::Stdout => LogOutput::stdout(),
            Output::File(path) => LogOutput::file(path),
        };
        let opened = opened.map_err(|error| EngineError::Setting(format!("{SETTING} cannot be opened: {error}")))?;
        let opened = Arc::new(opened);
        outputs.push((output, Arc::downgrade(&opened)));
        Ok(opened)
    }

    /// Opens the files again, after they were renamed.
    #[cfg(feature = "server")]
    pub(super) fn reopen(&self) {
        self.each(|output| match output.reopen() {
            Ok(()) => tracing::info!("the output of the access log was opened again"),
            Err(error) => tracing::error!(
                "{SETTING} cannot be opened again: {error}; lines go to the file that was open, correct its folder and send SIGUSR1 again"
            ),
        });
    }

    /// Writes all buffered lines.
    pub(super) fn flush(&self) {
        self.each(LogOutput::flush);
    }

    fn each(&self, act: impl Fn(&LogOutput)) {
        let outputs = self.outputs.lock().unwrap_or_else(PoisonError::into_inner).clone();
        outputs.iter().filter_map(|(_, output)| output.upgrade()).for_each(|output| act(&output));
    }
}
