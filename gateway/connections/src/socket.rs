//! A client's socket as the framework takes streams: TCP behind two buffers.
//!
//! The framework's own listener makes such streams, but counts nobody and reads no PROXY header before plain HTTP, and its
//! stream cannot be given buffers from outside. This one is the same in a few lines: a read buffer, because TLS reads in
//! small pieces, and a write buffer of one segment, because a head and a body are written apart.

use crate::places::Place;
use async_trait::async_trait;
use pingora::protocols::l4::ext::set_tcp_keepalive;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TcpKeepalive,
    TimingDigest, UniqueID, UniqueIDType,
};
use std::io;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufStream, ReadBuf};
use tokio::net::TcpStream;

/// Write buffer, bytes: about a segment.
const WRITE_BYTES: usize = 1460;

/// A connected client.
#[derive(Debug)]
pub struct Socket {
    stream: BufStream<TcpStream>,
    digest: Arc<SocketDigest>,
    /// Is told when the client does not read.
    place: Place,
    blocked: bool,
}

impl Socket {
    /// Prepares an accepted connection. Allocates its buffers.
    #[must_use]
    pub fn new(stream: TcpStream, keepalive: &TcpKeepalive, read_bytes: usize, place: Place) -> Self {
        // A peer that is gone already has no options to set; the next read says so.
        let _ = stream.set_nodelay(true);
        let _ = set_tcp_keepalive(&stream, keepalive);
        let digest = Arc::new(SocketDigest::from_raw_fd(stream.as_raw_fd()));
        let stream = BufStream::with_capacity(read_bytes, WRITE_BYTES, stream);
        Socket { stream, digest, place, blocked: false }
    }
}

impl Socket {
    /// Tells the place when writing begins to wait for the client, and when it goes on.
    fn told<T>(&mut self, written: Poll<T>) -> Poll<T> {
        if written.is_pending() != self.blocked {
            self.blocked = written.is_pending();
            self.place.is_blocked(self.blocked);
        }
        written
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.told(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let written = Pin::new(&mut self.stream).poll_flush(cx);
        self.told(written)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.told(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[async_trait]
impl Shutdown for Socket {
    async fn shutdown(&mut self) {
        let _ = AsyncWriteExt::shutdown(&mut self.stream).await;
    }
}

impl UniqueID for Socket {
    fn id(&self) -> UniqueIDType {
        self.stream.get_ref().as_raw_fd()
    }
}

impl Ssl for Socket {}

#[async_trait]
impl Peek for Socket {}

impl GetTimingDigest for Socket {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for Socket {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl GetSocketDigest for Socket {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        Some(Arc::clone(&self.digest))
    }
}
