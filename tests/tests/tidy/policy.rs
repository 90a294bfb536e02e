//! What is decided about a request is computed in `gateway/core` and the pure crates, and nowhere else: not in the shells around
//! them, which are the gateway and the drill.
//!
//! The exact rule: in the files of [`SHELLS`], outside `#[cfg(test)]`, there is no constant of a floating point type, and none of
//! the functions in [`CURVES`] is called. A weight, a share, a smoothing or a curve is a matter of policy; what a shell needs
//! beside it, bytes, times and counts, are whole numbers and durations. Who has a reason stands in [`WITH_REASON`].

use super::source::{self, Source, tokens};

/// Where nothing is decided.
const SHELLS: &[&str] = &[
    "gateway/src/proxy/",
    "gateway/upstream/src/",
    "gateway/src/state/",
    "gateway/downstream/src/",
    "gateway/accounts/src/",
    "gateway/weighing/src/",
    "bench/drill/src/play.rs",
    "bench/drill/src/play/",
    "bench/drill/src/policy.rs",
    "bench/drill/src/policy/",
];

/// What curves are made of.
const CURVES: &[&str] = &["ln", "exp", "exp2", "powi", "powf", "sqrt", "cbrt", "hypot", "mul_add"];

/// Files with a reason.
const WITH_REASON: &[(&str, &str)] = &[
    ("bench/drill/src/play/network.rs", "how long a simulated network takes, which is nobody's decision"),
    ("bench/drill/src/policy/rivals.rs", "the rules of others, written down to be compared with"),
];

fn arithmetic(source: &Source) -> Vec<String> {
    let is_excused = WITH_REASON.iter().any(|(file, _)| *file == source.path);
    if is_excused || !SHELLS.iter().any(|shell| source.path.starts_with(shell)) {
        return Vec::new();
    }
    let code = source.shipped();
    let tokens = tokens(&code);
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text);
    let fault = |line: usize, what: &str| {
        format!(
            "{}:{line}: {what}. Decide it in gateway/core or in a pure crate, and ask there.",
            source.path
        )
    };
    let mut faults = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        if token.text == "const" && text(at + 2) == ":" && matches!(text(at + 3), "f64" | "f32") {
            faults.push(fault(token.line, &format!("`{}` is a number of policy", text(at + 1))));
        }
        let is_called = text(at + 1) == "(" && at > 0 && matches!(text(at - 1), "." | "::");
        if CURVES.contains(&token.text) && is_called {
            faults.push(fault(token.line, &format!("`{}` is a curve", token.text)));
        }
    }
    faults
}

#[test]
fn shells_compute_no_policy() {
    let sources = source::all();
    let tests = source::test_only(sources);
    let shipped = sources.iter().filter(|source| !tests.contains(&source.path));

    super::assert_none(&shipped.flat_map(arithmetic).collect::<Vec<_>>());
}

#[test]
fn every_shell_and_every_reason_is_there() {
    let sources = source::all();
    for shell in SHELLS {
        assert!(
            sources.iter().any(|source| source.path.starts_with(shell)),
            "{shell} is gone: strike it off"
        );
    }
    for (file, _) in WITH_REASON {
        let source = sources.iter().find(|source| source.path == *file);
        let excused = source.is_some_and(|source| {
            let elsewhere = Source::new("gateway/src/proxy/sample.rs", &source.text);
            !arithmetic(&elsewhere).is_empty()
        });
        assert!(excused, "{file} needs no reason any more: strike it off");
    }
}

#[test]
fn a_number_and_a_curve_are_found() {
    let sample = |code: &str| arithmetic(&Source::new("gateway/src/proxy/sample.rs", code));

    super::assert_one(&sample("const GAIN: f64 = 0.1;"), &["sample.rs:1", "`GAIN` is a number of policy"]);
    super::assert_one(&sample("fn f(x: f64) -> f64 { x.powi(2) }"), &["`powi` is a curve"]);
    super::assert_one(&sample("fn f(x: f64) -> f64 { f64::sqrt(x) }"), &["`sqrt` is a curve"]);
    assert!(sample("const MOST: u64 = 5; fn ln() {} const F: fn(f64) = g;").is_empty());
    assert!(sample("#[cfg(test)]\nmod tests { const GAIN: f64 = 0.1; }").is_empty());
}
