//! The driver that is guided by coverage: libFuzzer, with the target that the environment names.
//!
//! Started by `tests/fuzz/run.sh`, which builds it with the instrumentation that it needs.

#![no_main]
#![expect(clippy::panic, reason = "nothing can be looked for without a target")]

use fuzz::{Target, target};
use std::sync::OnceLock;

static TARGET: OnceLock<Target> = OnceLock::new();

libfuzzer_sys::fuzz_target!(init: {
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    let Some(found) = target(&name) else {
        let known: Vec<_> = fuzz::TARGETS.iter().map(|target| target.name).collect();
        panic!("FUZZ_TARGET is {name:?}, which is none of {}", known.join(", "));
    };
    TARGET.get_or_init(|| *found);
}, |bytes: &[u8]| {
    if let Some(target) = TARGET.get() {
        (target.run)(bytes);
    }
});
