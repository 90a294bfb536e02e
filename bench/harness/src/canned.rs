//! An engine that says the same to everybody, for a fraction of what the simulated one costs.
//!
//! Where proxy, engine and load share a core, a costly engine flushes the proxy's caches between any two requests, and
//! that makes both sides of a comparison dearer and so the ratio smaller than it is: with the simulated engine, which
//! draws, counts and keeps books, a bare proxy's request reads at more than twice what it reads here. Answers have the
//! shape and the fields of a model server's; a stream has as many chunks as `max_tokens` says, each written alone.

use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;

use memchr::memmem;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::tidegate::MODEL;

/// Tokens of every answer that does not stream.
const TOKENS: u32 = 16;
/// Bytes of a body that count as a token of its prompt.
const BYTES_PER_TOKEN: u32 = 5;
/// Bytes of a request read at once.
const READ: usize = 256 << 10;
/// What it says to whoever reads its state: idle, whatever it does, as an engine does that never has to queue.
const METRICS: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 83\r\n\r\n\
vllm:num_requests_running 0\nvllm:num_requests_waiting 0\nvllm:kv_cache_usage_perc 0\n";
/// Most chunks of one stream.
const CHUNKS_MAX: usize = 1 << 20;

/// The engine, on a thread of its own that ends with the process.
#[derive(Debug)]
pub struct Canned {
    /// Where it listens.
    pub addr: SocketAddr,
}

impl Canned {
    /// Starts it. It accepts connections when this returns.
    ///
    /// # Errors
    /// No port or thread is to be had.
    pub fn start() -> io::Result<Self> {
        let listener = std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let addr = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new()
            .name("canned".to_owned())
            .spawn(move || runtime.block_on(serve(listener)))?;
        Ok(Self { addr })
    }
}

async fn serve(listener: std::net::TcpListener) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        // How a connection ends is its client's business.
        tokio::spawn(async move { drop(connection(stream).await) });
    }
}

async fn connection(mut stream: TcpStream) -> io::Result<()> {
    let frames = Frames::new();
    let mut buffer = Vec::with_capacity(READ);
    loop {
        let (body, length) = request(&mut stream, &mut buffer).await?;
        if buffer.starts_with(b"GET ") {
            stream.write_all(METRICS).await?;
            buffer.drain(..(body + length).min(buffer.len()));
            continue;
        }
        // What matters stands in the beginning of the bodies that are sent here.
        let asked = buffer.get(body..).unwrap_or_default();
        let asked = asked.get(..asked.len().min(512)).unwrap_or_default();
        match memmem::find(asked, b"\"stream\":true") {
            None => stream.write_all(&whole_answer(length)).await?,
            Some(_) => {
                frames.write(&mut stream, number_after(asked, b"\"max_tokens\":").unwrap_or(16)).await?
            }
        }
        buffer.drain(..(body + length).min(buffer.len()));
    }
}

/// Reads one request into the buffer; where its body begins and how long it is.
async fn request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<(usize, usize)> {
    loop {
        if let Some(head) = memmem::find(buffer, b"\r\n\r\n") {
            let lines = buffer.get(..head).unwrap_or_default().to_ascii_lowercase();
            let length = number_after(&lines, b"content-length:").unwrap_or(0);
            while buffer.len() < head + 4 + length {
                some(stream, buffer).await?;
            }
            return Ok((head + 4, length));
        }
        some(stream, buffer).await?;
    }
}

async fn some(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<()> {
    if stream.read_buf(buffer).await? == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
}

fn number_after(text: &[u8], key: &[u8]) -> Option<usize> {
    let rest = text.get(memmem::find(text, key)? + key.len()..)?.trim_ascii_start();
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(rest.get(..digits)?).ok()?.parse().ok()
}

/// The answer to a body of so many bytes.
fn whole_answer(length: usize) -> Vec<u8> {
    let prompt = length as u32 / BYTES_PER_TOKEN + 1;
    let body = format!(
        "{{\"id\":\"chatcmpl-0123456789abcdef\",\"object\":\"chat.completion\",\"created\":1795320000,\"model\":\"{MODEL}\",\
         \"choices\":[{{\"index\":0,\"message\":{{\"role\":\"assistant\",\"content\":\"The quick brown fox jumps over the \
         lazy dog and then it rests.\"}},\"logprobs\":null,\"finish_reason\":\"stop\"}}],\"usage\":{{\"prompt_tokens\":{prompt},\
         \"completion_tokens\":{TOKENS},\"total_tokens\":{}}}}}",
        prompt + TOKENS
    );
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\nserver: uvicorn\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}")
        .into_bytes()
}

/// The writes of a stream.
struct Frames {
    head: Vec<u8>,
    first: Vec<u8>,
    content: Vec<u8>,
}

impl Frames {
    fn new() -> Self {
        Self {
            head: b"HTTP/1.1 200 OK\r\nserver: uvicorn\r\ncontent-type: text/event-stream; charset=utf-8\r\n\
                    transfer-encoding: chunked\r\n\r\n"
                .to_vec(),
            first: framed(&event("{\"role\":\"assistant\",\"content\":\"\"}", "null")),
            content: framed(&event("{\"content\":\" token\"}", "null")),
        }
    }

    async fn write(&self, stream: &mut TcpStream, chunks: usize) -> io::Result<()> {
        stream.write_all(&self.head).await?;
        stream.write_all(&self.first).await?;
        for _ in 0..chunks.min(CHUNKS_MAX) {
            stream.write_all(&self.content).await?;
            // The other streams come between, as in an engine's step.
            tokio::task::yield_now().await;
        }
        stream.write_all(&last(chunks)).await
    }
}

fn event(delta: &str, finish: &str) -> String {
    format!(
        "data: {{\"id\":\"chatcmpl-0123456789abcdef\",\"object\":\"chat.completion.chunk\",\"created\":1795320000,\
         \"model\":\"{MODEL}\",\"choices\":[{{\"index\":0,\"delta\":{delta},\"logprobs\":null,\"finish_reason\":{finish}}}]}}\n\n"
    )
}

fn framed(text: &str) -> Vec<u8> {
    format!("{:x}\r\n{text}\r\n", text.len()).into_bytes()
}

fn last(chunks: usize) -> Vec<u8> {
    let mut text = event("{}", "\"stop\"");
    // Writing into a string cannot fail.
    let _ = write!(
        text,
        "data: {{\"id\":\"chatcmpl-0123456789abcdef\",\"object\":\"chat.completion.chunk\",\"created\":1795320000,\
         \"model\":\"{MODEL}\",\"choices\":[],\"usage\":{{\"prompt_tokens\":60,\"completion_tokens\":{chunks},\
         \"total_tokens\":{}}}}}\n\ndata: [DONE]\n\n",
        chunks + 60
    );
    let mut bytes = framed(&text);
    bytes.extend_from_slice(b"0\r\n\r\n");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raw::{Connection, Events};
    use crate::tidegate::chat;

    #[tokio::test]
    async fn it_answers_what_was_asked_one_request_after_the_other() {
        let engine = Canned::start().expect("a port");
        let mut connection = Connection::open(engine.addr).await.expect("it listens");
        for _ in 0..2 {
            let mut body = Vec::new();
            let whole = chat("k", "{\"stream\":false}");
            connection.exchange(&whole, |piece| body.extend_from_slice(piece)).await.expect("whole");
            assert!(serde_json::from_slice::<serde_json::Value>(&body).is_ok());

            let mut page = Vec::new();
            let metrics = b"GET /metrics HTTP/1.1\r\nhost: e\r\n\r\n";
            connection.exchange(metrics, |piece| page.extend_from_slice(piece)).await.expect("whole");
            assert!(page.ends_with(b"perc 0\n"), "the length is that of the page");

            let mut events = Events::default();
            let stream = chat("k", "{\"stream\":true,\"max_tokens\":7}");
            connection.exchange(&stream, |piece| events.feed(piece)).await.expect("whole");
            assert_eq!(events.count, 7 + 4, "role, finish, usage and the end");
        }
    }
}
