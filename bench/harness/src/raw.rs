//! A raw HTTP/1.1 client: little work per request, so that it leaves the core to what is measured, and able to leave in
//! the middle of anything, as clients do.

use std::io;
use std::net::SocketAddr;

use memchr::memmem;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A larger head than this is not waited for, bytes.
const HEAD_MAX: usize = 64 << 10;

/// One connection, for one request at a time.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// An answer that came whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// Status.
    pub status: u16,
    /// Whether the connection may serve another request.
    pub keep: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Length(usize),
    Chunked,
    UntilClose,
}

#[derive(Debug, Clone, Copy)]
struct Head {
    answer: Answer,
    framing: Framing,
    /// Where the body begins in the buffer.
    body: usize,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// Nobody listens.
    pub async fn open(target: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(target).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(16 << 10) })
    }

    /// Sends a whole request and reads the whole answer; `on_body` sees the pieces of the body, framing taken off.
    ///
    /// # Errors
    /// The connection or the answer broke off; then the connection is of no further use.
    pub async fn exchange(&mut self, request: &[u8], on_body: impl FnMut(&[u8])) -> io::Result<Answer> {
        self.send(request).await?;
        self.answer(on_body).await
    }

    /// Sends bytes and does not wait for an answer.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Reads one whole answer.
    ///
    /// # Errors
    /// It broke off, or is no HTTP.
    pub async fn answer(&mut self, mut on_body: impl FnMut(&[u8])) -> io::Result<Answer> {
        self.buffer.clear();
        let head = self.head().await?;
        self.buffer.drain(..head.body);
        match head.framing {
            Framing::Length(length) => self.body_of_length(length, on_body).await?,
            Framing::Chunked => self.body_in_chunks(on_body).await?,
            Framing::UntilClose => {
                while self.fill().await? > 0 {}
                on_body(&self.buffer);
            }
        }
        Ok(head.answer)
    }

    /// Reads until the first byte of a body has come; the status.
    ///
    /// # Errors
    /// It broke off before.
    pub async fn first_bytes(&mut self) -> io::Result<u16> {
        self.buffer.clear();
        let head = self.head().await?;
        while self.buffer.len() == head.body {
            self.some().await?;
        }
        Ok(head.answer.status)
    }

    async fn head(&mut self) -> io::Result<Head> {
        loop {
            self.some().await?;
            if let Some(head) = parse(&self.buffer)? {
                return Ok(head);
            }
            if self.buffer.len() > HEAD_MAX {
                return Err(invalid("the head is too large"));
            }
        }
    }

    async fn body_of_length(&mut self, length: usize, mut on_body: impl FnMut(&[u8])) -> io::Result<()> {
        let mut left = length;
        loop {
            let piece = self.buffer.get(..left.min(self.buffer.len())).unwrap_or_default();
            on_body(piece);
            left -= piece.len();
            if left == 0 {
                return Ok(());
            }
            self.buffer.clear();
            self.some().await?;
        }
    }

    async fn body_in_chunks(&mut self, mut on_body: impl FnMut(&[u8])) -> io::Result<()> {
        let mut chunks = Chunks::default();
        loop {
            if chunks.feed(&self.buffer, &mut on_body)? {
                return Ok(());
            }
            self.buffer.clear();
            self.some().await?;
        }
    }

    /// Reads at least one byte.
    async fn some(&mut self) -> io::Result<()> {
        if self.fill().await? == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }

    async fn fill(&mut self) -> io::Result<usize> {
        self.stream.read_buf(&mut self.buffer).await
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// The head, once it is whole.
fn parse(bytes: &[u8]) -> io::Result<Option<Head>> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    let parsed = response.parse(bytes).map_err(|_| invalid("the head is no HTTP"))?;
    let httparse::Status::Complete(body) = parsed else { return Ok(None) };
    let mut head = Head {
        answer: Answer { status: response.code.unwrap_or(0), keep: true },
        framing: Framing::UntilClose,
        body,
    };
    for header in response.headers.iter() {
        if header.name.eq_ignore_ascii_case("content-length") {
            let length = std::str::from_utf8(header.value).ok().and_then(|text| text.trim().parse().ok());
            head.framing = Framing::Length(length.ok_or_else(|| invalid("the length is no number"))?);
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            head.framing = Framing::Chunked;
        } else if header.name.eq_ignore_ascii_case("connection") {
            head.answer.keep = !header.value.eq_ignore_ascii_case(b"close");
        }
    }
    head.answer.keep &= head.framing != Framing::UntilClose;
    Ok(Some(head))
}

/// Takes the chunked framing off, split anywhere.
#[derive(Debug, Default)]
struct Chunks {
    /// Bytes of the running chunk still to come, its line end included.
    left: usize,
    line: Vec<u8>,
    last: bool,
}

impl Chunks {
    /// Whether the body is whole after these bytes.
    fn feed(&mut self, mut bytes: &[u8], on_body: &mut impl FnMut(&[u8])) -> io::Result<bool> {
        while !bytes.is_empty() {
            if self.left > 0 {
                let (piece, rest) = bytes.split_at(self.left.min(bytes.len()));
                // The last two bytes are the chunk's line end.
                let content = self.left.saturating_sub(2).min(piece.len());
                on_body(piece.get(..content).unwrap_or_default());
                self.left -= piece.len();
                bytes = rest;
                continue;
            }
            let Some(end) = memchr::memchr(b'\n', bytes) else {
                self.line.extend_from_slice(bytes);
                return Ok(false);
            };
            let (line, rest) = bytes.split_at(end);
            self.line.extend_from_slice(line);
            bytes = rest.get(1..).unwrap_or_default();
            let line = std::mem::take(&mut self.line);
            let line = line.trim_ascii();
            if self.last && line.is_empty() {
                return Ok(true);
            }
            if !self.last {
                let size =
                    std::str::from_utf8(line).ok().and_then(|text| usize::from_str_radix(text, 16).ok());
                let size = size.ok_or_else(|| invalid("a chunk has no size"))?;
                self.last = size == 0;
                self.left = if self.last { 0 } else { size + 2 };
            }
        }
        Ok(false)
    }
}

/// Counts the events of a stream: each ends with an empty line.
#[derive(Debug, Default)]
pub struct Events {
    /// How many ended so far.
    pub count: u64,
    /// Whether the last piece ended with a line end.
    open: bool,
}

impl Events {
    /// The next piece of the stream.
    pub fn feed(&mut self, piece: &[u8]) {
        let (Some(first), Some(last)) = (piece.first(), piece.last()) else { return };
        self.count += u64::from(self.open && *first == b'\n');
        self.count += memmem::find_iter(piece, b"\n\n").count() as u64;
        self.open = *last == b'\n' && !piece.ends_with(b"\n\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunked_framing_comes_off_however_it_is_split() {
        let framed = b"5\r\nhello\r\n1\r\n \r\n5\r\nworld\r\n0\r\n\r\n";
        for at in 0..framed.len() {
            let (first, second) = framed.split_at(at);
            let (mut chunks, mut body) = (Chunks::default(), Vec::new());
            let mut take = |piece: &[u8]| body.extend_from_slice(piece);
            assert!(!chunks.feed(first, &mut take).expect("good"), "not whole after {at} bytes");
            assert!(chunks.feed(second, &mut take).expect("good"));
            assert_eq!(body, b"hello world");
        }
        assert!(Chunks::default().feed(b"x\r\n", &mut |_: &[u8]| ()).is_err());
    }

    #[test]
    fn events_are_counted_however_they_are_split() {
        let stream = b"data: 1\n\ndata: 2\n\n: comment\n\n";
        for at in 0..=stream.len() {
            let (first, second) = stream.split_at(at);
            let mut events = Events::default();
            events.feed(first);
            events.feed(second);
            assert_eq!(events.count, 3, "split at {at}");
        }
    }

    #[test]
    fn a_head_says_how_long_the_body_is_and_whether_the_connection_lives() {
        let head = parse(b"HTTP/1.1 429 x\r\ncontent-length: 7\r\nconnection: close\r\n\r\n")
            .expect("http")
            .expect("whole");
        assert_eq!(head.answer, Answer { status: 429, keep: false });
        assert_eq!(head.framing, Framing::Length(7));
        assert!(parse(b"HTTP/1.1 200 OK\r\ncont").expect("so far").is_none());
    }
}
