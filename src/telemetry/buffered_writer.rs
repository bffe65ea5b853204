//! Log lines, written many at once: a call to the system for each would cost a request more than its decision.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// How long a line waits for others.
const WAIT: Duration = Duration::from_millis(50);
/// So much waits for nothing more, in bytes.
const FULL: usize = 64 * 1024;

/// Lines on their way to `W`. One that may need attention is written at once, after all that waited.
pub(super) struct Lines<W>(Arc<Shared<W>>);

struct Shared<W> {
    waiting: Mutex<Vec<u8>>,
    some: Condvar,
    /// Taken before `waiting`, so that lines stay in order.
    out: Mutex<W>,
}

/// Where one line goes.
pub(super) struct Line<'a, W> {
    lines: &'a Shared<W>,
    urgent: bool,
}

impl<W> Clone for Lines<W> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<W: Write + Send + 'static> Lines<W> {
    /// Begins to write, on a thread of its own.
    ///
    /// # Errors
    /// When there can be no thread.
    pub(super) fn to(out: W) -> io::Result<Self> {
        let shared = Arc::new(Shared { waiting: Mutex::default(), some: Condvar::new(), out: Mutex::new(out) });
        let lines = Self(Arc::clone(&shared));
        std::thread::Builder::new().name("log".into()).spawn(move || shared.write_now_and_then())?;
        Ok(lines)
    }

    /// Writes what waits.
    pub(super) fn flush(&self) {
        self.0.write();
    }
}

impl<W: Write> Shared<W> {
    fn write_now_and_then(&self) {
        loop {
            drop(self.some.wait_while(lock(&self.waiting), |waiting| waiting.is_empty()));
            std::thread::sleep(WAIT);
            self.write();
        }
    }

    fn write(&self) {
        let mut out = lock(&self.out);
        let text = std::mem::take(&mut *lock(&self.waiting));
        // Who no longer reads the log cannot be told.
        let _ = out.write_all(&text);
    }

    fn add(&self, line: &[u8], urgent: bool) {
        let mut waiting = lock(&self.waiting);
        let first = waiting.is_empty();
        waiting.extend_from_slice(line);
        let now = urgent || waiting.len() >= FULL;
        drop(waiting);
        if now {
            self.write();
        } else if first {
            self.some.notify_one();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'a, W: Write + 'static> MakeWriter<'a> for Lines<W> {
    type Writer = Line<'a, W>;

    fn make_writer(&'a self) -> Line<'a, W> {
        Line { lines: &self.0, urgent: true }
    }

    fn make_writer_for(&'a self, meta: &Metadata<'_>) -> Line<'a, W> {
        Line { lines: &self.0, urgent: *meta.level() <= Level::WARN }
    }
}

impl<W: Write> Write for Line<'_, W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.lines.add(line, self.urgent);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// Sends what is written at once as one message.
    struct Out(Sender<String>);

    impl Write for Out {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            self.0.send(String::from_utf8_lossy(text).into_owned()).map_err(io::Error::other)?;
            Ok(text.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn lines() -> (Lines<Out>, Receiver<String>) {
        let (sender, receiver) = channel();
        (Lines::to(Out(sender)).unwrap(), receiver)
    }

    #[test]
    fn lines_wait_for_each_other_and_are_written_in_order() {
        let (lines, written) = lines();
        for line in ["one\n", "two\n"] {
            lines.0.add(line.as_bytes(), false);
        }
        let mut text = String::new();
        while text != "one\ntwo\n" {
            assert!("one\ntwo\n".starts_with(&text), "{text}");
            text += &written.recv_timeout(Duration::from_secs(10)).unwrap();
        }
    }

    #[test]
    fn what_may_need_attention_waits_for_nothing() {
        let (lines, written) = lines();
        lines.0.add(b"first\n", false);
        lines.0.add(b"urgent\n", true);
        let text: String = written.try_iter().collect();
        assert_eq!(text, "first\nurgent\n");
    }

    #[test]
    fn many_lines_are_not_held_in_memory() {
        let (lines, _written) = lines();
        let line = vec![b'x'; 1024];
        for _ in 0..1024 {
            lines.0.add(&line, false);
            assert!(lock(&lines.0.waiting).len() < FULL);
        }
    }

    #[test]
    fn a_flush_writes_what_waits() {
        let (lines, written) = lines();
        lines.0.add(b"last\n", false);
        lines.flush();
        assert_eq!(written.try_iter().collect::<String>(), "last\n");
    }
}
