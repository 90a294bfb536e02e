//! What in the head of a request says where its body ends.
//!
//! Where two programs could read two ends, the request is refused: one of the two would take the rest of the body for the
//! next request.

use crate::refusal::{Reason, Refusal};
use http::{HeaderMap, header};

/// The announced length, bytes: once, and in digits.
///
/// # Errors
/// 400 with a sentence.
pub fn length(headers: &HeaderMap) -> Result<Option<u64>, Refusal> {
    let mut values = headers.get_all(header::CONTENT_LENGTH).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Refusal::bad("`Content-Length` must be there once."));
    }
    let digits =
        value.to_str().ok().filter(|text| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()));
    let length = digits.and_then(|text| text.parse::<u64>().ok());
    length.map(Some).ok_or_else(|| Refusal::bad("`Content-Length` must be a number of bytes."))
}

/// Only `chunked`, once, is read here. A body in another coding would be read by one program and not by another.
///
/// # Errors
/// 501 for another coding, 400 for the same twice.
pub fn codings(headers: &HeaderMap) -> Result<(), Refusal> {
    let mut chunked = 0;
    for coding in
        headers.get_all(header::TRANSFER_ENCODING).iter().flat_map(|v| v.as_bytes().split(|&b| b == b','))
    {
        if !coding.trim_ascii().eq_ignore_ascii_case(b"chunked") {
            let message =
                "`Transfer-Encoding` may only be `chunked` here. Send the JSON without another coding.";
            return Err(Refusal::new(Reason::UnsupportedCoding, message));
        }
        chunked += 1;
    }
    if chunked > 1 {
        return Err(Refusal::bad("`Transfer-Encoding` must name `chunked` once."));
    }
    Ok(())
}

/// Every line of a head ends with CR LF. The parser takes a bare LF, too, which others take for a part of the line.
///
/// # Errors
/// 400 with a sentence.
pub fn line_ends(raw: &[u8]) -> Result<(), Refusal> {
    let mut lines = raw.split(|&byte| byte == b'\n').peekable();
    while let Some(line) = lines.next() {
        let is_last = lines.peek().is_none();
        let line = match line.split_last() {
            Some((b'\r', line)) if !is_last => line,
            None if is_last => return Ok(()),
            _ => return Err(bare()),
        };
        if line.contains(&b'\r') {
            return Err(bare());
        }
    }
    Ok(())
}

fn bare() -> Refusal {
    Refusal::bad("Each line of the request's head must end with CR LF.")
}

/// Whether a line of a raw head has this name.
#[must_use]
pub fn has_line(raw: &[u8], name: &[u8]) -> bool {
    raw.split(|&b| b == b'\n').any(|line| {
        line.split_at_checked(name.len()).is_some_and(|(start, rest)| {
            start.eq_ignore_ascii_case(name) && rest.trim_ascii_start().starts_with(b":")
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_line_is_found_by_name_only() {
        let raw = b"POST / HTTP/1.1\r\nX-A: content-length: 5\r\nContent-Length : 5\r\n\r\n";
        assert!(has_line(raw, b"content-length"));
        assert!(!has_line(b"POST / HTTP/1.1\r\nX-A: content-length: 5\r\n\r\n", b"content-length"));
        assert!(!has_line(b"content-lengthy: 1\r\n", b"content-length"));
    }

    #[test]
    fn a_line_ends_with_both_characters() {
        assert!(line_ends(b"GET / HTTP/1.1\r\nHost: g\r\n\r\n").is_ok());
        for bad in [
            &b"GET / HTTP/1.1\nHost: g\r\n\r\n"[..],
            b"GET / HTTP/1.1\r\nHost: g\n\r\n",
            b"GET / HTTP/1.1\r\nHost: g\r\n\n",
            b"\nGET / HTTP/1.1\r\nHost: g\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: g\rX: y\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: g\r\r\n\r\n",
        ] {
            assert!(line_ends(bad).is_err(), "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn only_one_coding_is_read() {
        let read = |lines: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(header::TRANSFER_ENCODING, http::HeaderValue::from_static(line));
            }
            codings(&headers).map_err(|refusal| refusal.status())
        };
        assert_eq!([read(&[]), read(&["chunked"]), read(&[" Chunked"])], [Ok(()), Ok(()), Ok(())]);
        for other in [&["identity"][..], &["gzip, chunked"], &["identity", "chunked"], &["chunked, "], &[""]]
        {
            assert_eq!(read(other), Err(501), "{other:?}");
        }
        assert_eq!([read(&["chunked, chunked"]), read(&["chunked", "chunked"])], [Err(400), Err(400)]);
    }
}
