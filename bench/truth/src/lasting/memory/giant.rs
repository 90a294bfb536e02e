//! An engine whose answers are as large as they are asked to be: it says them from one buffer, however many ask.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use harness::proof::Trouble;

/// Largest head of a request.
const HEAD_MAX: usize = 64 << 10;

/// What it answers; sizes in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Says {
    /// A whole answer to embeddings.
    Embeddings(usize),
    /// A whole answer to chat.
    Whole(usize),
    /// A stream whose first word is so long, and which then is silent.
    Event(usize),
}

/// The engine. Ends with the value.
#[derive(Debug)]
pub(super) struct Giant {
    pub(super) address: SocketAddr,
    requests: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Drop for Giant {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Giant {
    /// Starts it on a free port.
    ///
    /// # Errors
    /// There is none.
    pub(super) async fn start(says: Says) -> Result<Giant, Trouble> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let requests = Arc::new(AtomicU64::new(0));
        let (answer, counter) = (Arc::new(says.answer()), Arc::clone(&requests));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&answer), Arc::clone(&counter)));
            }
        });
        Ok(Giant { address, requests, task })
    }

    /// Requests that came whole.
    pub(super) fn requests(&self) -> u64 {
        self.requests.load(Relaxed)
    }
}

impl Says {
    fn answer(self) -> Vec<u8> {
        match self {
            Says::Embeddings(bytes) => {
                let one = format!("[{}]", vec!["0.0123456789"; 4_096].join(","));
                let item = format!("{{\"object\":\"embedding\",\"index\":0,\"embedding\":{one}}}");
                let items = vec![item; bytes / one.len()].join(",");
                whole(&format!(
                    "{{\"object\":\"list\",\"model\":\"sim\",\"data\":[{items}],\"usage\":{{\"prompt_tokens\":3,\"total_tokens\":3}}}}"
                ))
            }
            Says::Whole(bytes) => {
                let text = "word ".repeat(bytes / 5);
                whole(&format!(
                    "{{\"id\":\"a\",\"object\":\"chat.completion\",\"created\":1,\"model\":\"sim\",\"choices\":[{{\"index\":0,\
                     \"message\":{{\"role\":\"assistant\",\"content\":\"{text}\"}},\"finish_reason\":\"stop\"}}],\
                     \"usage\":{{\"prompt_tokens\":3,\"completion_tokens\":9,\"total_tokens\":12}}}}"
                ))
            }
            Says::Event(bytes) => {
                let text = "word ".repeat((bytes / 5).max(1));
                let event = format!(
                    "data: {{\"id\":\"a\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"sim\",\"choices\":[{{\
                     \"index\":0,\"delta\":{{\"role\":\"assistant\",\"content\":\"{text}\"}},\"finish_reason\":null}}]}}\n\n"
                );
                let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
                format!("{head}{:x}\r\n{event}\r\n", event.len()).into_bytes()
            }
        }
    }
}

fn whole(body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}")
        .into_bytes()
}

/// Reads requests and answers each that posts something; a stream is left open until the other side goes.
async fn serve(mut stream: TcpStream, answer: Arc<Vec<u8>>, requests: Arc<AtomicU64>) {
    let mut buffer = Vec::new();
    while let Some(is_post) = next(&mut stream, &mut buffer).await {
        let not_found: &[u8] = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n";
        let said = if is_post { answer.as_slice() } else { not_found };
        requests.fetch_add(u64::from(is_post), Relaxed);
        if stream.write_all(said).await.is_err() {
            return;
        }
    }
}

/// Reads a whole request and drops it; whether it is a POST. `None`: there is none any more.
async fn next(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<bool> {
    let end = loop {
        if let Some(at) = memchr::memmem::find(buffer, b"\r\n\r\n") {
            break at + 4;
        }
        if buffer.len() > HEAD_MAX || stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(buffer.get(..end)?).to_ascii_lowercase();
    let length =
        head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
    let mut left = length.unwrap_or(0).saturating_sub(buffer.len() - end);
    buffer.clear();
    let mut piece = vec![0; 64 << 10];
    while left > 0 {
        let read = stream.read(&mut piece).await.ok()?;
        if read == 0 {
            return None;
        }
        left = left.saturating_sub(read);
    }
    Some(head.starts_with("post "))
}
