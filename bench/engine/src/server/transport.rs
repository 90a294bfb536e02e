//! Connections that can be reset on purpose, and answer bodies that are written chunk by chunk.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

/// Whether a connection ends with RST. Two flags: its own, and the server's.
#[derive(Debug, Clone)]
pub(crate) struct Reset {
    own: Arc<AtomicBool>,
    server: Arc<AtomicBool>,
}

impl Reset {
    pub(crate) fn new(server: &Arc<AtomicBool>) -> Self {
        Self { own: Arc::default(), server: Arc::clone(server) }
    }

    pub(crate) fn set(&self) {
        self.own.store(true, Ordering::Relaxed);
    }

    fn is_set(&self) -> bool {
        self.own.load(Ordering::Relaxed) || self.server.load(Ordering::Relaxed)
    }
}

/// A TCP connection that ends with RST if its [`Reset`] is set when it is dropped.
#[derive(Debug)]
pub(crate) struct Conn {
    stream: TcpStream,
    reset: Reset,
}

impl Conn {
    pub(crate) fn new(stream: TcpStream, reset: Reset) -> io::Result<Self> {
        // Without it every small chunk after the first waits for the client's delayed acknowledgement.
        stream.set_nodelay(true)?;
        Ok(Self { stream, reset })
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        if self.reset.is_set() {
            // If it fails the connection ends with FIN, and the test that wanted RST says so.
            let _ = socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
        }
    }
}

impl AsyncRead for Conn {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Conn {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// An answer's body: all at once, or as it comes. An error in the channel ends the connection.
#[derive(Debug)]
pub(crate) enum AnswerBody {
    Whole(Option<Bytes>),
    Chunks(mpsc::Receiver<io::Result<Bytes>>),
}

/// One chunk under way at a time: the connection finds nothing more to take after each, and so writes it out alone,
/// as an engine does that has the next token only a step later.
const CHUNKS_AHEAD: usize = 1;

pub(crate) type ChunkSender = mpsc::Sender<io::Result<Bytes>>;

impl AnswerBody {
    pub(crate) fn whole(body: impl Into<Bytes>) -> Self {
        Self::Whole(Some(body.into()))
    }

    pub(crate) fn chunks() -> (ChunkSender, Self) {
        let (sender, receiver) = mpsc::channel(CHUNKS_AHEAD);
        (sender, Self::Chunks(receiver))
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.get_mut() {
            Self::Whole(body) => Poll::Ready(body.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Chunks(chunks) => {
                chunks.poll_recv(cx).map(|chunk| chunk.map(|chunk| chunk.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => SizeHint::with_exact(body.as_ref().map_or(0, Bytes::len) as u64),
            Self::Chunks(_) => SizeHint::default(),
        }
    }
}
