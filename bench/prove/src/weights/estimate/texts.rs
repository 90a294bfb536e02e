//! Texts that people wrote: the prose, the code and the JSON of this repository, and Chinese that was written for it.
//!
//! The documents of a kind are dealt into two halves. One teaches and the other is judged, so nothing that is judged was
//! seen before.

use std::io;
use std::path::{Path, PathBuf};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Prose,
    Code,
    Json,
    Chinese,
}

pub(super) const KINDS: [Kind; 4] = [Kind::Prose, Kind::Code, Kind::Json, Kind::Chinese];

/// Where files are looked for, from the top of the repository.
const FOLDERS: [&str; 7] = ["bench", "deploy", "gateway", "limits", "shedder", "tests", "tokenizer"];
/// Folders that hold what others wrote, or what was built.
const NOT_IN: [&str; 3] = ["node_modules", "target", "venv"];
/// JSON files are few and long: they are dealt in pieces of so many lines.
const JSON_LINES: usize = 100;
/// A longer line is no text for people, such as a file in one line; it is left out. Bytes.
const LINE_MAX: usize = 1_000;

const CHINESE: &str = include_str!("chinese.txt");

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Prose => "prose",
            Kind::Code => "code",
            Kind::Json => "JSON",
            Kind::Chinese => "Chinese",
        }
    }

    fn endings(self) -> &'static [&'static str] {
        match self {
            Kind::Prose => &["md"],
            Kind::Code => &["rs", "py", "mjs", "js", "sh"],
            Kind::Json => &["json"],
            Kind::Chinese => &[],
        }
    }
}

/// One half of the documents of a kind.
#[derive(Debug)]
pub(crate) struct Half {
    documents: Vec<String>,
    random: SmallRng,
}

/// The half that teaches and the half that is judged, of the kind's documents and `more`.
///
/// # Errors
/// The repository cannot be read.
pub(crate) fn halves(kind: Kind, more: &[String], seed: u64) -> io::Result<[Half; 2]> {
    let documents = documents(kind, more)?;
    let half = |odd: usize| Half {
        documents: documents.iter().skip(odd).step_by(2).cloned().collect(),
        random: SmallRng::seed_from_u64(seed ^ odd as u64),
    };
    Ok([half(0), half(1)])
}

impl Half {
    /// So many bytes, or some more, of whole lines: from anywhere in a document, and then from another one.
    pub(crate) fn excerpt(&mut self, bytes: usize) -> String {
        let mut text = String::new();
        while text.len() < bytes {
            let at = self.random.random_range(0..self.documents.len().max(1));
            let Some(document) = self.documents.get(at) else { break };
            let lines: Vec<&str> = document.lines().collect();
            let first = self.random.random_range(0..lines.len().max(1));
            for line in lines.into_iter().skip(first) {
                if text.len() >= bytes {
                    break;
                }
                text.push_str(line);
                text.push('\n');
            }
        }
        text
    }

    /// Bytes of a request: in the mean about the 1,155 tokens of the conversations that the other proofs play.
    pub(super) fn size(&mut self) -> usize {
        self.random.random_range(500..9_500)
    }
}

fn documents(kind: Kind, more: &[String]) -> io::Result<Vec<String>> {
    if kind == Kind::Chinese {
        return Ok(CHINESE.split("\n\n").flat_map(every_other_sentence).collect());
    }
    let mut files = Vec::new();
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for folder in FOLDERS {
        collect(&top.join(folder), kind.endings(), &mut files)?;
    }
    for file in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"] {
        files.extend(Some(top.join(file)).filter(|_| kind == Kind::Prose));
    }
    files.sort();
    let mut texts = more.to_vec();
    for file in files {
        // Lists of tokens are no text that anybody writes.
        if file.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("tokenizer")) {
            continue;
        }
        // What is not UTF-8 is no text.
        texts.extend(std::fs::read_to_string(&file));
    }
    let mut documents = Vec::new();
    for text in texts {
        let lines: Vec<&str> = text.lines().filter(|line| line.len() <= LINE_MAX).collect();
        let piece = if kind == Kind::Json { JSON_LINES } else { lines.len().max(1) };
        documents.extend(lines.chunks(piece).map(|lines| lines.join("\n")));
    }
    // A file that is kept in two places would be taught and judged.
    documents.sort();
    documents.dedup();
    Ok(documents)
}

/// Both halves know the subjects of all paragraphs, as before and after fifty requests an account has the same ones.
fn every_other_sentence(paragraph: &str) -> [String; 2] {
    [0, 1].map(|odd| {
        paragraph.split_inclusive('。').skip(odd).step_by(2).map(|one| format!("{one}\n")).collect()
    })
}

fn collect(folder: &Path, endings: &[&str], files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() {
            if !NOT_IN.contains(&name) && !name.starts_with('.') {
                collect(&path, endings, files)?;
            }
        } else if path.extension().and_then(|ending| ending.to_str()).is_some_and(|e| endings.contains(&e)) {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_document_is_taught_and_judged() {
        for kind in KINDS {
            let [taught, judged] = halves(kind, &[], 1).expect("the repository is here");
            assert!(taught.documents.len() >= 4 && judged.documents.len() >= 4, "{kind:?}");
            assert!(taught.documents.iter().all(|document| !judged.documents.contains(document)), "{kind:?}");
        }
    }

    #[test]
    fn an_excerpt_is_about_as_long_as_asked_for() {
        let [mut half, _] = halves(Kind::Code, &[], 1).expect("the repository is here");
        for bytes in [400, 4_000] {
            assert!((bytes..bytes + LINE_MAX + 1).contains(&half.excerpt(bytes).len()));
        }
    }
}
