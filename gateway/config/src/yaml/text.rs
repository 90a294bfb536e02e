//! Reading a file as bounded text.

use std::io::Read as _;
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

/// Largest config file, bytes: 10,000 accounts need about 2 MiB.
pub const CONFIG_BYTES_MAX: usize = 4 << 20;

/// Reads a file that the config names, at most `bytes_max` bytes of it.
///
/// # Errors
/// What the operating system says. What is no file (a pipe, a device, a folder) is refused before it is opened: the
/// opening of a pipe waits for a writer.
pub fn read_file(path: &Path, bytes_max: usize) -> std::io::Result<Vec<u8>> {
    let kind = std::fs::metadata(path)?.file_type();
    if !kind.is_file() {
        let what = if kind.is_fifo() {
            "it is a pipe; put its content into a file"
        } else if kind.is_dir() {
            "it is a folder"
        } else {
            "it is no file"
        };
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, what));
    }
    read_at_most(path, bytes_max)
}

fn read_at_most(path: &Path, bytes_max: usize) -> std::io::Result<Vec<u8>> {
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
