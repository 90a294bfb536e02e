//! T10: no bytes that a client, an engine, an operator or a bad disk gives us break a reader.
//!
//! The properties are those of the crate `fuzz`. In the small size the corpus is played, and changed at random; at full
//! size libFuzzer looks for more, guided by coverage, ten minutes for each target.

use std::path::Path;
use std::process::{Command, Stdio};

use fuzz::{Changes, TARGETS, breaks, seeds};
use serde_json::json;

use harness::proof::{Finding, Proof, Setting, Trouble};

pub(crate) const PROOF: Proof = Proof {
    id: "T10",
    what: "fuzzing of all readers, guided by coverage (quick: the corpus, changed at random): inputs for which a property breaks",
    goal: "0",
    quick_s: 3,
    full_s: 7_300,
    needs: "a C++ compiler at full size",
    run,
};

/// Changed inputs of each target in the small size.
const CHANGED: u64 = 1_000;
/// Seconds for each target at full size.
const SECONDS: u32 = 600;

fn run(setting: &Setting) -> Result<Finding, Trouble> {
    let (broken, inputs, details) = if setting.quick { replayed(setting)? } else { searched()? };
    Ok(Finding {
        figure: format!("{broken} of {inputs} inputs for {} targets", TARGETS.len()),
        goal: PROOF.goal.to_owned(),
        ok: broken == 0 && inputs > 0,
        details,
    })
}

/// How many inputs break a property, of how many, and details.
type Found = (u64, u64, serde_json::Value);

fn replayed(setting: &Setting) -> Result<Found, Trouble> {
    let (mut broken, mut inputs) = (Vec::new(), 0);
    for target in TARGETS {
        let seeds: Vec<Vec<u8>> = seeds::of(target.name)?.into_iter().map(|(_, bytes)| bytes).collect();
        let mut changes = Changes::of(&seeds, setting.seeds(1).start);
        let changed = (0..CHANGED).map(|_| changes.next_input());
        for bytes in seeds.iter().cloned().chain(changed) {
            inputs += 1;
            if breaks(target, &bytes) {
                broken.push(json!({ "target": target.name, "input": String::from_utf8_lossy(&bytes) }));
            }
        }
    }
    Ok((broken.len() as u64, inputs, json!(broken)))
}

/// By the script that a person would call.
fn searched() -> Result<Found, Trouble> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fuzz/run.sh");
    let output = Command::new(script).arg(SECONDS.to_string()).stderr(Stdio::inherit()).output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    let broken = said.lines().filter(|line| line.starts_with("FAIL")).count() as u64;
    let inputs = said
        .lines()
        .filter_map(|line| line.strip_prefix("ok ")?.split_whitespace().nth(1)?.parse::<u64>().ok());
    let inputs = inputs.sum();
    if !output.status.success() && broken == 0 {
        return Err(Trouble::Unexpected(format!("the search did not run: {}", said.trim())));
    }
    Ok((broken, inputs, json!(said.lines().collect::<Vec<_>>())))
}
