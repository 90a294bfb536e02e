//! One drill at a time, and the last few with their reports.

use crate::child::{Outcome, Task, play};
use client::views::drills::{DrillCheck, DrillRun};
use crossbeam::channel::{Sender, bounded};
use parking_lot::Mutex;
use process::clock;
use serde_json::Value;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// The longest time that a drill may take, seconds.
pub const SECONDS_MAX: u64 = 120;
/// Drills that are kept, with their reports of at most [`crate::child::OUTPUT_BYTES_MAX`] each.
pub const KEPT_MAX: usize = 5;
/// Characters of what a broken drill says that are kept.
const WORDS_MAX: usize = 2_000;
/// Conditions that are told.
const CHECKS_MAX: usize = 100;

/// A drill to play.
#[derive(Debug, Clone)]
pub struct Order {
    /// The scenario's name.
    pub scenario: String,
    /// For people.
    pub title: String,
    /// Who starts it: the first digits of the digest of a token.
    pub by: String,
    /// What is played.
    pub task: Task,
}

/// Why no drill was started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// One at a time.
    #[error("drill {0} runs; wait for its end, or stop it first")]
    Running(u64),
    /// The operating system gives no thread.
    #[error("the drill could not be started: {0}")]
    Thread(#[from] io::Error),
}

#[derive(Debug)]
struct Kept {
    run: DrillRun,
    begun: Duration,
    report: Option<Arc<str>>,
    /// Stops it while it runs.
    stop: Option<Sender<()>>,
}

/// The last drills.
#[derive(Debug, Default)]
pub struct Runner {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// The newest last.
    kept: VecDeque<Kept>,
    started: u64,
}

impl Runner {
    /// Starts a drill on a thread of its own, which tells `over` of its end.
    ///
    /// # Errors
    /// One runs already.
    pub fn start(
        self: &Arc<Self>,
        order: Order,
        over: impl FnOnce(&DrillRun) + Send + 'static,
    ) -> Result<DrillRun, StartError> {
        let mut inner = self.inner.lock();
        if let Some(running) = inner.kept.iter().find(|kept| kept.stop.is_some()) {
            return Err(StartError::Running(running.run.id));
        }
        inner.started += 1;
        let id = inner.started;
        let (sender, stop) = bounded(1);
        let (runner, task) = (Arc::clone(self), order.task.clone());
        // The process ends with this thread, which therefore waits for it.
        std::thread::Builder::new().name("drill".to_owned()).spawn(move || {
            let outcome = play(&task, Duration::from_secs(SECONDS_MAX), &stop);
            if let Some(run) = runner.ended(id, outcome) {
                over(&run);
            }
        })?;
        let run = begun(id, &order);
        if inner.kept.len() == KEPT_MAX {
            inner.kept.pop_front();
        }
        inner.kept.push_back(Kept {
            run: run.clone(),
            begun: clock::now(),
            report: None,
            stop: Some(sender),
        });
        Ok(run)
    }

    /// The last drills, the newest first.
    #[must_use]
    pub fn all(&self) -> Vec<DrillRun> {
        self.inner.lock().kept.iter().rev().map(Kept::shown).collect()
    }

    /// One of them.
    #[must_use]
    pub fn get(&self, id: u64) -> Option<DrillRun> {
        self.inner.lock().kept.iter().find(|kept| kept.run.id == id).map(Kept::shown)
    }

    /// Its report.
    #[must_use]
    pub fn report(&self, id: u64) -> Option<Arc<str>> {
        self.inner.lock().kept.iter().find(|kept| kept.run.id == id)?.report.clone()
    }

    /// Stops one that runs, and forgets one that is over. `false`: there is none.
    pub fn remove(&self, id: u64) -> bool {
        let mut inner = self.inner.lock();
        let Some(at) = inner.kept.iter().position(|kept| kept.run.id == id) else { return false };
        let stop = inner.kept.get(at).and_then(|kept| kept.stop.clone());
        match stop {
            // Asked twice is asked once.
            Some(stop) => drop(stop.try_send(())),
            None => drop(inner.kept.remove(at)),
        }
        true
    }

    fn ended(&self, id: u64, outcome: Outcome) -> Option<DrillRun> {
        let mut inner = self.inner.lock();
        let kept = inner.kept.iter_mut().find(|kept| kept.run.id == id)?;
        kept.stop = None;
        let run = &mut kept.run;
        run.took_seconds = took(kept.begun);
        run.ended = Some(wall());
        let (state, words) = match outcome {
            Outcome::Stopped => ("stopped", "An operator stopped it.".to_owned()),
            Outcome::TimedOut => {
                let words =
                    format!("It took longer than {SECONDS_MAX} s; make it shorter, or its traffic less.");
                ("timed_out", words)
            }
            Outcome::Broken(words) => ("broken", words.chars().take(WORDS_MAX).collect()),
            Outcome::Played { figures, report } => {
                run.checks = checks(&figures);
                run.has_report = true;
                run.report_bytes = report.len();
                kept.report = Some(report.into());
                verdict(&figures, &run.checks)
            }
        };
        (run.state, run.words) = (state.into(), words);
        Some(run.clone())
    }
}

impl Kept {
    fn shown(&self) -> DrillRun {
        let mut run = self.run.clone();
        if self.stop.is_some() {
            run.took_seconds = took(self.begun);
        }
        run
    }
}

fn begun(id: u64, order: &Order) -> DrillRun {
    DrillRun {
        id,
        scenario: order.scenario.clone(),
        title: order.title.clone(),
        model: order.task.model.clone(),
        calibrated: !order.task.measured.is_empty(),
        state: "running".into(),
        words: "It runs, in virtual time, in a process of its own.".to_owned(),
        started: wall(),
        ended: None,
        took_seconds: 0.0,
        by: order.by.clone(),
        has_report: false,
        report_bytes: 0,
        checks: Vec::new(),
    }
}

fn checks(figures: &Value) -> Vec<DrillCheck> {
    let all = figures["checks"].as_array().into_iter().flatten().take(CHECKS_MAX);
    all.map(|check| {
        let part = |name: &str| check[name].as_str().unwrap_or("?").to_owned();
        DrillCheck {
            ok: check["ok"].as_bool().unwrap_or(false),
            text: format!("{}: {}, wanted {}", part("what"), part("figure"), part("goal")),
        }
    })
    .collect()
}

fn verdict(figures: &Value, checks: &[DrillCheck]) -> (&'static str, String) {
    let passed = figures["passed"].as_bool().unwrap_or(false);
    let held = checks.iter().filter(|check| check.ok).count();
    let words = match checks.len() {
        0 => "It was played; no condition was set.".to_owned(),
        all => format!("{held} of {all} conditions held."),
    };
    (if passed { "passed" } else { "failed" }, words)
}

fn took(begun: Duration) -> f64 {
    rounded(clock::now().saturating_sub(begun))
}

fn wall() -> f64 {
    rounded(clock::wall())
}

/// Seconds, to the millisecond.
fn rounded(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(name: &str, program: &str) -> Order {
        let task = crate::child::tests::task(name, program);
        Order { scenario: "surge".to_owned(), title: "Surge".to_owned(), by: "1a2b".to_owned(), task }
    }

    /// Plays one to its end.
    fn played(runner: &Arc<Runner>, order: Order) -> DrillRun {
        let (sender, over) = bounded(1);
        let folder = order.task.program.parent().unwrap().to_owned();
        runner.start(order, move |run| drop(sender.send(run.clone()))).unwrap();
        let run = over.recv_timeout(Duration::from_secs(30)).unwrap();
        std::fs::remove_dir_all(folder).unwrap();
        run
    }

    #[test]
    fn one_at_a_time_and_the_next_after_it_was_stopped() {
        let runner = Arc::new(Runner::default());
        let (sender, over) = bounded(1);
        let endless = order("one", "exec sleep 600");
        let first = runner.start(endless.clone(), move |run| drop(sender.send(run.state.clone()))).unwrap();
        let second = runner.start(endless.clone(), |_| {});
        assert!(matches!(second, Err(StartError::Running(id)) if id == first.id));
        assert!(runner.remove(first.id));
        assert_eq!(over.recv_timeout(Duration::from_secs(30)).unwrap(), "stopped");
        assert_eq!(runner.all().len(), 1, "a drill that was stopped is kept until it is removed");
        assert!(runner.remove(first.id) && !runner.remove(first.id));
        assert_eq!(played(&runner, order("one", "exit 2")).state, "broken");
    }

    #[test]
    fn the_last_five_are_kept() {
        let runner = Arc::new(Runner::default());
        let good = "read job; echo '{\"passed\":true}'; echo '<p>report</p>'";
        (0..KEPT_MAX + 2).for_each(|_| drop(played(&runner, order("five", good))));
        let ids: Vec<u64> = runner.all().iter().map(|run| run.id).collect();
        assert_eq!(ids, [7, 6, 5, 4, 3]);
        assert!(runner.get(1).is_none() && runner.report(2).is_none());
        assert_eq!(runner.report(7).as_deref(), Some("<p>report</p>\n"));
    }

    #[test]
    fn figures_become_a_verdict_in_words() {
        let figures = serde_json::json!({ "passed": false, "checks": [
            { "what": "served within the SLO", "goal": "≥ 99 %", "figure": "93 %", "ok": false },
            { "what": "goodput", "goal": "≥ 5/s", "figure": "6/s", "ok": true },
        ]});
        let told = checks(&figures);
        assert_eq!(told[0].text, "served within the SLO: 93 %, wanted ≥ 99 %");
        assert_eq!(verdict(&figures, &told), ("failed", "1 of 2 conditions held.".to_owned()));
    }
}
