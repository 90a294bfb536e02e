//! Gzip that does not compress: stored blocks are all that a client needs to see that a body is encoded.

/// The head of a gzip member.
pub(crate) const HEAD: [u8; 10] = [0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 255];

/// A gzip member that is written piece by piece.
#[derive(Debug, Clone)]
pub(crate) struct Gzip {
    crc: u32,
    bytes: u32,
}

impl Gzip {
    pub(crate) fn new() -> Self {
        Self { crc: u32::MAX, bytes: 0 }
    }

    /// The next piece, as stored blocks of at most 65,535 bytes.
    pub(crate) fn piece(&mut self, data: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(data.len() + 16);
        for block in data.chunks(0xFFFF) {
            let length = block.len() as u16;
            out.push(0);
            out.extend_from_slice(&length.to_le_bytes());
            out.extend_from_slice(&(!length).to_le_bytes());
            out.extend_from_slice(block);
        }
        for byte in data {
            self.crc ^= u32::from(*byte);
            for _ in 0..8 {
                self.crc = (self.crc >> 1) ^ (0xEDB8_8320 & (self.crc & 1).wrapping_neg());
            }
        }
        self.bytes = self.bytes.wrapping_add(data.len() as u32);
        out
    }

    /// An empty last block, checksum and length.
    pub(crate) fn end(&self) -> Vec<u8> {
        let mut out = vec![1, 0, 0, 0xFF, 0xFF];
        out.extend_from_slice(&(!self.crc).to_le_bytes());
        out.extend_from_slice(&self.bytes.to_le_bytes());
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_standard_one() {
        let mut gzip = Gzip::new();
        gzip.piece(b"1234");
        gzip.piece(b"56789");
        assert_eq!(gzip.end()[5..9], 0xCBF4_3926_u32.to_le_bytes(), "the check value of CRC-32");
    }
}
