//! What the service manager is told: that the gateway takes requests, and that it is going.
//!
//! systemd starts what depends on a unit of `Type=notify` once the unit says `READY=1`; other supervisors speak the same
//! protocol: a datagram to the socket that `NOTIFY_SOCKET` names. Where there is none, nothing is said. Being ready is
//! not "the process runs" but "a connection to the customers' address was taken", which is tried from here.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixDatagram};
use std::path::Path;
use std::time::Duration;

/// How often the customers' listener is tried, and how often at most: it is open within milliseconds, and a service
/// manager has a patience of its own.
const TRY_EVERY: Duration = Duration::from_millis(10);
const TRIES_MAX: u32 = 6000;

/// The customers' listener takes connections.
const READY: &str = "READY=1\nSTATUS=serving";
/// No new work is wanted; what runs is finished.
pub const STOPPING: &str = "STOPPING=1\nSTATUS=draining";

/// The service's main process is another one from now on; it says itself that it is ready.
#[must_use]
pub fn main_process(pid: i32) -> String {
    format!("MAINPID={pid}\nSTATUS=handed over")
}

/// Says that the gateway is ready as soon as `address` takes a connection.
pub async fn when_open(address: SocketAddr) {
    if socket().is_none() {
        return;
    }
    for _ in 0..TRIES_MAX {
        if tokio::net::TcpStream::connect(reachable(address)).await.is_ok() {
            say(READY);
            return;
        }
        tokio::time::sleep(TRY_EVERY).await;
    }
}

/// Tells the service manager `state`, if there is one.
pub fn say(state: &str) {
    let Some(manager) = socket() else { return };
    let sent = UnixDatagram::unbound().and_then(|socket| socket.send_to_addr(state.as_bytes(), &manager));
    if let Err(e) = sent {
        tracing::warn!(
            "the service manager was not told `{}`: {e}",
            state.lines().next().unwrap_or_default()
        );
    }
}

fn socket() -> Option<UnixAddress> {
    let name = std::env::var_os("NOTIFY_SOCKET")?;
    match name.as_bytes().strip_prefix(b"@") {
        Some(name) => UnixAddress::from_abstract_name(name).ok(),
        None => UnixAddress::from_pathname(Path::new(&name)).ok(),
    }
}

/// An address to connect to: "all addresses" is none.
fn reachable(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => (Ipv4Addr::LOCALHOST, v4.port()).into(),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => (Ipv6Addr::LOCALHOST, v6.port()).into(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_on_all_addresses_is_tried_on_loopback() {
        let tried =
            ["0.0.0.0:80", "[::]:80", "10.0.0.5:80"].map(|text| reachable(text.parse().unwrap()).to_string());

        assert_eq!(tried, ["127.0.0.1:80", "[::1]:80", "10.0.0.5:80"]);
    }
}
