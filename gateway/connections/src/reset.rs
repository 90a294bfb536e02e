//! Ends a connection with a TCP reset.
//!
//! An answer over HTTP/1.0 ends with its connection, so one that breaks off would look whole if the connection ended as
//! usual. A reset is the one end that no client takes for the end of an answer.
//!
//! The framework shows the number of the socket's descriptor, not the socket, and to use a number as a socket is unsafe:
//! it may be another one's by now. So the kernel is asked for a second descriptor of it, by sending the number over a
//! socket to ourselves, and that is used if its peer is the one that is meant. To disconnect a socket that is connected
//! sends the reset at once, whatever is done to the framework's descriptor afterwards.

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use pingora::protocols::http::ServerSession;
use rustix::fd::{AsRawFd as _, OwnedFd, RawFd};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketAddrAny, SocketFlags,
    SocketType,
};
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::SocketAddr;

/// Resets the connection of `session`. Over HTTP/2, and where the socket is not found, nothing happens.
///
/// # Errors
/// What the kernel says; the connection is as it was then.
pub fn reset(session: &ServerSession) -> Result<(), Errno> {
    let Some(h1) = session.as_http1() else { return Ok(()) };
    let digest = h1.digest().socket_digest.as_ref();
    let Some(peer) = digest.and_then(|digest| digest.peer_addr()?.as_inet().copied()) else { return Ok(()) };
    let socket = second(h1.stream().id())?;
    if peer_of(&socket) != Some(peer) {
        return Err(Errno::BADF);
    }
    rustix::net::connect_unspec(&socket)
}

fn peer_of(socket: &OwnedFd) -> Option<SocketAddr> {
    let address: SocketAddrAny = rustix::net::getpeername(socket).ok().flatten()?;
    SocketAddr::try_from(address).ok()
}

/// A second descriptor of the socket that `number` stands for.
fn second(number: RawFd) -> Result<OwnedFd, Errno> {
    let (from, to) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    let numbers = [number];
    let rights = [ControlMessage::ScmRights(&numbers)];
    sendmsg::<()>(from.as_raw_fd(), &[IoSlice::new(b"s")], &rights, MsgFlags::MSG_DONTWAIT, None)
        .map_err(|e| Errno::from_raw_os_error(e as i32))?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0; 1];
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    rustix::net::recvmsg(&to, &mut [IoSliceMut::new(&mut byte)], &mut ancillary, flags)?;
    let sockets = ancillary.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(sockets) => Some(sockets),
        _ => None,
    });
    sockets.flatten().next().ok_or(Errno::BADF)
}
