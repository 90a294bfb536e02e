//! Where a search begins: recordings, examples and tables that the repository has anyway, and what was found before.

use std::fs;
use std::path::{Path, PathBuf};

/// Longest input that is kept, bytes: longer ones differ in nothing but length.
pub const KEPT_BYTES_MAX: usize = 256;
/// Inputs that are kept of a target, the shortest: a search finds the others again within seconds.
pub const KEPT_MAX: usize = 150;

/// Inputs of the target of this name, and where each is from.
///
/// # Errors
/// When a file of the repository cannot be read.
pub fn of(target: &str) -> std::io::Result<Vec<(PathBuf, Vec<u8>)>> {
    let house = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let kept = kept(target);
    let mut inputs = if kept.is_file() { read(&kept)? } else { Vec::new() };
    let answers = house.join("gateway/protocol/src/answer/fixtures");
    match target {
        "request" | "depth" | "members" => {
            inputs.extend(lines(&house.join("gateway/protocol/src/request/bodies.jsonl"))?);
        }
        "stream" | "answer" => {
            let mut recorded = files(&answers)?;
            recorded.iter_mut().for_each(|(_, bytes)| {
                *bytes = body(bytes);
                bytes.push(0x37);
            });
            inputs.extend(recorded);
        }
        "usage" | "error" => {
            let mut recorded = files(&answers)?;
            recorded.iter_mut().for_each(|(_, bytes)| *bytes = body(bytes));
            inputs.extend(recorded);
        }
        "metrics" => inputs.extend(files(&house.join("gateway/protocol/src/engine/fixtures"))?),
        "config" => inputs.extend(files(&house.join("deploy/examples"))?),
        _ => {}
    }
    Ok(inputs)
}

/// Writes the files of `folder` that are no longer than [`KEPT_BYTES_MAX`] as what is kept for `target`.
///
/// # Errors
/// When a file cannot be read or written.
pub fn keep(target: &str, folder: &Path) -> std::io::Result<()> {
    let mut lines: Vec<String> = files(folder)?
        .into_iter()
        .filter(|(_, bytes)| bytes.len() <= KEPT_BYTES_MAX)
        .map(|(_, bytes)| bytes.iter().map(|byte| format!("{byte:02x}")).collect())
        .collect();
    // Short ones first: those are read by people.
    lines.sort_by(|one, other| (one.len(), one).cmp(&(other.len(), other)));
    lines.truncate(KEPT_MAX);
    fs::write(kept(target), lines.iter().map(|line| format!("{line}\n")).collect::<String>())
}

/// The file of what was found for a target: an input a line, in hexadecimal digits.
fn kept(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(format!("{target}.hex"))
}

fn read(kept: &Path) -> std::io::Result<Vec<(PathBuf, Vec<u8>)>> {
    let text = fs::read_to_string(kept)?;
    let inputs: Option<Vec<_>> =
        text.lines().map(|line| Some((kept.to_owned(), from_digits(line)?))).collect();
    inputs.ok_or_else(|| std::io::Error::other(format!("{} is not in hexadecimal digits", kept.display())))
}

/// What is written in hexadecimal digits.
fn from_digits(digits: &str) -> Option<Vec<u8>> {
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok()).collect()
}

/// The files of a folder, in the order of their names.
fn files(folder: &Path) -> std::io::Result<Vec<(PathBuf, Vec<u8>)>> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.is_file())
        .collect();
    paths.sort();
    paths.into_iter().map(|path| Ok((path.clone(), fs::read(&path)?))).collect()
}

/// The bodies of a table of requests: text, or in hexadecimal digits.
fn lines(table: &Path) -> std::io::Result<Vec<(PathBuf, Vec<u8>)>> {
    let text = fs::read_to_string(table)?;
    let body = |line: &str| {
        let case: serde_json::Value = serde_json::from_str(line).ok()?;
        let text = |member: &str| case.get(member).and_then(|value| value.as_str());
        let body = text("body").map(|text| text.as_bytes().to_vec());
        Some((table.to_owned(), body.or_else(|| from_digits(text("hex")?))?))
    };
    Ok(text.lines().filter_map(body).collect())
}

/// What is behind the head of a recording.
fn body(recording: &[u8]) -> Vec<u8> {
    let end = recording.windows(4).position(|four| four == b"\r\n\r\n");
    end.and_then(|end| recording.get(end + 4..)).unwrap_or(recording).to_vec()
}
