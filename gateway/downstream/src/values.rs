//! Header values of one answer, written into one buffer.
//!
//! An answer tells about ten numbers. A value of its own for each would be an allocation made, checked and freed again;
//! here they are slices of one.

use bytes::{BufMut as _, BytesMut};
use http::HeaderValue;

/// Room for what an ordinary answer tells, bytes. More grows the buffer.
const USUAL_BYTES: usize = 512;
/// Digits of the largest number.
const DIGITS_MAX: usize = 20;

/// The buffer: text is added piece by piece and taken as a value.
#[derive(Debug)]
pub struct Values(BytesMut);

impl Default for Values {
    /// An empty buffer with room for an ordinary answer.
    fn default() -> Self {
        Values(BytesMut::with_capacity(USUAL_BYTES))
    }
}

impl Values {
    /// Adds text to the value that is being written. It must be visible ASCII.
    pub fn text(&mut self, text: &str) -> &mut Self {
        self.0.put_slice(text.as_bytes());
        self
    }

    /// Adds a number in decimal digits.
    pub fn number(&mut self, number: u64) -> &mut Self {
        let mut digits = [0; DIGITS_MAX];
        let mut left = number;
        let mut length = 0;
        for digit in digits.iter_mut().rev() {
            *digit = b'0' + (left % 10) as u8;
            left /= 10;
            length += 1;
            if left == 0 {
                break;
            }
        }
        self.0.put_slice(digits.get(DIGITS_MAX - length..).unwrap_or_default());
        self
    }

    /// The value written since the last one was taken. What is no visible ASCII gives an empty one.
    pub fn take(&mut self) -> HeaderValue {
        HeaderValue::from_maybe_shared(self.0.split().freeze())
            .unwrap_or_else(|_| HeaderValue::from_static(""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_everybody_reads_them() {
        let mut values = Values::default();
        for number in [0, 9, 10, 59, 60_000, u64::MAX] {
            assert_eq!(values.number(number).take(), number.to_string());
        }
    }

    #[test]
    fn each_value_has_only_its_own_text() {
        let mut values = Values::default();
        let first = values.text("q=").number(7).text(";w=60").take();
        let second = values.text(&"x".repeat(USUAL_BYTES)).take();
        assert_eq!(first, "q=7;w=60");
        assert_eq!(second.len(), USUAL_BYTES);
        assert_eq!(values.take(), "");
    }
}
