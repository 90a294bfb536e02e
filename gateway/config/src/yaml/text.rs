//! Reading a file as bounded text.

use std::io::Read as _;
use std::path::Path;

/// Largest config file, bytes: 10,000 accounts need about 2 MiB.
pub const CONFIG_BYTES_MAX: usize = 4 << 20;

/// Reads at most `bytes_max` bytes of a file.
pub(crate) fn read_at_most(path: &Path, bytes_max: usize) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(bytes_max as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads a config file; a fault in words.
pub(crate) fn read_text(path: &Path) -> Result<String, String> {
    // One byte more than allowed, so that a file that is too large is noticed.
    let bytes =
        read_at_most(path, CONFIG_BYTES_MAX + 1).map_err(|error| format!("cannot be read: {error}"))?;
    String::from_utf8(bytes).map_err(|error| {
        let line =
            error.as_bytes().iter().take(error.utf8_error().valid_up_to()).filter(|b| **b == b'\n').count();
        format!("is not UTF-8 (line {}); save it as UTF-8", line + 1)
    })
}
