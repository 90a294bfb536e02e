//! Requests as clients, proxies and attackers send them, and what changes them by chance.
//!
//! A case is one entry with up to four changes. Each entry carries a request that is meant and, in most, a second one
//! behind it or inside its body: that is what a program sees that reads the framing otherwise. The number of the case
//! stands in both, so that whatever an engine gets is found again.

use rand::Rng as _;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom as _;

use harness::tidegate::MODEL;

/// Header lines that frame a body, rightly and wrongly.
const FRAMING: [&str; 22] = [
    "Transfer-Encoding: chunked",
    "Transfer-Encoding: identity",
    "Transfer-Encoding: gzip, chunked",
    "Transfer-Encoding: chunked, identity",
    "Transfer-Encoding: xchunked",
    "Transfer-Encoding:\tchunked",
    "Transfer-Encoding : chunked",
    "Transfer-Encoding: \"chunked\"",
    "Transfer_Encoding: chunked",
    "X: y\nTransfer-Encoding: chunked",
    "X: y\rTransfer-Encoding: chunked",
    " Transfer-Encoding: chunked",
    "Content-Length: 0",
    "Content-Length: 10",
    "Content-Length: +10",
    "Content-Length: 1_0",
    "Content-Length: 0x10",
    "Content-Length: 10, 10",
    "Content-Length: 18446744073709551617",
    "Content-Length: -1",
    "Expect: 100-continue",
    "Connection: Content-Length, Transfer-Encoding",
];

/// Bytes that end lines, words and strings for some.
const BYTES: &[u8] = b"\r\n\t \0:;,0afF+-_\"\\/\x0b\x0c\x7f\x80\xff";

/// A body with the number of its case; `mark` tells the two of a case apart.
fn body(number: u64, mark: &str) -> String {
    format!(
        "{{\"model\":\"{MODEL}\",\"max_tokens\":1,\"messages\":[{{\"role\":\"user\",\"content\":\"{mark} {number}\"}}]}}"
    )
}

fn head(version: &str, lines: &str) -> String {
    format!(
        "POST /v1/chat/completions HTTP/{version}\r\nHost: gateway\r\nAuthorization: Bearer key-0\r\n\
         Content-Type: application/json\r\n{lines}\r\n"
    )
}

fn by_length(version: &str, body: &str) -> String {
    head(version, &format!("Content-Length: {}\r\n", body.len())) + body
}

/// The body in chunks of `size` bytes, with `extension` behind each size.
fn chunks(body: &str, size: usize, extension: &str) -> String {
    let piece =
        |piece: &[u8]| format!("{:x}{extension}\r\n{}\r\n", piece.len(), String::from_utf8_lossy(piece));
    body.as_bytes().chunks(size).map(piece).collect()
}

/// The entry for this case, unchanged.
fn entry(number: u64, random: &mut SmallRng) -> Vec<u8> {
    let (outer, inner) = (body(number, "outer"), body(number, "inner"));
    let chunked = "Transfer-Encoding: chunked\r\n";
    let second = by_length("1.1", &inner);
    let text = match random.random_range(0..12_u8) {
        0 => by_length("1.1", &outer),
        1 => by_length("1.1", &outer) + &second,
        2 => by_length("1.0", &outer) + &second,
        3 => head("1.1", chunked) + &chunks(&outer, 40, "") + "0\r\n\r\n" + &second,
        4 => head("1.1", chunked) + &chunks(&outer, 7, ";a=b") + "0\r\nX-A: b\r\n\r\n" + &second,
        // A request inside a chunk, a body, an extension, a trailer.
        5 => head("1.1", chunked) + &chunks(&second, 4_096, "") + "0\r\n\r\n",
        6 => by_length("1.1", &second) + &second,
        7 => head("1.1", chunked) + &chunks(&outer, 4_096, ";x") + "0\r\nX: y\r\n" + &second,
        8 => {
            head("1.1", &format!("Content-Length: {}\r\n{chunked}", outer.len()))
                + &chunks(&outer, 99, "")
                + "0\r\n\r\n"
                + &second
        }
        9 => head("1.1", "Content-Length: 4\r\n") + &outer + &second,
        10 => format!(
            "GET /v1/models HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer key-0\r\nContent-Length: {}\r\n\r\n{second}",
            second.len()
        ),
        _ => format!("\r\n{}", by_length("1.1", &outer).replace("Content-Length", "content-length")),
    };
    text.into_bytes()
}

/// A case: its bytes.
pub(super) fn case(number: u64, random: &mut SmallRng) -> Vec<u8> {
    let mut bytes = entry(number, random);
    for _ in 0..random.random_range(0..=4_u8) {
        change(&mut bytes, random);
    }
    bytes
}

fn change(bytes: &mut Vec<u8>, random: &mut SmallRng) {
    let at = random.random_range(0..bytes.len().max(1)).min(bytes.len());
    let odd = BYTES.choose(random).copied().unwrap_or(b'x');
    match random.random_range(0..14_u8) {
        0 => drop(bytes.splice(at..(at + 1).min(bytes.len()), [])),
        1 => bytes.insert(at, odd),
        2 => drop(bytes.splice(at..(at + 1).min(bytes.len()), [odd])),
        3 => bytes.truncate(at.max(1)),
        4 => replace(bytes, b"\r\n", b"\n", random),
        5 => replace(bytes, b"\r\n", b"\r", random),
        6 => replace(bytes, b"\r\n", b"\r\n\r\n", random),
        7 => replace(bytes, b"\r\n", b" \r\n", random),
        8 => replace(bytes, b": ", b" : ", random),
        9 => replace(bytes, b"HTTP/1.1", b"HTTP/1.0", random),
        10 | 11 => {
            let line = FRAMING.choose(random).copied().unwrap_or_default();
            replace(bytes, b"\r\n", format!("\r\n{line}\r\n").as_bytes(), random);
        }
        12 => repeat_line(bytes, random),
        _ => {
            // A digit of a length or a size.
            let digits: Vec<usize> =
                (0..bytes.len()).filter(|&at| bytes.get(at).is_some_and(u8::is_ascii_hexdigit)).collect();
            if let Some(digit) = digits.choose(random).and_then(|&at| bytes.get_mut(at)) {
                *digit = *b"0123456789abcdefF".choose(random).unwrap_or(&b'0');
            }
        }
    }
}

/// Replaces one of the places where `what` stands, drawn at random.
fn replace(bytes: &mut Vec<u8>, what: &[u8], by: &[u8], random: &mut SmallRng) {
    let places: Vec<usize> = memchr::memmem::find_iter(bytes, what).collect();
    if let Some(&at) = places.choose(random) {
        bytes.splice(at..at + what.len(), by.iter().copied());
    }
}

fn repeat_line(bytes: &mut Vec<u8>, random: &mut SmallRng) {
    let ends: Vec<usize> = memchr::memmem::find_iter(bytes, b"\r\n").collect();
    let nth = random.random_range(0..ends.len().max(2) - 1);
    if let (Some(&from), Some(&to)) = (ends.get(nth), ends.get(nth + 1)) {
        let line = bytes.get(from..to).unwrap_or_default().to_vec();
        bytes.splice(to..to, line);
    }
}
