//! The form of the journal's bytes: a header, then records.
//!
//! ```text
//! header  "TGBUDGET" version:u32 zero:u32
//! record  length:u32 crc32:u32 payload        numbers little-endian, crc over the payload
//! payload saved_ms:u64 account_len:u16 account model_len:u16 model snapshot
//! ```

use std::time::Duration;

const MAGIC: &[u8; 8] = b"TGBUDGET";
const VERSION: u32 = 1;
/// Bytes of the header.
pub const HEADER: u64 = 16;
/// Bytes before a payload.
pub const FRAME: u64 = 8;
/// Largest payload: a snapshot has at most some KiB, names at most some hundred bytes.
pub const PAYLOAD_MAX: u32 = 64 << 10;

/// One budget as it was saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Wall time since the epoch.
    pub saved: Duration,
    /// The account's id.
    pub account: String,
    /// The model's name.
    pub model: String,
    /// The budget, in the form of `limits::Snapshot`.
    pub snapshot: Vec<u8>,
}

/// A record as it lies in its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordRef<'a> {
    /// Wall time since the epoch.
    pub saved: Duration,
    /// The account's id.
    pub account: &'a str,
    /// The model's name.
    pub model: &'a str,
    /// The budget, in the form of `limits::Snapshot`.
    pub snapshot: &'a [u8],
}

/// The header of a journal of this version.
pub fn header() -> [u8; HEADER as usize] {
    let mut header = [0; HEADER as usize];
    let parts = MAGIC.iter().copied().chain(VERSION.to_le_bytes());
    header.iter_mut().zip(parts).for_each(|(byte, part)| *byte = part);
    header
}

/// Length and checksum of the payload behind this frame.
pub fn frame(bytes: [u8; FRAME as usize]) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = bytes;
    (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]))
}

/// Appends a record with its frame to `bytes`; the length of its payload.
pub fn encode(record: &Record, bytes: &mut Vec<u8>) -> u32 {
    let length = 12 + record.account.len() + record.model.len() + record.snapshot.len();
    let begin = bytes.len();
    bytes.extend_from_slice(&(length as u32).to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&(record.saved.as_millis() as u64).to_le_bytes());
    for name in [&record.account, &record.model] {
        bytes.extend_from_slice(&(name.len() as u16).to_le_bytes());
        bytes.extend_from_slice(name.as_bytes());
    }
    bytes.extend_from_slice(&record.snapshot);
    let sum = crc32fast::hash(bytes.get(begin + FRAME as usize..).unwrap_or_default());
    let place = bytes.iter_mut().skip(begin + 4).zip(sum.to_le_bytes());
    place.for_each(|(byte, of_sum)| *byte = of_sum);
    length as u32
}

/// The record in a payload; `None`: it is none.
pub fn decode(payload: &[u8]) -> Option<RecordRef<'_>> {
    let (saved, rest) = payload.split_first_chunk::<8>()?;
    let (account, rest) = name(rest)?;
    let (model, snapshot) = name(rest)?;
    Some(RecordRef { saved: Duration::from_millis(u64::from_le_bytes(*saved)), account, model, snapshot })
}

fn name(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    let (name, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
    Some((std::str::from_utf8(name).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files of users have this form: another one needs another version.
    #[test]
    fn the_form_stays_as_it_is() {
        let record = Record {
            saved: Duration::from_millis(258),
            account: "acme".into(),
            model: "m".into(),
            snapshot: vec![7, 8],
        };
        let mut bytes = header().to_vec();

        let length = encode(&record, &mut bytes);

        let payload = b"\x02\x01\0\0\0\0\0\0\x04\0acme\x01\0m\x07\x08";
        assert_eq!(bytes[..16], *b"TGBUDGET\x01\0\0\0\0\0\0\0");
        assert_eq!((length, &bytes[24..]), (19, &payload[..]));
        assert_eq!(frame(bytes[16..24].try_into().unwrap()), (19, crc32fast::hash(payload)));
        let read = decode(payload).unwrap();
        assert_eq!((read.saved, read.account, read.model), (record.saved, "acme", "m"));
        assert_eq!(read.snapshot, [7, 8]);
        assert_eq!(decode(&payload[..14]), None, "a name that ends in the middle");
    }
}
