//! T11: what hostile JSON costs in memory and in time.
//!
//! Thirty kinds of body of 8 MiB, those on which parsers that build trees take up to fifty times the memory of the body.
//! Each goes to a gateway process of its own, so that no memory that an allocator kept from the kind before hides what
//! this one takes. Peak of resident memory against that before, by the kernel's own mark; processor time of the process
//! for the whole request: read, understood, forwarded, answered.

mod bodies;

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};

use harness::contest::instant_engine;
use harness::proof::{Finding, Proof, RatioBound, Setting, Trouble};
use harness::raw::Connection;
use harness::tidegate::{Config, Tidegate, chat};
use kit::process;

pub(crate) const PROOF: Proof = Proof {
    id: "T11",
    what: "hostile JSON of 8 MiB: peak memory by body, processor time per MiB",
    goal: "≤3× + 256 KiB; ≤10 ms",
    quick_s: 6,
    full_s: 20,
    needs: "",
    run,
};

/// Bytes of each body.
const BYTES: usize = 8 << 20;
/// Peak memory by body.
const MEMORY: f64 = 3.0;
/// Bytes of memory on top, whatever the body.
const ALLOWANCE: u64 = 256 << 10;
/// Milliseconds of processor time per MiB of body.
const CPU: RatioBound = RatioBound { full: 10.0, quick: 40.0 };

/// What one body cost.
struct Cost {
    name: &'static str,
    status: u16,
    /// Peak memory beyond the allowance, by the body's bytes.
    memory: f64,
    cpu_ms_per_mib: f64,
}

fn run(setting: &Setting) -> Result<Finding, Trouble> {
    setting.block_on(async {
        let engine = instant_engine().await?;
        let config = Config::limitless(vec![engine.addr], 1);
        let mut costs = Vec::new();
        for (number, (name, body)) in bodies::all(BYTES).enumerate() {
            // Every third kind in quick size: each process takes a third of a second.
            if number % setting.size(3, 1) == 0 {
                costs.push(cost(setting, &config, name, &body).await?);
            }
        }
        let worst = |of: fn(&Cost) -> f64| costs.iter().max_by(|a, b| of(a).total_cmp(&of(b)));
        let (memory, cpu) = (worst(|cost| cost.memory), worst(|cost| cost.cpu_ms_per_mib));
        let (Some(memory), Some(cpu)) = (memory, cpu) else {
            return Err(Trouble::Unexpected("no body was sent".to_owned()));
        };
        let (cpu_goal, cpu_ok) = CPU.judge(setting.quick, cpu.cpu_ms_per_mib);
        let served = costs.iter().any(|cost| cost.status == 200);
        Ok(Finding {
            figure: format!(
                "{:.2}× ({}); {:.1} ms ({}); {} kinds",
                memory.memory,
                memory.name,
                cpu.cpu_ms_per_mib,
                cpu.name,
                costs.len()
            ),
            goal: format!("≤{MEMORY}× + 256 KiB; {cpu_goal} ms"),
            ok: memory.memory <= MEMORY && cpu_ok && served,
            details: json!({ "body_bytes": BYTES, "kinds": costs.iter().map(shown).collect::<Vec<_>>() }),
        })
    })
}

fn shown(cost: &Cost) -> Value {
    json!({
        "kind": cost.name, "status": cost.status, "memory_by_body": cost.memory,
        "cpu_ms_per_mib": cost.cpu_ms_per_mib,
    })
}

async fn cost(setting: &Setting, config: &Config, name: &'static str, body: &str) -> Result<Cost, Trouble> {
    let gateway = Tidegate::start(setting, "t11", config).await?;
    let pid = gateway.program.pid();
    let mut customer = Connection::open(gateway.address).await?;
    // What the first request of a process allocates once is not this body's.
    customer.exchange(&chat("key-0", &bodies::plain(1 << 10)), |_| ()).await?;
    drop(customer);
    tokio::time::sleep(Duration::from_millis(50)).await;
    let request = chat("key-0", body);
    // "5" sets the mark of the peak to what is resident now.
    fs::write(format!("/proc/{pid}/clear_refs"), "5")?;
    let (memory, cpu) = (process::peak(pid)?, process::cpu(pid)?);
    let mut customer = Connection::open(gateway.address).await?;
    let status = customer.exchange(&request, |_| ()).await?.status;
    let (peak, used) = (process::peak(pid)?, process::cpu(pid)? - cpu);
    let bytes = body.len() as f64;
    Ok(Cost {
        name,
        status,
        memory: peak.saturating_sub(memory).saturating_sub(ALLOWANCE) as f64 / bytes,
        cpu_ms_per_mib: used.as_secs_f64() * 1e3 / (bytes / f64::from(1 << 20)),
    })
}
