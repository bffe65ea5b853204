//! Writes sealed rows as JSON lines.

use std::io::{self, Write};
use std::path::PathBuf;

use crate::audit::{AuditRow, to_json};

/// Where sealed rows are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// The standard output.
    Stdout,
    /// A file, which is opened for each write, so that it can be renamed at any time.
    File(PathBuf),
}

impl Output {
    /// Appends one line for each row.
    ///
    /// # Errors
    /// The error of the file; a part of the lines may be written.
    pub(super) async fn write(&self, rows: &[AuditRow]) -> io::Result<()> {
        let text: String = rows.iter().flat_map(|row| [to_json(row).to_string(), "\n".to_owned()]).collect();
        let output = self.clone();
        let written = tokio::task::spawn_blocking(move || output.append(&text)).await;
        written.unwrap_or_else(|_| Err(io::Error::other("the write was cancelled")))
    }

    fn append(&self, text: &str) -> io::Result<()> {
        match self {
            Self::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush())
            }
            Self::File(path) => {
                let mut options = std::fs::OpenOptions::new();
                options.create(true).append(true);
                // The rows name keys, actors and addresses.
                #[cfg(unix)]
                std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
                options.open(path)?.write_all(text.as_bytes())
            }
        }
    }
}
