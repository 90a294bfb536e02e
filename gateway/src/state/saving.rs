//! The thread that writes the journal: every second what was touched, and what then need not stay in memory goes.
//!
//! Of an error the log says once that it began and once that it is over; how often it came is counted. What could not be
//! saved is tried again the next time, and does not leave memory before.

use crate::clock;
use crate::state::gateway::Gateway;
use crate::state::journal::Journal;
use crate::state::registry::{IDLE_AFTER, Registry};
use metrics::{Counter, counter};
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// With more budgets in memory than this they leave it sooner: 8 KiB each make half a gigabyte.
const CROWD: usize = 65_536;
/// A budget that was not touched for this long leaves memory in a crowd. To find one again costs a read of the file.
const IDLE_AFTER_IN_A_CROWD: Duration = Duration::from_secs(5);

/// Saves every `interval` and lets idle budgets go, on a thread of its own, until the process ends.
///
/// # Errors
/// When the operating system gives no thread.
pub fn start(journal: Arc<Journal>, gateway: Arc<Gateway>, interval: Duration) -> io::Result<()> {
    let (never, wait) = crossbeam::channel::bounded::<()>(0);
    let mut troubles = Troubles::new();
    std::thread::Builder::new().name("journal".to_owned()).spawn(move || {
        // The sender is kept, so the only way out of the wait is its time.
        let _keep = never;
        loop {
            let _ = wait.recv_timeout(interval);
            troubles.save(&journal, &gateway.registry);
            if let_idle_go(&gateway.registry, clock::now(), CROWD) > 0 {
                gateway.snapshot().forget_gone();
            }
        }
    })?;
    Ok(())
}

/// Lets budgets go that have rested; how many. With more than `crowd` in memory a short rest is enough.
fn let_idle_go(registry: &Registry, now: Duration, crowd: usize) -> usize {
    let rest = if registry.in_memory() > crowd { IDLE_AFTER_IN_A_CROWD } else { IDLE_AFTER };
    registry.forget_idle(now.saturating_sub(rest))
}

/// What goes wrong with the disk.
struct Troubles {
    append: Trouble,
    rewrite: Trouble,
}

impl Troubles {
    fn new() -> Self {
        Troubles {
            append: Trouble::new("append", "budgets cannot be saved and would be lost by a restart"),
            rewrite: Trouble::new("rewrite", "the journal cannot be made smaller and goes on growing"),
        }
    }

    fn save(&mut self, journal: &Journal, registry: &Registry) {
        let saved = journal.save(registry.all_budgets());
        match saved.and_then(|done| journal.save_uses(&registry.unsaved_uses()).map(|()| done)) {
            Ok(appended) => {
                self.append.see(&Ok(()));
                tracing::trace!(budgets = appended.written, "saved");
                if let Some(rewritten) = appended.rewritten {
                    self.rewrite.see(&rewritten);
                }
            }
            failed => self.append.see(&failed.map(|_| ())),
        }
    }
}

/// One thing that may go wrong time and again.
struct Trouble {
    /// What that means, for people.
    means: &'static str,
    count: Counter,
    lasts: bool,
}

impl Trouble {
    fn new(work: &'static str, means: &'static str) -> Self {
        Trouble { means, count: counter!("tidegate_journal_errors_total", "work" => work), lasts: false }
    }

    /// It went well, or not: counted, and told if that is new.
    fn see(&mut self, outcome: &io::Result<()>) {
        let news = self.news(outcome.is_err());
        match (outcome, news) {
            (Err(e), true) => {
                tracing::error!("{}: {e}; free the disk or make the state folder writable", self.means);
            }
            (Ok(()), true) => tracing::info!("over: {}", self.means),
            (_, false) => {}
        }
    }

    fn news(&mut self, failed: bool) -> bool {
        self.count.increment(u64::from(failed));
        std::mem::replace(&mut self.lasts, failed) != failed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use limits::{Bounds, BudgetConfig, PerMeter, Policy};

    /// 65,537 real budgets would take half a gigabyte, so the crowd is made small instead.
    #[test]
    fn in_a_crowd_budgets_leave_memory_after_seconds_and_otherwise_after_minutes() {
        let folder = std::env::temp_dir().join(format!("tidegate-crowd-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        let journal = Journal::open(&folder).unwrap();
        let registry = Registry::default();
        let bounds = PerMeter::from_fn(|_| Bounds::fixed(60_000).unwrap());
        for nth in 0..10 {
            registry.insert(&format!("a{nth}"), "m", BudgetConfig { policy: Policy::Fixed, bounds });
        }
        let now = clock::now();
        let after = |seconds| now + Duration::from_secs(seconds);

        assert_eq!(let_idle_go(&registry, after(3_600), 9), 0, "none that was not saved");
        assert_eq!(journal.save(registry.budgets()).unwrap().written, 10);
        assert_eq!(let_idle_go(&registry, after(4), 9), 0, "they were used a moment ago");
        assert_eq!(let_idle_go(&registry, after(6), 10), 0, "ten are no crowd yet");
        assert_eq!(let_idle_go(&registry, after(6), 9), 10, "ten are one more than the crowd");
        assert_eq!(registry.in_memory(), 0);
        assert!(journal.find("a9", "m", BudgetConfig { policy: Policy::Fixed, bounds }).is_some());

        registry.insert("late", "m", BudgetConfig { policy: Policy::Fixed, bounds });
        journal.save(registry.budgets()).unwrap();
        assert_eq!(let_idle_go(&registry, after(590), 9), 0);
        assert_eq!(let_idle_go(&registry, after(610), 9), 1, "a lone one rests for ten minutes");
    }

    /// A disk that stays full must not fill the log as well.
    #[test]
    fn a_trouble_is_news_when_it_begins_and_when_it_is_over() {
        let mut trouble = Trouble::new("append", "nothing can be saved");
        let failed = [false, true, true, true, false, false, true];

        let news = failed.map(|failed| trouble.news(failed));

        assert_eq!(news, [false, true, false, false, true, false, true]);
    }
}
