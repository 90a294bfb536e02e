//! What a decision takes while thousands of streams report: the lock of the deployment, which they share with it, included.
//!
//! The shipped admission behind a mutex, as the gateway has it, in real time. A second thread does what the gateway does for
//! streams: four times a second it lists those that run and tells the controller what each did, and between that requests
//! end and begin. The first thread offers a request, 2,000 times a second, and takes it back; how long that takes is
//! compared with the same where nothing runs and nobody reports.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use gateway_core::admission::Admission;
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use serde_json::json;
use shedder::{
    Config, Decision, Finished, Offer, PerTier, ReplicaConfig, ReplicaId, RequestId, Slo, StreamProgress,
    Tier, Uncached,
};

use crate::harness::proof::{Finding, Proof, Setting, Trouble, median};
use engine::clock;

pub(crate) const PROOF: Proof = Proof {
    id: "decision",
    what: "p99 of a decision while 5,000 streams report, against the same at rest",
    goal: "≤5×",
    quick_s: 2,
    full_s: 60,
    needs: "",
    run,
};

const STREAMS: u32 = 5_000;
const REPLICAS: u16 = 16;
const RATIO_MAX: f64 = 5.0;
/// How often streams report.
const PERIOD: Duration = Duration::from_millis(250);
/// Requests that end and begin between two reports: each lasts for some twenty seconds.
const CHURN: usize = 64;
/// Between two decisions.
const PAUSE: Duration = Duration::from_micros(500);

fn run(setting: &Setting) -> Result<Finding, Trouble> {
    let (rounds, decisions) = setting.size((1, 1_500), (5, 10_000));
    let (mut ratios, mut lines) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let rest = measure(0, decisions)?;
        let busy = measure(STREAMS, decisions)?;
        let p99 = |times: &Histogram<u64>| times.value_at_quantile(0.99) as f64 / 1e3;
        ratios.push(p99(&busy) / p99(&rest));
        lines.push(json!({
            "rest_us": { "p50": rest.value_at_quantile(0.5) as f64 / 1e3, "p99": p99(&rest), "max": rest.max() as f64 / 1e3 },
            "busy_us": { "p50": busy.value_at_quantile(0.5) as f64 / 1e3, "p99": p99(&busy), "max": busy.max() as f64 / 1e3 },
        }));
    }
    let ratio = median(&ratios);
    Ok(Finding {
        figure: format!("{ratio:.2}× ({})", lines.last().map(ToString::to_string).unwrap_or_default()),
        goal: PROOF.goal.to_owned(),
        ok: ratio <= RATIO_MAX,
        details: json!(lines),
    })
}

/// Nanoseconds of each of `decisions` while `streams` run and report.
fn measure(streams: u32, decisions: u32) -> Result<Histogram<u64>, Trouble> {
    let gate = Mutex::new(full_of(streams)?);
    let over = AtomicBool::new(false);
    let mut times =
        Histogram::new(3).map_err(|error| Trouble::Unexpected(format!("no histogram: {error}")))?;
    thread::scope(|scope| {
        if streams > 0 {
            scope.spawn(|| report(&gate, &over));
        }
        for _ in 0..decisions {
            thread::park_timeout(PAUSE);
            let began = clock::now();
            let decision = {
                let mut admission = gate.lock();
                let decision = admission.offer(began, offer(began), ());
                while admission.poll(began).is_some() {}
                decision
            };
            let took = u64::try_from((clock::now() - began).as_nanos()).unwrap_or(u64::MAX);
            // It resizes by itself: nothing is too long for it.
            let _ = times.record(took);
            if let Decision::Admit(permit) = decision {
                gate.lock().cancel(clock::now(), permit.id);
            }
        }
        over.store(true, Ordering::Relaxed);
    });
    Ok(times)
}

/// An admission of which `streams` places are taken by answers that have their first token.
fn full_of(streams: u32) -> Result<Admission<()>, Trouble> {
    let config = Config {
        fixed_limit: Some(f64::from(STREAMS)),
        ceilings: PerTier::from_fn(|_| 1.0),
        kv_tokens: Some(1 << 40),
        slo: Some(Slo { ttft: Duration::from_secs(2), tpot: Duration::from_millis(100) }),
        ..Config::default()
    };
    let replicas: Vec<ReplicaConfig> = (0..REPLICAS).map(|id| ReplicaConfig::new(ReplicaId(id))).collect();
    let now = clock::now();
    let mut admission = Admission::new(now, config, &replicas);
    let mut begun = 0;
    // Prompts are let in at the speed of prefill, so time has to pass.
    for step in 0..STREAMS * 4 {
        if begun == streams {
            return Ok(admission);
        }
        let at = now + Duration::from_millis(u64::from(step));
        begun += u32::from(begin(&mut admission, at).is_some());
    }
    Err(Trouble::Unexpected(format!("only {begun} of {streams} streams were let in")))
}

/// A stream that has its first token, or nobody where it has to wait.
fn begin(admission: &mut Admission<()>, now: Duration) -> Option<RequestId> {
    let permit = admission.try_admit(now, offer(now), ())?;
    admission.dispatched(now, permit.id);
    admission.first_token(now, permit.id);
    Some(permit.id)
}

/// What streams tell, until it is over.
fn report(gate: &Mutex<Admission<()>>, over: &AtomicBool) {
    while !over.load(Ordering::Relaxed) {
        let running: Vec<RequestId> = gate.lock().running().map(|(id, ())| id).collect();
        let told: Vec<StreamProgress> = running.iter().map(|id| progress(*id)).collect();
        {
            let mut admission = gate.lock();
            let now = clock::now();
            admission.tick(now, &told);
            while admission.poll(now).is_some() {}
        }
        for id in running.iter().take(CHURN) {
            thread::park_timeout(PERIOD / (CHURN as u32 + 1));
            let now = clock::now();
            let how = Finished { generated: 200, content_chunks: 200, ..Finished::default() };
            gate.lock().finish(now, *id, &how);
            begin(&mut gate.lock(), now);
        }
    }
}

/// Ten chunks, 25 ms apart.
fn progress(id: RequestId) -> StreamProgress {
    StreamProgress { id, chunks: 10, gap_sum: Duration::from_millis(250), gaps: 10 }
}

fn offer(now: Duration) -> Offer {
    Offer {
        tier: Tier::Priority,
        account: 1,
        user: None,
        weight: 1.0,
        prompt: 100,
        uncached: Uncached::everywhere(100),
        expected_output: 50,
        streaming: true,
        has_output: true,
        bytes: 400,
        arrived: now,
        deadline: None,
        needs: 0,
        affinity: None,
    }
}
