//! What the process itself takes, under the names that Prometheus' clients agree on: `process_*`.
//!
//! Read from `/proc/self` alone, which is all that a service with `ProcSubset=pid` sees. What cannot be read is left out.

use crate::metric_table::METRICS;
use process::clock;
use rustix::process::{Resource, getrlimit};
use std::fmt::Write as _;

/// What the numbers in `/proc/self/stat` count.
const FIELDS_BEFORE_STATE: usize = 3;

/// Appends the process's own metrics to a page. Some system calls, and one for each open file.
pub fn append_to(page: &mut String) {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let used = Used::read(&stat);
    let started = clock::wall().saturating_sub(clock::now()).as_secs_f64();
    let files = std::fs::read_dir("/proc/self/fd").map(|listed| listed.count() as f64).ok();
    let files_max = getrlimit(Resource::Nofile).current.map(|most| most as f64);
    let values = [
        ("process_cpu_seconds_total", used.map(|used| used.cpu_s)),
        ("process_resident_memory_bytes", used.map(|used| used.resident)),
        ("process_virtual_memory_bytes", used.map(|used| used.virtual_)),
        ("process_threads", used.map(|used| used.threads)),
        // Without the one that the count itself holds.
        ("process_open_fds", files.map(|files| files - 1.0)),
        ("process_max_fds", files_max),
        ("process_start_time_seconds", Some(started)),
    ];
    for (name, value) in values {
        let metric = METRICS.iter().find(|metric| metric.name == name);
        if let (Some(metric), Some(value)) = (metric, value) {
            let kind = metric.kind.name();
            // Writing into memory does not fail.
            let _ = write!(page, "# HELP {name} {}\n# TYPE {name} {kind}\n{name} {value}\n\n", metric.help);
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Used {
    cpu_s: f64,
    threads: f64,
    virtual_: f64,
    resident: f64,
}

impl Used {
    /// Reads `/proc/self/stat`, see `proc_pid_stat(5)`. The name of the program, in parentheses, may hold anything.
    fn read(stat: &str) -> Option<Used> {
        let (_, rest) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let field = |number: usize| fields.get(number - FIELDS_BEFORE_STATE)?.parse::<f64>().ok();
        let tick = rustix::param::clock_ticks_per_second() as f64;
        let page = rustix::param::page_size() as f64;
        Some(Used {
            cpu_s: (field(14)? + field(15)?) / tick,
            threads: field(20)?,
            virtual_: field(23)?,
            resident: field(24)? * page,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_move_the_fields() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 9 0 100 4096000 25 18446744073709551615";
        let used = Used::read(stat).unwrap();

        let (tick, page) = (rustix::param::clock_ticks_per_second(), rustix::param::page_size());
        assert_eq!(used.cpu_s, 300.0 / tick as f64);
        assert_eq!((used.threads, used.virtual_, used.resident), (9.0, 4_096_000.0, (25 * page) as f64));
        assert_eq!(Used::read("nothing"), None);
    }
}
