//! Clients of the front door: from addresses of their own, plain or over TLS.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use kit::tls::{self, FIRST};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::harness::proof::{Setting, Trouble};

/// A client that hears nothing for so long gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Connects from `source`; all of 127.0.0.0/8 is this machine.
pub(super) async fn connect(source: Ipv4Addr, target: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((source, 0)))?;
    let stream = socket.connect(target).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Sends a request on a connection of its own from `source` and reads until the other side closes it, which the request has
/// to ask for.
pub(super) async fn ask(
    source: Ipv4Addr,
    target: SocketAddr,
    over_tls: bool,
    request: &[u8],
) -> io::Result<Vec<u8>> {
    let stream = connect(source, target).await?;
    if over_tls {
        exchange(tls::over(stream, &FIRST, &[b"http/1.1"]).await?, request).await
    } else {
        exchange(stream, request).await
    }
}

async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &[u8]) -> io::Result<Vec<u8>> {
    stream.write_all(request).await?;
    let mut answer = Vec::new();
    let read = timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    // Over TLS a close without a farewell is an error, though all of the answer is here.
    read.map_err(io::Error::from)?.or_else(|e| if answer.is_empty() { Err(e) } else { Ok(0) })?;
    Ok(answer)
}

/// A chat request after which the connection is to be closed.
pub(super) fn closing_chat(key: &str, body: &str) -> Vec<u8> {
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: gateway.test\r\nconnection: close\r\nauthorization: Bearer {key}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body.as_bytes()].concat()
}

/// Writes certificate and key of the gateway; the lines of `listen` that name them, beginning with a comma.
pub(super) fn tls_lines(setting: &Setting) -> Result<String, Trouble> {
    let (certificate, key) = (setting.out.join("gateway.pem"), setting.out.join("gateway.key"));
    std::fs::write(&certificate, FIRST.certificate)?;
    std::fs::write(&key, FIRST.key)?;
    let shown = |path: &Path| path.display().to_string();
    Ok(format!(", tls: {{ cert_file: \"{}\", key_file: \"{}\" }}", shown(&certificate), shown(&key)))
}
