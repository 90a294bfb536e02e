//! What a client legally sent, by the letter of RFC 9112: the oracle, written apart from everything that it judges.
//!
//! Bytes are read as requests in a row until one is not framed by the letter. What comes behind that is no request of
//! anybody, whatever a more tolerant program would make of it.

/// The bodies of the requests in `bytes` that are framed by the letter, in order.
pub(super) fn bodies(bytes: &[u8]) -> Vec<&[u8]> {
    let mut bodies = Vec::new();
    let mut rest = bytes;
    // Empty lines before a request are to be skipped.
    while let Some(tail) = rest.strip_prefix(b"\r\n") {
        rest = tail;
    }
    while let Some((body, tail)) = request(rest) {
        bodies.push(body);
        rest = tail;
    }
    bodies
}

/// One request: its body, still in chunks if it came so, and what follows it.
fn request(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr::memmem::find(bytes, b"\r\n\r\n")?;
    let (head, rest) = (bytes.get(..end)?, bytes.get(end + 4..)?);
    let mut lines = split(head);
    let is_old = match lines.next()? {
        first if first.ends_with(b" HTTP/1.1") => false,
        first if first.ends_with(b" HTTP/1.0") => true,
        _ => return None,
    };
    let (mut length, mut is_chunked) = (None, false);
    for line in lines {
        let (name, value) = field(line)?;
        match name.to_ascii_lowercase().as_slice() {
            b"content-length" if length.is_some() => return None,
            b"content-length" => length = Some(number(value)?),
            b"transfer-encoding" if is_chunked || is_old || !value.eq_ignore_ascii_case(b"chunked") => {
                return None;
            }
            b"transfer-encoding" => is_chunked = true,
            _ => {}
        }
    }
    match (length, is_chunked) {
        (Some(_), true) => None,
        (length, false) => rest.split_at_checked(length.unwrap_or(0)),
        (None, true) => rest.split_at_checked(chunked(rest)?),
    }
}

/// The lines of a head.
fn split(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(head);
    std::iter::from_fn(move || {
        let bytes = rest?;
        match memchr::memmem::find(bytes, b"\r\n") {
            Some(at) => {
                rest = bytes.get(at + 2..);
                bytes.get(..at)
            }
            None => {
                rest = None;
                Some(bytes)
            }
        }
    })
    // A line end that is no line end of the letter: nothing of it is a request.
    .map(|line| if line.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) { &b""[..] } else { line })
}

fn field(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = memchr::memchr(b':', line)?;
    let (name, value) = (line.get(..colon)?, line.get(colon + 1..)?);
    let is_name = !name.is_empty()
        && name.iter().all(|byte| byte.is_ascii_graphic() && !b"\"(),/:;<=>?@[\\]{}".contains(byte));
    is_name.then(|| (name, value.trim_ascii()))
}

fn number(digits: &[u8]) -> Option<usize> {
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(digits).ok().filter(|_| is_number)?.parse().ok()
}

/// The length of a chunked body with its framing.
fn chunked(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let line = line(bytes, at)?;
        at += line.len() + 2;
        let digits = line.split(|byte| *byte == b';').next()?;
        let digits = if digits.len() < line.len() { digits.trim_ascii_end() } else { digits };
        let is_size = !digits.is_empty() && digits.iter().all(u8::is_ascii_hexdigit);
        let size = std::str::from_utf8(digits).ok().filter(|_| is_size)?;
        let size = usize::from_str_radix(size, 16).ok()?;
        if size == 0 {
            break;
        }
        at = at.checked_add(size)?;
        if bytes.get(at..at.checked_add(2)?)? != b"\r\n" {
            return None;
        }
        at += 2;
    }
    loop {
        let trailer = line(bytes, at)?;
        at += trailer.len() + 2;
        if trailer.is_empty() {
            return Some(at);
        }
        field(trailer)?;
    }
}

/// The line that begins at `at`, without its end.
fn line(bytes: &[u8], at: usize) -> Option<&[u8]> {
    let rest = bytes.get(at..)?;
    let line = rest.get(..memchr::memmem::find(rest, b"\r\n")?)?;
    (!line.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0))).then_some(line)
}

/// The content of a chunked body that was read by [`bodies`]; of another one itself.
pub(super) fn content(body: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    let mut at = 0;
    while let Some(size) = line(body, at) {
        let digits = size.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        let parsed = std::str::from_utf8(digits).ok().and_then(|text| usize::from_str_radix(text, 16).ok());
        let Some(length) = parsed else { return body.to_vec() };
        at += size.len() + 2;
        if length == 0 {
            return content;
        }
        let Some(chunk) = body.get(at..at + length) else { return body.to_vec() };
        content.extend_from_slice(chunk);
        at += length + 2;
    }
    body.to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<String> {
        bodies(text.as_bytes()).into_iter().map(|body| String::from_utf8(content(body)).unwrap()).collect()
    }

    #[test]
    fn requests_by_the_letter_are_read_in_a_row() {
        let by_length = "POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\nab";
        let in_chunks = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;x=y\r\na\r\n001\r\nb\r\n0\r\nA: b\r\n\r\n";
        let without = "GET / HTTP/1.0\r\nHost: g\r\n\r\n";
        assert_eq!(read(&[by_length, in_chunks, without, by_length].concat()), ["ab", "ab", "", "ab"]);
        assert_eq!(read(&["\r\n", by_length].concat()), ["ab"]);
    }

    #[test]
    fn what_is_not_framed_by_the_letter_is_no_request() {
        for bad in [
            "POST / HTTP/1.1\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nab",
            "POST / HTTP/1.1\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length : 2\r\n\r\nab",
            "POST / HTTP/1.1\r\nContent-Length: +2\r\n\r\nab",
            "POST / HTTP/1.1\r\nA: b\nContent-Length: 2\r\n\r\nab",
            "POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nab",
            "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;x\na\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nA b\r\n\r\n",
            "POST / HTTP/2.0\r\nContent-Length: 2\r\n\r\nab",
        ] {
            assert!(read(bad).is_empty(), "{bad:?}");
        }
    }
}
