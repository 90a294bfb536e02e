//! Reads a chunked body by the letter of RFC 9112, section 7.1.
//!
//! Most readers take a bare LF for the end of a chunk's line and some take anything at all for a trailer. A program in
//! front that reads such a line otherwise sees another body in the same bytes, and what is the rest of a body for one of
//! the two can be a request for the other. Here it is hexadecimal size, extension, CR LF, bytes, CR LF, and after the last
//! chunk trailers that each have a name and a colon. Trailers are dropped.
//!
//! Guarantees: O(bytes), no copy of the body, at most [`LINE_MAX`] bytes of a line and [`TRAILERS_MAX`] of all trailers
//! are read before they are refused, none of them is held.

use bytes::{Buf as _, Bytes};

/// Longest line of a chunk's size and extension, bytes. Sizes have up to eight digits, and nobody sends extensions.
pub const LINE_MAX: usize = 256;
/// Most bytes of all trailers.
pub const TRAILERS_MAX: usize = 4 << 10;
/// Digits of the largest size: more than any body that is taken in.
const DIGITS_MAX: usize = 8;
/// The bytes are no chunked body, or one with two readings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

/// Where in the body the next byte lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// In the size of a chunk, so many digits of it read.
    Size(usize),
    /// Between size and extension: blanks, then a semicolon.
    Blank,
    Extension,
    /// After the CR of the size's line.
    SizeEnd,
    Data,
    /// After the bytes of a chunk.
    DataCr,
    DataEnd,
    /// At the start of a trailer, or of the last line.
    Trailer,
    TrailerName,
    TrailerValue,
    TrailerEnd,
    LastEnd,
    Done,
}

/// Reads one body.
#[derive(Debug)]
pub struct Decoder {
    at: At,
    /// Bytes left of the chunk.
    left: u64,
    /// Bytes of the line so far; of all trailers once those have begun.
    line: usize,
}

impl Default for Decoder {
    fn default() -> Self {
        Decoder::new()
    }
}

impl Decoder {
    /// A body of which nothing has come.
    #[must_use]
    pub fn new() -> Decoder {
        Decoder { at: At::Size(0), left: 0, line: 0 }
    }

    /// Whether the body is whole.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.at == At::Done
    }

    /// The next bytes of the body among `received`, which are taken off it; `None` when more has to be received, or when
    /// the body is whole.
    ///
    /// # Errors
    /// When the bytes are not framed by the letter.
    pub fn next(&mut self, received: &mut Bytes) -> Result<Option<Bytes>, Malformed> {
        while self.at != At::Done && !received.is_empty() {
            if self.at == At::Data {
                let taken = received.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
                self.left -= taken as u64;
                if self.left == 0 {
                    self.at = At::DataCr;
                }
                return Ok(Some(received.split_to(taken)));
            }
            self.at = self.step(received.get_u8())?;
        }
        Ok(None)
    }

    fn step(&mut self, byte: u8) -> Result<At, Malformed> {
        self.line += 1;
        let bound = if self.in_trailers() { TRAILERS_MAX } else { LINE_MAX };
        if self.line > bound {
            return Err(Malformed);
        }
        match (self.at, byte) {
            (At::Size(0), _) if !byte.is_ascii_hexdigit() => Err(Malformed),
            (At::Size(_) | At::Extension, b'\r') => Ok(At::SizeEnd),
            (At::Size(_) | At::Blank, b';') => Ok(At::Extension),
            (At::Size(_) | At::Blank, b' ' | b'\t') => Ok(At::Blank),
            (At::Size(digits), _) => self.digit(byte, digits),
            (At::Extension, _) if is_text(byte) => Ok(At::Extension),
            (At::SizeEnd, b'\n') => {
                self.line = 0;
                Ok(if self.left == 0 { At::Trailer } else { At::Data })
            }
            (At::DataCr, b'\r') => Ok(At::DataEnd),
            (At::DataEnd, b'\n') => {
                self.line = 0;
                Ok(At::Size(0))
            }
            (At::Trailer, b'\r') => Ok(At::LastEnd),
            (At::Trailer | At::TrailerName, _) if is_name(byte) => Ok(At::TrailerName),
            (At::TrailerName, b':') => Ok(At::TrailerValue),
            (At::TrailerValue, b'\r') => Ok(At::TrailerEnd),
            (At::TrailerValue, _) if is_text(byte) => Ok(At::TrailerValue),
            (At::TrailerEnd, b'\n') => Ok(At::Trailer),
            (At::LastEnd, b'\n') => Ok(At::Done),
            _ => Err(Malformed),
        }
    }

    fn digit(&mut self, byte: u8, digits: usize) -> Result<At, Malformed> {
        let digit = char::from(byte).to_digit(16).ok_or(Malformed)?;
        if digits == DIGITS_MAX {
            return Err(Malformed);
        }
        let before = if digits == 0 { 0 } else { self.left };
        self.left = before * 16 + u64::from(digit);
        Ok(At::Size(digits + 1))
    }

    fn in_trailers(&self) -> bool {
        matches!(self.at, At::Trailer | At::TrailerName | At::TrailerValue | At::TrailerEnd | At::LastEnd)
    }
}

/// What a field's value may have: text, blanks, and bytes that are no ASCII.
fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// What a field's name may have.
fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The body in `bytes`, received in pieces of `piece` bytes, and what is left behind it; `None` while it is not whole.
    fn read(bytes: &[u8], piece: usize) -> Result<Option<(Vec<u8>, usize)>, Malformed> {
        let (mut decoder, mut body) = (Decoder::new(), Vec::new());
        let mut left = bytes.len();
        for piece in bytes.chunks(piece) {
            let mut received = Bytes::copy_from_slice(piece);
            while let Some(data) = decoder.next(&mut received)? {
                body.extend_from_slice(&data);
            }
            left -= piece.len() - received.len();
            if decoder.is_done() {
                return Ok(Some((body, left)));
            }
        }
        Ok(None)
    }

    #[test]
    fn a_body_is_read_however_it_is_cut() {
        let bytes =
            b"4\r\nwiki\r\n5 ; a=\"b\"\r\npedia\r\n00A;x\r\n0123456789\r\n0\r\nX-A: b\r\nY:\r\n\r\nGET";
        for piece in 1..bytes.len() {
            assert_eq!(read(bytes, piece), Ok(Some((b"wikipedia0123456789".to_vec(), 3))), "{piece}");
        }
        assert_eq!(read(b"0\r\n\r\n", 9), Ok(Some((Vec::new(), 0))));
        assert_eq!(read(b"4\r\nwi", 9), Ok(None));
    }

    /// Case E15, and what else is read differently by different programs.
    #[test]
    fn what_has_two_readings_is_refused() {
        for bad in [
            &b"4;a\nwiki\r\n0\r\n\r\n"[..],
            b"4\nwiki\r\n0\r\n\r\n",
            b"4\r\nwiki\n0\r\n\r\n",
            b"4\r\nwiki0\r\n\r\n",
            b"4\r\nwiki\r\n0\n\r\n",
            b"4\r\nwiki\r\n0\r\n\n",
            b"0\r\nX-A b\r\n\r\n",
            b"0\r\nX-A : b\r\n\r\n",
            b"0\r\n X-A: b\r\n\r\n",
            b"0\r\n: b\r\n\r\n",
            b"0\r\nX-A: b\n\r\n",
            b"0\r\nX-A: b\r\n c\r\n\r\n",
            b"0\r\nGET / HTTP/1.1\r\n\r\n",
            b"\r\n",
            b";a\r\n",
            b" 4\r\n",
            b"+4\r\n",
            b"-4\r\n",
            b"0x4\r\n",
            b"4_\r\n",
            b"4 4\r\n",
            b"4 \r\nwiki",
            b"4;\x00\r\n",
            b"4\r\rwiki",
            b"fffffffff\r\n",
        ] {
            assert_eq!(read(bad, 64), Err(Malformed), "{}", bad.escape_ascii());
        }
        assert_eq!(read(&[b"4;".as_slice(), &[b'a'; LINE_MAX]].concat(), 64), Err(Malformed));
        assert_eq!(
            read(&[b"0\r\n".as_slice(), &b"a:b\r\n".repeat(TRAILERS_MAX / 5 + 2)].concat(), 64),
            Err(Malformed)
        );
    }

    proptest! {
        /// Written by the letter, any body comes back, and any bytes at all end without a panic.
        #[test]
        fn what_is_written_is_read(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..8), piece in 1_usize..50) {
            let mut bytes = Vec::new();
            for chunk in &chunks {
                bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                bytes.extend_from_slice(chunk);
                bytes.extend_from_slice(b"\r\n");
            }
            bytes.extend_from_slice(b"0\r\n\r\n");
            prop_assert_eq!(read(&bytes, piece), Ok(Some((chunks.concat(), 0))));
        }

        #[test]
        fn any_bytes_come_to_an_end(bytes in prop::collection::vec(any::<u8>(), 0..200), piece in 1_usize..50) {
            let _ = read(&bytes, piece);
        }
    }
}
