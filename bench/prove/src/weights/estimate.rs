//! `estimate`: how far off is the weight of a prompt, once the engine has counted fifty?
//!
//! For each vocabulary and kind of text the shipped gateway, which knows nothing yet, before an engine that counts with
//! that vocabulary. The default weights were fitted to another one. Fifty requests teach. Then the engine stops telling
//! usage, so what is booked is the gateway's own estimate, and nothing more is learnt; the engine's books have what it
//! counted. Some requests without usage go first and show what was known before.

pub(crate) mod texts;

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::harness::proof::{Finding, Proof, Setting, Trouble, WORSE};
use crate::harness::raw::Connection;
use crate::harness::tidegate::{Config, MODEL, Tidegate, chat};
use engine::clock;
use engine::profile::INSTANT;
use engine::server::{EngineServer, EngineServerConfig};
use engine::truth::Record;
use engine::vocabulary::{CL100K, EngineVocabulary, P50K};
use texts::{Half, KINDS, Kind, halves};

pub(crate) const PROOF: Proof = Proof {
    id: "estimate",
    what: "estimated prompt tokens against the engine's after 50 requests, mean error per request, worst kind of text",
    goal: "≤3 %",
    quick_s: 3,
    full_s: 30,
    needs: "",
    run,
};

/// Mean size of the error of one request.
const OFF_MAX: f64 = 0.03;
/// Beyond it something is wrong that is not known. The small size judges few requests, of texts that change with the
/// repository.
const KNOWN_MAX: f64 = 0.05;
/// Requests that teach.
const TAUGHT: usize = 50;
/// How long the log may take to tell of the last request: it is written in the background.
const LOG_PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, Deserialize)]
struct Line {
    request_id: String,
    prompt_tokens: Option<u64>,
    usage_missing: bool,
}

/// Errors of some estimates.
#[derive(Debug, Clone, Copy, Default)]
struct Errors {
    requests: u64,
    estimated: u64,
    counted: u64,
    /// Sum of the sizes of the relative errors.
    off: f64,
    worst: f64,
}

impl Errors {
    fn add(&mut self, estimated: u64, counted: u64) {
        let off = (estimated as f64 / counted.max(1) as f64 - 1.0).abs();
        self.requests += 1;
        self.estimated += estimated;
        self.counted += counted;
        self.off += off;
        self.worst = self.worst.max(off);
    }

    /// Per request.
    fn mean(&self) -> f64 {
        self.off / self.requests.max(1) as f64
    }

    /// Of all tokens together, with its sign.
    fn of_sum(&self) -> f64 {
        self.estimated as f64 / self.counted.max(1) as f64 - 1.0
    }

    fn shown(&self) -> Value {
        json!({ "requests": self.requests, "tokens": self.counted, "mean_of_each": self.mean(),
            "of_the_sum": self.of_sum(), "worst": self.worst })
    }
}

/// One kind of text on one vocabulary.
struct Row {
    vocabulary: &'static str,
    kind: Kind,
    before: Errors,
    after: Errors,
}

fn run(setting: &Setting) -> Result<Finding, Trouble> {
    let judged = setting.size(40, 200);
    let vocabularies: &[EngineVocabulary] = setting.size(&[CL100K], &[CL100K, P50K]);
    // The repository has little JSON that people wrote; the program prints more of it.
    let schema = Command::new(setting.binaries().tidegate()?).arg("schema").output()?.stdout;
    let schema = [String::from_utf8_lossy(&schema).into_owned()];
    let rows = setting.block_on(async {
        let mut rows = Vec::new();
        for &vocabulary in vocabularies {
            for kind in KINDS {
                let more: &[String] = if kind == Kind::Json { &schema } else { &[] };
                rows.push(play(setting, vocabulary, kind, more, judged).await?);
            }
        }
        Ok(rows)
    })?;
    let off = |row: &&Row| row.after.mean();
    let worst = rows.iter().max_by(|one, other| off(one).total_cmp(&off(other)));
    let worst = worst.ok_or_else(|| Trouble::Unexpected("nothing was judged".to_owned()))?;
    let percent = |share: f64| format!("{:.1} %", share * 100.0);
    let each: Vec<String> = rows
        .iter()
        .map(|row| {
            format!(
                "{} {} ({} before)",
                row.kind.name(),
                percent(row.after.mean()),
                percent(row.before.mean())
            )
        })
        .collect();
    let whole = rows.iter().all(|row| row.after.requests == judged as u64);
    Ok(Finding {
        figure: format!(
            "{}, of sums at most {}: {}",
            percent(worst.after.mean()),
            percent(rows.iter().map(|row| row.after.of_sum().abs()).fold(0.0, f64::max)),
            each.join(", ")
        ),
        goal: PROOF.goal.to_owned(),
        ok: off(&worst) <= OFF_MAX && whole,
        details: json!({ WORSE: off(&worst) > KNOWN_MAX || !whole, "taught": TAUGHT, "rows": rows.iter().map(|row| json!({
            "vocabulary": row.vocabulary, "text": row.kind.name(), "before": row.before.shown(),
            "after": row.after.shown(),
        })).collect::<Vec<_>>() }),
    })
}

/// A gateway and an engine that have never seen each other.
async fn play(
    setting: &Setting,
    vocabulary: EngineVocabulary,
    kind: Kind,
    more: &[String],
    judged: usize,
) -> Result<Row, Trouble> {
    let config = EngineServerConfig {
        profile: INSTANT,
        vocabulary: Some(vocabulary),
        ..EngineServerConfig::default()
    };
    let engine = EngineServer::start(config).await?;
    let gateway = Tidegate::start(setting, "estimate", &Config::limitless(vec![engine.addr], 1)).await?;
    let mut connection = Connection::open(gateway.address).await?;
    let [mut taught, mut unseen] = halves(kind, more, setting.seeds(1).start)?;
    send(&mut connection, &mut unseen, judged / 2, false).await?;
    send(&mut connection, &mut taught, TAUGHT, true).await?;
    // The last of them is settled after its answer was sent.
    gateway.settle(LOG_PATIENCE).await?;
    send(&mut connection, &mut unseen, judged, false).await?;
    let asked = judged / 2 + TAUGHT + judged;
    let lines = logged(setting, asked).await?;
    let records = engine.records();
    let counted: BTreeMap<&str, u64> = records
        .iter()
        .filter_map(|record: &Record| Some((record.request_id.as_deref()?, u64::from(record.prompt_tokens))))
        .collect();
    let errors = |lines: &[Line]| {
        let mut errors = Errors::default();
        for line in lines {
            let counted = counted.get(line.request_id.as_str()).copied();
            if let (true, Some(estimated), Some(counted)) = (line.usage_missing, line.prompt_tokens, counted)
            {
                errors.add(estimated, counted);
            }
        }
        errors
    };
    let (before, rest) = lines.split_at(lines.len().min(judged / 2));
    let after = rest.get(TAUGHT..).unwrap_or_default();
    Ok(Row { vocabulary: vocabulary.name, kind, before: errors(before), after: errors(after) })
}

/// So many requests one after the other, each with a text of its own. `told`: the engine tells its usage.
async fn send(
    connection: &mut Connection,
    half: &mut Half,
    requests: usize,
    told: bool,
) -> Result<(), Trouble> {
    for _ in 0..requests {
        let bytes = half.size();
        let mut body = json!({
            "model": MODEL, "max_tokens": 1, "messages": [{ "role": "user", "content": half.excerpt(bytes) }],
        });
        if let (false, Some(body)) = (told, body.as_object_mut()) {
            body.insert("user".to_owned(), "sim:no-usage".into());
        }
        let ended = connection.exchange(&chat("key-0", &body.to_string()), |_| ()).await?;
        if ended.status != 200 {
            return Err(Trouble::Unexpected(format!("status {}", ended.status)));
        }
    }
    Ok(())
}

/// The lines of the access log, once there are so many.
async fn logged(setting: &Setting, count: usize) -> Result<Vec<Line>, Trouble> {
    let end = clock::now() + LOG_PATIENCE;
    loop {
        let log = std::fs::read_to_string(setting.out.join("estimate-access.log"))?;
        let lines: Vec<Line> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        if lines.len() >= count {
            return Ok(lines);
        }
        if clock::now() > end {
            return Err(Trouble::Unexpected(format!("{} of {count} requests in the log", lines.len())));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
