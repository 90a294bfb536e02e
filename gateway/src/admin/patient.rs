//! A connection whose peer has to read: a write that does not come on ends it.
//!
//! The bytes that wait must go out within [`STALL`], and each [`BYTES_PER_SECOND`] that does go out gives another
//! second, at most up to [`STALL`] again. So a large page passes a slow link, while a reader that takes a byte now and
//! then does not hold an answer in memory.

use crate::clock;
use connections::operators::Line;
use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

/// Longest time in which nothing of an answer goes out.
const STALL: Duration = Duration::from_secs(5);
/// Slowest reader, bytes a second.
const BYTES_PER_SECOND: f64 = 65_536.0;

/// The stream of one connection.
pub(super) struct Patient {
    stream: TcpStream,
    line: Arc<Line>,
    /// Until when, since the process started, bytes that wait must have gone out; with its timer while it is waited.
    until: Option<Duration>,
    timer: Option<Pin<Box<Sleep>>>,
    /// What is told when the time is over.
    late: fn(),
}

impl Patient {
    /// `stream` of the connection `line`; `late` is called when its peer does not read.
    pub(super) fn new(stream: TcpStream, line: Arc<Line>, late: fn()) -> Self {
        Patient { stream, line, until: None, timer: None, late }
    }

    fn went_out(&mut self, bytes: usize) {
        let Some(until) = self.until else { return };
        let more = Duration::from_secs_f64(bytes as f64 / BYTES_PER_SECOND);
        self.until = Some((until + more).min(clock::now() + STALL));
        self.timer = None;
    }

    /// Nothing went out: an error once that has lasted too long.
    fn stalled<T>(&mut self, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        let now = clock::now();
        let until = *self.until.get_or_insert(now + STALL);
        let left = until.saturating_sub(now);
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(left)));
        if timer.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        (self.late)();
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Patient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Patient {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write(context, bytes) {
            Poll::Ready(Ok(count)) => {
                self.went_out(count);
                Poll::Ready(Ok(count))
            }
            Poll::Ready(Err(e)) => Poll::Ready(Err(e)),
            Poll::Pending => self.stalled(context),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write_vectored(context, slices) {
            Poll::Ready(Ok(count)) => {
                self.went_out(count);
                Poll::Ready(Ok(count))
            }
            Poll::Ready(Err(e)) => Poll::Ready(Err(e)),
            Poll::Pending => self.stalled(context),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Asked for once all bytes were written.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        (self.until, self.timer) = (None, None);
        self.line.has_written();
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
