//! Bodies that are made while they are sent.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::Frame;
use tokio::sync::mpsc;

/// Makes a body. Without its end, the browser sees that the body is not complete.
pub(super) struct Writer(mpsc::Sender<Option<String>>);

/// The parts that are waiting to be sent: one at most.
struct Parts(mpsc::Receiver<Option<String>>, bool);

/// The body ended too early.
#[derive(Debug, thiserror::Error)]
#[error("the body could not be made to its end")]
struct Incomplete;

/// A body and what makes it.
pub(super) fn streamed() -> (Writer, Body) {
    let (sender, receiver) = mpsc::channel(1);
    (Writer(sender), Body::new(Parts(receiver, false)))
}

impl Writer {
    /// Adds a part, and waits until the one before it is taken. Returns whether the browser is still there.
    pub(super) async fn write(&self, part: String) -> bool {
        self.0.send(Some(part)).await.is_ok()
    }

    /// Ends the body. A body that is dropped without it is not complete.
    pub(super) async fn end(self) {
        // An error means that the browser has left.
        let _ = self.0.send(None).await;
    }
}

impl HttpBody for Parts {
    type Data = Bytes;
    type Error = Incomplete;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Incomplete>>> {
        if self.1 {
            return Poll::Ready(None);
        }
        self.0.poll_recv(context).map(|part| match part {
            Some(Some(text)) => Some(Ok(Frame::data(text.into()))),
            Some(None) => {
                self.1 = true;
                None
            }
            None => {
                self.1 = true;
                Some(Err(Incomplete))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn body_has_all_parts_and_fails_without_its_end() {
        for is_complete in [true, false] {
            let (writer, body) = streamed();
            tokio::spawn(async move {
                for part in ["a", "b", "c"] {
                    assert!(writer.write(part.to_owned()).await);
                }
                if is_complete {
                    writer.end().await;
                }
            });
            let read = body.collect().await.map(http_body_util::Collected::to_bytes);
            assert_eq!(read.ok().as_deref(), is_complete.then_some(&b"abc"[..]));
        }
    }

    #[tokio::test]
    async fn writer_sees_that_the_browser_has_left() {
        let (writer, body) = streamed();
        drop(body);
        assert!(!writer.write("a".into()).await);
        writer.end().await;
    }
}
