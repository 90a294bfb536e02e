//! What must hold for any bytes: one function for each reader of what strangers send.
//!
//! A target takes bytes and panics where a property does not hold. Three drivers feed it: a test replays the corpus and
//! changes it at random for a while (`cargo test -p fuzz`), libFuzzer looks for inputs that reach new code
//! (`tests/fuzz/run.sh`), and whoever has found one plays it alone (`run.sh TARGET FILE`). What libFuzzer found and is worth
//! keeping lies in `corpus/TARGET.hex`; recordings, examples and tables that the repository has anyway are read from where
//! they are ([`seeds`]).
//!
//! | module | readers |
//! |---|---|
//! | [`requests`] | a client's body, its members, its depth, its framing, its key |
//! | [`answers`] | an engine's stream, whole answer, usage, error |
//! | [`pages`] | an engine's metrics and what it says of itself |
//! | [`files`] | the config, the digest of a key, the journal, the accounts made at run time |

#![expect(clippy::panic, reason = "a property that does not hold is told by a panic: to libFuzzer, too")]

pub mod answers;
mod changes;
pub mod files;
pub mod pages;
pub mod requests;
pub mod seeds;

pub use changes::Changes;

/// One reader and what must hold of it.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name: of its corpus, and on the command line.
    pub name: &'static str,
    /// What must hold for any bytes.
    pub holds: &'static str,
    /// Panics where it does not.
    pub run: fn(&[u8]),
}

/// All targets.
pub const TARGETS: [Target; 12] = [
    Target {
        name: "request",
        holds: "a body is refused, or what is sent to an engine is read as what was admitted",
        run: requests::request,
    },
    Target { name: "depth", holds: "the scan finds the depth that a parser finds", run: requests::depth },
    Target { name: "members", holds: "a member's place holds its value", run: requests::members },
    Target {
        name: "framing",
        holds: "the pieces in which a chunked body arrives make no difference",
        run: requests::framing,
    },
    Target { name: "key", holds: "headers give one key, or a refusal", run: requests::key },
    Target {
        name: "stream",
        holds: "the pieces in which a stream arrives make no difference to what is passed on and counted",
        run: answers::stream,
    },
    Target {
        name: "answer",
        holds: "an answer in pieces is passed on as one that comes at once; what a parser takes is complete",
        run: answers::whole,
    },
    Target { name: "usage", holds: "what is counted is possible", run: answers::usage },
    Target { name: "error", holds: "an error has words, and few", run: answers::error },
    Target { name: "metrics", holds: "a page gives possible numbers, or none", run: pages::all },
    Target {
        name: "config",
        holds: "a config is taken, or each fault has its place in the text",
        run: files::config,
    },
    Target {
        name: "state",
        holds: "a damaged journal or file of accounts opens, and what is written behind the damage is found",
        run: files::state,
    },
];

/// Whether the property of `target` does not hold for these bytes.
#[must_use]
pub fn breaks(target: Target, bytes: &[u8]) -> bool {
    std::panic::catch_unwind(|| (target.run)(bytes)).is_err()
}

/// The target of this name.
#[must_use]
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// Cuts `bytes` where their last byte says, so that each input has one way of arriving: the pieces, without that byte.
fn pieces(bytes: &[u8]) -> (&[u8], Vec<&[u8]>) {
    let Some((&control, content)) = bytes.split_last() else { return (bytes, Vec::new()) };
    // 1 to 15 bytes at a time, in turn with others, so that cuts fall everywhere.
    let (first, second) = (usize::from(control & 15).max(1), usize::from(control >> 4).max(1));
    let (mut cut, mut rest) = (Vec::new(), content);
    while !rest.is_empty() {
        let length = if cut.len() % 2 == 0 { first } else { second };
        let (piece, behind) = rest.split_at(length.min(rest.len()));
        cut.push(piece);
        rest = behind;
    }
    (content, cut)
}
