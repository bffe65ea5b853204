//! An output of log lines: the log of the process, the standard output, or a file that can be opened again.

use std::fs::{File, OpenOptions};
use std::io::{self, Stderr, Stdout, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use super::buffered_writer::BufferedWriter;

/// An output of log lines. Lines are written in batches within 50 ms. Dropping it writes all buffered lines.
pub struct LogOutput {
    writer: BufferedWriter<Target>,
}

/// The output of the log of the process, once it is installed.
static PROCESS_LOG: OnceLock<Arc<LogOutput>> = OnceLock::new();

pub(super) enum Target {
    #[cfg_attr(not(feature = "server"), expect(dead_code, reason = "a library does not start a log"))]
    Stderr(Stderr),
    Stdout(Stdout),
    File {
        file: File,
        path: PathBuf,
    },
}

impl LogOutput {
    /// The output of the log of the process; `None` if the log is that of another subscriber of `tracing`.
    pub fn of_process() -> Option<Arc<Self>> {
        PROCESS_LOG.get().cloned()
    }

    /// Makes this the output of the log of the process, unless there is one.
    #[cfg(feature = "server")]
    pub(super) fn set_of_process(self: &Arc<Self>) {
        let _ = PROCESS_LOG.set(Arc::clone(self));
    }

    /// The standard error.
    ///
    /// # Errors
    /// If the writer's thread cannot be started.
    #[cfg(feature = "server")]
    pub(super) fn stderr() -> io::Result<Self> {
        Ok(Self { writer: BufferedWriter::start(Target::Stderr(io::stderr()))? })
    }

    /// The writer of lines that are formatted elsewhere.
    #[cfg(feature = "server")]
    pub(super) fn writer(&self) -> &BufferedWriter<Target> {
        &self.writer
    }

    /// The standard output.
    ///
    /// # Errors
    /// If the writer's thread cannot be started.
    pub fn stdout() -> io::Result<Self> {
        Ok(Self { writer: BufferedWriter::start(Target::Stdout(io::stdout()))? })
    }

    /// A file, to which lines are appended. It is created with mode 0640 if there is none.
    ///
    /// # Errors
    /// If the file cannot be opened, or the writer's thread cannot be started.
    pub fn file(path: &Path) -> io::Result<Self> {
        let target = Target::File { file: open(path)?, path: path.to_owned() };
        Ok(Self { writer: BufferedWriter::start(target)? })
    }

    /// Adds a line, with its line end.
    pub fn write(&self, line: &[u8]) {
        self.writer.add(line, false);
    }

    /// Writes all buffered lines.
    pub fn flush(&self) {
        self.writer.flush();
    }

    /// Opens the file again, after it was renamed. The lines before are written to the old one.
    ///
    /// # Errors
    /// If the file cannot be opened. The lines go to the old one then.
    pub fn reopen(&self) -> io::Result<()> {
        self.writer.flush();
        self.writer.with_output(|target| match target {
            Target::Stderr(_) | Target::Stdout(_) => Ok(()),
            Target::File { file, path } => {
                *file = open(path)?;
                Ok(())
            }
        })
    }
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).append(true);
    // The lines name keys and addresses.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o640);
    options.open(path)
}

impl Write for Target {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stderr(stderr) => stderr.write(text),
            Self::Stdout(stdout) => stdout.write(text),
            Self::File { file, .. } => file.write(text),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stderr(stderr) => stderr.flush(),
            Self::Stdout(stdout) => stdout.flush(),
            Self::File { file, .. } => file.flush(),
        }
    }
}

impl Drop for LogOutput {
    fn drop(&mut self) {
        self.writer.close();
    }
}

impl std::fmt::Debug for LogOutput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LogOutput")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &Path) -> String {
        std::fs::read_to_string(path).unwrap()
    }

    #[test]
    fn renamed_file_is_opened_again_and_no_line_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        let (path, old) = (folder.path().join("access.log"), folder.path().join("access.log.1"));
        std::fs::write(&path, "before\n").unwrap();
        let output = LogOutput::file(&path).unwrap();
        output.write(b"one\n");
        std::fs::rename(&path, &old).unwrap();
        output.write(b"two\n");
        output.reopen().unwrap();
        output.write(b"three\n");
        drop(output);
        assert_eq!((read(&old).as_str(), read(&path).as_str()), ("before\none\ntwo\n", "three\n"));
    }

    #[test]
    fn file_that_cannot_be_opened_again_leaves_the_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let (path, moved) = (folder.path().join("logs"), folder.path().join("moved"));
        std::fs::create_dir(&path).unwrap();
        let output = LogOutput::file(&path.join("access.log")).unwrap();
        std::fs::rename(&path, &moved).unwrap();
        assert!(output.reopen().is_err());
        output.write(b"one\n");
        drop(output);
        assert_eq!(read(&moved.join("access.log")), "one\n");
    }
}
