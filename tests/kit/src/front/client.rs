//! Clients of the front door: from addresses of their own, plain or over TLS.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::tls::{self, FIRST};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

/// A client that hears nothing for so long gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Connects from `source`; all of 127.0.0.0/8 is this machine.
///
/// # Errors
/// Nobody listens, or no port is left.
pub async fn connect(source: Ipv4Addr, target: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((source, 0)))?;
    let stream = socket.connect(target).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Sends a request on a connection of its own from `source` and reads until the other side closes it, which the request has
/// to ask for.
///
/// # Errors
/// It was closed before there was an answer, or was silent for too long.
pub async fn ask(
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
#[must_use]
pub fn closing_chat(key: &str, body: &str) -> Vec<u8> {
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: gateway.test\r\nconnection: close\r\nauthorization: Bearer {key}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body.as_bytes()].concat()
}

/// Writes certificate and key of the gateway into `folder`; the lines of `listen` that name them, beginning with a comma.
///
/// # Errors
/// They cannot be written.
pub fn tls_lines(folder: &Path) -> io::Result<String> {
    let (certificate, key) = (folder.join("gateway.pem"), folder.join("gateway.key"));
    std::fs::write(&certificate, FIRST.certificate)?;
    std::fs::write(&key, FIRST.key)?;
    let shown = |path: &Path| path.display().to_string();
    Ok(format!(", tls: {{ cert_file: \"{}\", key_file: \"{}\" }}", shown(&certificate), shown(&key)))
}

/// A program in `folder` that runs `gateway` with so many open files.
///
/// # Errors
/// It cannot be written.
pub fn limited(folder: &Path, gateway: &Path, files: u64) -> io::Result<PathBuf> {
    let program = folder.join(format!("limited-{files}"));
    let script = format!("#!/bin/sh\nulimit -n {files} && exec '{}' \"$@\"\n", gateway.display());
    std::fs::write(&program, script)?;
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755))?;
    Ok(program)
}

/// The most open files that this process may pass on.
#[must_use]
pub fn files_max() -> u64 {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find(|line| line.starts_with("Max open files"));
    line.and_then(|line| line.split_whitespace().nth(4)?.parse().ok()).unwrap_or(1_024)
}
