//! T14: nothing grows, however long a gateway serves a bad mixture of requests.
//!
//! The crowd of T1, over two replicas that fail in every way, for an hour. After a first part of it, which fills what is
//! learnt and remembered up to its bounds, and again at the end, the crowd rests until nothing runs: live heap and
//! descriptors must be the same. The program is built with an allocator that counts what is allocated and not freed, since
//! resident memory says as much of the allocator as of the program.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use crate::books::t1::{config, crowd, descriptors_at_rest, descriptors_idle, engine, reap};
use engine::clock;
use engine::profile::{INSTANT, LLAMA_8B_A100};
use harness::proof::{Finding, Proof, Setting, Trouble};
use harness::tidegate::Tidegate;
use kit::process;

pub(crate) const PROOF: Proof = Proof {
    id: "T14",
    what: "soak with faults: live heap from the first part to the end; descriptors; what is left of requests",
    goal: "≤+1 %; +0; 0",
    quick_s: 28,
    full_s: 3_700,
    needs: "",
    run,
};

/// Growth of live heap.
const GROWTH_MAX: f64 = 0.01;
/// In the small size: half a minute is too short to fill all that is remembered for minutes.
const GROWTH_MAX_QUICK: f64 = 0.05;
/// Longer than every timeout, and than idle connections to engines are kept.
const REST: Duration = Duration::from_secs(6);
const REST_PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at the heap at rest; the smallest of some is free of what background tasks hold for a moment.
const LOOK_EVERY: Duration = Duration::from_millis(200);
const LOOKS: usize = 10;

/// A gateway at rest.
#[derive(Debug, Clone, Copy)]
struct AtRest {
    heap: u64,
    resident: u64,
    descriptors: usize,
    left: u64,
}

fn run(setting: &Setting) -> Result<Finding, Trouble> {
    setting.block_on(async {
        let steady = engine(LLAMA_8B_A100, 20.0, None).await?;
        let mortal = engine(INSTANT, 1.0, None).await?;
        let mortal_address = mortal.addr;
        let config = config(steady.addr, mortal_address);
        let (gateway, heap) = Tidegate::counted(setting, "t14", &config).await?;
        let descriptors = descriptors_idle(gateway.program.pid()).await?;
        let reaper = tokio::spawn(reap(mortal, mortal_address));

        let (first, second) = setting.size((4, 5), (600, 3_000));
        let filled = soak(&gateway, &heap, Duration::from_secs(first), descriptors).await?;
        let end = soak(&gateway, &heap, Duration::from_secs(second), descriptors).await?;
        reaper.abort();

        let growth = end.heap as f64 / filled.heap as f64 - 1.0;
        let most = if setting.quick { GROWTH_MAX_QUICK } else { GROWTH_MAX };
        let left = filled.left + end.left;
        let more = end.descriptors.saturating_sub(descriptors);
        Ok(Finding {
            figure: format!("{:+.2} % of {} KiB; +{more}; {left}", growth * 100.0, filled.heap >> 10),
            goal: if setting.quick { format!("{} (quick: ≤+5 %)", PROOF.goal) } else { PROOF.goal.to_owned() },
            ok: growth <= most && more == 0 && left == 0,
            details: json!({
                "seconds": [first, second], "heap": [filled.heap, end.heap],
                "resident": [filled.resident, end.resident], "descriptors": [descriptors, filled.descriptors, end.descriptors],
            }),
        })
    })
}

/// Lets the crowd in for `time`, and then looks at what is left of it.
async fn soak(
    gateway: &Tidegate,
    heap: &Path,
    time: Duration,
    descriptors: usize,
) -> Result<AtRest, Trouble> {
    let end = clock::now() + time;
    crowd(gateway.address, Arc::new(move || clock::now() < end)).await;
    let invariants = gateway.settle(REST_PATIENCE).await?;
    tokio::time::sleep(REST).await;
    let pid = gateway.program.pid();
    let descriptors = descriptors_at_rest(pid, descriptors).await?;
    let mut least = u64::MAX;
    for _ in 0..LOOKS {
        tokio::time::sleep(LOOK_EVERY).await;
        least = least.min(live(heap)?);
    }
    let left = invariants.counters.values().sum();
    Ok(AtRest { heap: least, resident: process::memory(pid)?, descriptors, left })
}

/// The live heap that the program last wrote down, bytes.
fn live(heap: &Path) -> Result<u64, Trouble> {
    let text = std::fs::read_to_string(heap)?;
    text.trim().parse().map_err(|_| Trouble::Unexpected(format!("no live heap in {}", heap.display())))
}
