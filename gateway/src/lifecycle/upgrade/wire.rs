//! What two processes say to each other while one hands over to the other: a line of JSON each, once with descriptors.

use super::UpgradeError;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};
use serde::{Deserialize, Serialize};
use std::io::{self, BufRead, BufReader, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// Longest line, bytes: ids of accounts and models have at most some hundred.
const LINE_MAX: usize = 4096;
/// Most bytes that belong to one line: a full prefix index has 32 MB.
const BYTES_MAX: u64 = 256 << 20;
/// Listeners in one message.
pub(super) const LISTENERS: usize = 2;

/// One line.
#[derive(Debug, Serialize, Deserialize, PartialEq)]
#[serde(tag = "say", rename_all = "snake_case")]
pub(super) enum Message {
    /// These listeners are passed, the customers' before the operators', by the addresses that the config had for them.
    Listeners { customers: String, admin: String },
    /// All that needs no state is done.
    Ready,
    /// The folder is free.
    State,
    /// All is done but taking connections.
    Serving {
        /// Whether it reads [`Message::Learned`], which an earlier version does not.
        #[serde(default)]
        learned: bool,
        /// Whether it reads and answers [`Message::Running`].
        #[serde(default)]
        running: bool,
    },
    /// What was learnt of a deployment: so many bytes of JSON and then so many of its prefix index follow this line.
    Learned { deployment: String, json: u64, prefixes: u64 },
    /// Connections are yours.
    Yours,
    /// What runs in the process that says it: so many bytes of JSON follow this line. The new process answers with its own.
    Running { json: u64 },
    /// Tokens booked after the budgets were written; negative: given back.
    Used { account: String, model: String, prompt: i64, uncached_prompt: i64, generated: i64 },
}

/// One end of the connection.
#[derive(Debug)]
pub(super) struct Wire {
    stream: BufReader<UnixStream>,
}

impl Wire {
    /// Around a connection to a process of the same user, or of root; its process id too. Nothing is waited for longer
    /// than `patience`.
    pub(super) fn new(stream: UnixStream, patience: Duration) -> Result<(Self, i32), UpgradeError> {
        let peer = rustix::net::sockopt::socket_peercred(&stream).map_err(io::Error::from)?;
        if peer.uid != rustix::process::getuid() && !peer.uid.is_root() {
            return Err(UpgradeError::Stranger(peer.uid.as_raw()));
        }
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        Ok((Wire { stream: BufReader::new(stream) }, peer.pid.as_raw_nonzero().get()))
    }

    pub(super) fn send(&mut self, message: &Message) -> io::Result<()> {
        self.stream.get_mut().write_all(&line(message)?)
    }

    /// Sends one line with descriptors.
    pub(super) fn send_with(
        &mut self,
        message: &Message,
        fds: &[BorrowedFd<'_>; LISTENERS],
    ) -> io::Result<()> {
        let line = line(message)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(LISTENERS))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !ancillary.push(SendAncillaryMessage::ScmRights(fds)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let stream = self.stream.get_ref().as_fd();
        // Far smaller than the socket's buffer, which is empty: it goes in one piece.
        let sent = rustix::net::sendmsg(stream, &[IoSlice::new(&line)], &mut ancillary, SendFlags::NOSIGNAL)?;
        if sent == line.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    /// Sends a line and the bytes that belong to it.
    pub(super) fn send_followed_by(&mut self, message: &Message, bytes: &[&[u8]]) -> io::Result<()> {
        self.send(message)?;
        bytes.iter().try_for_each(|bytes| self.stream.get_mut().write_all(bytes))
    }

    /// Reads the bytes that belong to a line.
    pub(super) fn receive_bytes(&mut self, count: u64) -> io::Result<Vec<u8>> {
        if count > BYTES_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut bytes = Vec::new();
        self.stream.by_ref().take(count).read_to_end(&mut bytes)?;
        if bytes.len() as u64 == count { Ok(bytes) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    /// Waits for the next line. An end of the connection is an error.
    pub(super) fn receive(&mut self) -> io::Result<Message> {
        let mut line = Vec::new();
        self.stream.by_ref().take(LINE_MAX as u64).read_until(b'\n', &mut line)?;
        if !line.ends_with(b"\n") {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(serde_json::from_slice(&line)?)
    }

    /// Waits for exactly this line.
    pub(super) fn expect(&mut self, expected: &Message) -> Result<(), UpgradeError> {
        if self.receive()? == *expected { Ok(()) } else { Err(UpgradeError::OutOfTurn) }
    }

    /// Waits for the first line and the descriptors that come with it. Nothing is sent after it before it is answered.
    pub(super) fn receive_with(&mut self) -> io::Result<(Message, Vec<OwnedFd>)> {
        let mut line = [0; LINE_MAX];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(LISTENERS))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let stream = self.stream.get_ref().as_fd();
        let received = loop {
            let mut into = [IoSliceMut::new(&mut line)];
            match rustix::net::recvmsg(stream, &mut into, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
                Err(Errno::INTR) => {}
                other => break other?,
            }
        };
        let fds = ancillary
            .drain()
            .filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(fds) => Some(fds),
                _ => None,
            })
            .flatten()
            .collect();
        let whole = line.get(..received.bytes).filter(|line| line.ends_with(b"\n"));
        let message = serde_json::from_slice(whole.ok_or(io::ErrorKind::UnexpectedEof)?)?;
        Ok((message, fds))
    }

    /// From now on nothing is waited for longer than `patience`.
    pub(super) fn read_within(&self, patience: Duration) -> io::Result<()> {
        self.stream.get_ref().set_read_timeout(Some(patience))
    }

    /// From now on lines are waited for as long as the other side lives.
    pub(super) fn wait_for_ever(&self) -> io::Result<()> {
        self.stream.get_ref().set_read_timeout(None)
    }

    /// From now on nothing is written for longer than `patience`.
    pub(super) fn write_within(&self, patience: Duration) -> io::Result<()> {
        self.stream.get_ref().set_write_timeout(Some(patience))
    }
}

fn line(message: &Message) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    if line.len() <= LINE_MAX { Ok(line) } else { Err(io::ErrorKind::InvalidInput.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    const PATIENCE: Duration = Duration::from_secs(10);

    fn pair() -> (Wire, Wire) {
        let (one, other) = UnixStream::pair().unwrap();
        (Wire::new(one, PATIENCE).unwrap().0, Wire::new(other, PATIENCE).unwrap().0)
    }

    #[test]
    fn listeners_arrive_with_their_names_and_still_listen() {
        let (mut old, mut new) = pair();
        let [one, other] = [0, 0].map(|port| TcpListener::bind(("127.0.0.1", port)).unwrap());
        let addresses = [&one, &other].map(|listener| listener.local_addr().unwrap());
        let message = Message::Listeners { customers: "a".to_owned(), admin: "b".to_owned() };

        old.send_with(&message, &[one.as_fd(), other.as_fd()]).unwrap();
        drop((one, other));
        let (received, fds) = new.receive_with().unwrap();

        assert_eq!(received, message);
        let listeners: Vec<TcpListener> = fds.into_iter().map(TcpListener::from).collect();
        assert_eq!(listeners.iter().map(|l| l.local_addr().unwrap()).collect::<Vec<_>>(), addresses);
        assert!(TcpStream::connect(addresses[0]).is_ok(), "nobody closed it");
    }

    #[test]
    fn who_breaks_off_or_speaks_out_of_turn_is_noticed() {
        let (mut old, mut new) = pair();
        old.send(&Message::Yours).unwrap();
        assert!(matches!(new.expect(&Message::State), Err(UpgradeError::OutOfTurn)));
        drop(old);
        assert!(matches!(new.expect(&Message::State), Err(UpgradeError::BrokeOff(_))));
    }
}
