//! What `tidegate status` shows, as lines of a width: no terminal, no clock.

use super::Status;
use crate::views::deployments::{DeploymentState, ReplicaState, TierState};
use std::collections::BTreeMap;

/// For whom it is drawn.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    /// Columns.
    pub(super) width: usize,
    /// Lines; what does not fit is left out, the least urgent first.
    pub(super) height: usize,
    /// Whether states have colours.
    pub(super) colour: bool,
}

/// Columns of a bar.
const BAR: usize = 12;
/// Refusals that are counted by reason in one line.
const REASONS_MAX: usize = 6;

/// Draws a status.
#[derive(Debug)]
pub(super) struct Screen {
    look: Look,
}

impl Screen {
    /// The lines of `status`, each within the width.
    pub(super) fn of(status: &Status, look: Look) -> Vec<String> {
        let screen = Screen { look };
        let mut lines = vec![screen.head(status), screen.config(status), String::new()];
        lines.extend(screen.deployments(&status.deployments.deployments));
        let refused = screen.refused(status);
        let room = look.height.saturating_sub(lines.len() + refused.len() + 1);
        let replicas = screen.replicas(&status.deployments.deployments, room);
        if !replicas.is_empty() {
            lines.push(String::new());
            lines.extend(replicas);
        }
        lines.push(String::new());
        lines.extend(refused);
        lines.truncate(look.height);
        lines
    }

    fn head(&self, status: &Status) -> String {
        let version = &status.version;
        let state = if version.draining { self.warned("draining") } else { self.good("serving") };
        self.cut(&format!(
            "tidegate {}  {state}  pid {}  up {}  {} in flight  {} connections",
            version.version,
            version.pid,
            span(version.uptime_seconds),
            version.requests_in_flight,
            version.connections,
        ))
    }

    fn config(&self, status: &Status) -> String {
        let config = &status.version.config;
        if config.last_reload_failed {
            self.cut(&self.bad("the last change of the config was refused; `tidegate reload` says why"))
        } else {
            self.cut(&format!("config of {}", config.loaded))
        }
    }

    fn deployments(&self, all: &[DeploymentState]) -> Vec<String> {
        let name = widest(all.iter().map(|one| &*one.name), "deployment");
        let mut lines = vec![self.cut(&format!(
            "{:name$}  {:<17} {:>8} {:>11}  {:>23}  {:>23}",
            "deployment",
            "saturation",
            "replicas",
            "running/N",
            "priority wait in/s 503/s",
            "regular wait in/s 503/s"
        ))];
        for one in all {
            let serving = one.replicas.iter().filter(|replica| replica.health == "serving").count();
            let of = format!("{serving}/{}", one.replicas.len());
            let of = format!("{of:>8}");
            let of = match serving {
                0 => self.bad(&of),
                some if some < one.replicas.len() => self.warned(&of),
                _ => of,
            };
            let tier =
                |name: &str| one.tiers.iter().find(|tier| tier.tier == name).map(rates).unwrap_or_default();
            let pressed = match &one.pressure {
                Some(pressure) => self.warned(&format!("  {:.0} % pretended gone", 100.0 * pressure.share)),
                None => String::new(),
            };
            lines.push(self.cut(&format!(
                "{:name$}  {} {of} {:>11}  {:>24}  {:>23}{pressed}",
                one.name,
                self.bar(one.saturation),
                format!("{}/{:.0}", one.active, one.limit),
                tier("priority"),
                tier("regular"),
            )));
        }
        lines
    }

    /// Those that need somebody first, as many as there is room for.
    fn replicas(&self, all: &[DeploymentState], room: usize) -> Vec<String> {
        let mut each: Vec<(&DeploymentState, &ReplicaState)> =
            all.iter().flat_map(|one| one.replicas.iter().map(move |replica| (one, replica))).collect();
        each.sort_by(|(_, a), (_, b)| {
            let rank = |replica: &ReplicaState| u8::from(replica.health == "serving");
            rank(a).cmp(&rank(b)).then(b.saturation.total_cmp(&a.saturation))
        });
        if each.is_empty() || room < 2 {
            return Vec::new();
        }
        let name = widest(all.iter().map(|one| &*one.name), "deployment");
        let url = widest(each.iter().map(|(_, replica)| replica.replica.as_str()), "replica");
        let mut lines = vec![self.cut(&format!(
            "{:name$}  {:>3} {:url$}  {:<8}  {:<17} {:>11} {:>9} {:>7}",
            "deployment", "id", "replica", "health", "saturation", "running/N", "prefill", "gap ms"
        ))];
        let left_out = (each.len() + 1).saturating_sub(room);
        let shown = if left_out > 0 { room - 2 } else { each.len() };
        for (deployment, replica) in each.iter().take(shown) {
            let health = format!("{:<8}", replica.health);
            let health = match &*replica.health {
                "serving" => health,
                "down" => self.bad(&health),
                _ => self.warned(&health),
            };
            lines.push(self.cut(&format!(
                "{:name$}  {:>3} {:url$}  {health}  {} {:>11} {:>9} {:>7}",
                deployment.name,
                replica.id,
                replica.replica,
                self.bar(replica.saturation),
                format!("{}/{:.0}", replica.active, replica.limit),
                replica.backlog_tokens,
                replica.gap_ms.map_or_else(|| "-".to_owned(), |gap| format!("{gap:.1}")),
            )));
        }
        if left_out > 0 {
            lines.push(self.cut(&format!("and {} more: tidegate deployments", each.len() - shown)));
        }
        lines
    }

    fn refused(&self, status: &Status) -> Vec<String> {
        let refusals = &status.refusals.refusals;
        let Some(newest) = refusals.first() else { return vec!["no refusals".to_owned()] };
        let mut counts: BTreeMap<(u16, &str), usize> = BTreeMap::new();
        refusals.iter().for_each(|one| *counts.entry((one.status, &*one.reason)).or_default() += 1);
        let mut counts: Vec<_> = counts.into_iter().collect();
        counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let counts = counts.iter().take(REASONS_MAX);
        let reasons: Vec<String> =
            counts.map(|((status, reason), count)| format!("{count} {status} {reason}")).collect();
        let account = newest.account.as_deref().unwrap_or("-");
        vec![
            self.cut(&format!("last {} refusals: {}", refusals.len(), reasons.join(", "))),
            self.cut(&format!("newest: {} {account} {} {}", newest.time, newest.reason, newest.request_id)),
        ]
    }

    /// How full, as a bar and a number.
    fn bar(&self, share: f64) -> String {
        let full = ((share.clamp(0.0, 1.0) * BAR as f64).round() as usize).min(BAR);
        let text =
            format!("{}{} {:>3.0}%", "█".repeat(full), "░".repeat(BAR - full), 100.0 * share.min(9.99));
        match share {
            full if full >= 0.95 => self.bad(&text),
            high if high >= 0.8 => self.warned(&text),
            _ => text,
        }
    }

    fn good(&self, text: &str) -> String {
        self.painted("32", text)
    }

    fn warned(&self, text: &str) -> String {
        self.painted("33", text)
    }

    fn bad(&self, text: &str) -> String {
        self.painted("31", text)
    }

    fn painted(&self, code: &str, text: &str) -> String {
        if self.look.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// As much of a line as fits. Colours take no room; other control characters are not shown.
    fn cut(&self, line: &str) -> String {
        let mut out = String::with_capacity(line.len());
        let (mut width, mut is_code) = (0, false);
        for c in line.chars() {
            if c == '\x1b' {
                is_code = true;
            }
            if is_code {
                is_code = !c.is_ascii_alphabetic();
                out.push(c);
            } else if width < self.look.width && !c.is_control() {
                width += 1;
                out.push(c);
            }
        }
        out.truncate(out.trim_end().len());
        out
    }
}

fn rates(tier: &TierState) -> String {
    let minute = &tier.last_minute;
    format!("{} {:.1} {:.1}", tier.queued, minute.admitted_per_s, minute.shed_per_s)
}

fn widest<'t>(texts: impl Iterator<Item = &'t str>, head: &str) -> usize {
    texts.map(|text| text.chars().count()).chain([head.len()]).max().unwrap_or(0)
}

/// A span of time in its two largest units.
fn span(seconds: f64) -> String {
    let seconds = seconds as u64;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, ..) => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn replica(id: u16, health: &str, saturation: f64) -> Value {
        json!({ "id": id, "replica": format!("http://10.0.0.{id}:8000"), "health": health, "healthy": true, "drained": false,
            "active": 3, "with_token": 2, "limit": 8.4, "saturation": saturation, "backlog_tokens": 1200, "kv_tokens": 0,
            "kv_capacity_tokens": null, "kv_learnt_tokens": null, "gap_ms": 31.25, "prefill_tokens_per_s": null,
            "scrape_age_ms": null })
    }

    fn tier(name: &str, queued: u32) -> Value {
        let minute = json!({ "seconds": 60.0, "admitted": 600, "waited": 0, "shed": 6, "shed_by_reason": {},
            "admitted_per_s": 10.0, "shed_per_s": 0.1 });
        json!({ "tier": name, "open": true, "ceiling": 1.0, "queued": queued, "queued_tokens": 0, "oldest_wait_ms": 0,
            "top_accounts": [], "admitted": 0, "waited": 0, "shed": 0, "shed_by_reason": {}, "last_minute": minute })
    }

    fn status(replicas: Vec<Value>) -> Status {
        let deployment = json!({ "name": "llama", "engine": "vllm", "models": ["m"], "saturation": 0.5, "limit": 16.8,
            "active": 6, "backlog_tokens": 0, "queue_max": { "requests": 1, "tokens": 1 }, "pressure": null,
            "ceilings_set": false, "tiers": [tier("priority", 0), tier("regular", 12)], "replicas": replicas,
            "withdrawn": 0, "retries": 0, "downgraded": 0 });
        let version = json!({ "version": "1.2.3", "started": "t", "uptime_seconds": 11_000.0, "pid": 7, "draining": false,
            "requests_in_flight": 6, "connections": 40,
            "config": { "loaded": "2026-01-01T00:00:00Z", "last_reload_failed": false, "last_fault": null } });
        let refusal = json!({ "time": "2026-01-01T00:00:01Z", "request_id": "req_1", "account": "acme", "model": "m",
            "tier": "regular", "deployment": "llama", "status": 503, "reason": "shed-saturated", "message": null,
            "queue_ms": 0, "prompt_tokens": 1, "budget": null, "load": null, "would_have_helped": null });
        Status {
            version: serde_json::from_value(version).unwrap(),
            deployments: serde_json::from_value(json!({ "time": "t", "deployments": [deployment] })).unwrap(),
            refusals: serde_json::from_value(json!({ "refusals": [refusal] })).unwrap(),
        }
    }

    fn width(line: &str) -> usize {
        line.split('\x1b').map(|part| part.chars().count()).sum()
    }

    #[test]
    fn what_is_shown_says_how_full_who_waits_and_who_was_refused() {
        let look = Look { width: 120, height: 24, colour: false };
        let text =
            Screen::of(&status(vec![replica(0, "serving", 0.5), replica(1, "down", 0.0)]), look).join("\n");

        for part in [
            "tidegate 1.2.3  serving  pid 7  up 3 h 3 min  6 in flight  40 connections",
            "██████░░░░░░  50%",
            "1/2",
            "12 10.0 0.1",
            "down",
            "last 1 refusals: 1 503 shed-saturated",
            "newest: 2026-01-01T00:00:01Z acme shed-saturated req_1",
        ] {
            assert!(text.contains(part), "no `{part}` in\n{text}");
        }
        let down = text.find("http://10.0.0.1:8000").unwrap();
        assert!(down < text.find("http://10.0.0.0:8000").unwrap(), "what needs somebody comes first");
    }

    #[test]
    fn it_fits_every_screen_from_eighty_by_twenty_four_on() {
        let many = (0..200).map(|id| replica(id, "serving", 0.97)).collect();
        let status = status(many);
        for (columns, lines) in [(80, 24), (100, 30), (200, 60), (20, 4)] {
            let look = Look { width: columns, height: lines, colour: true };
            let drawn = Screen::of(&status, look);
            assert!(drawn.len() <= lines, "{columns}x{lines}: {}", drawn.len());
            for line in &drawn {
                let plain: String = line
                    .replace("\x1b[31m", "")
                    .replace("\x1b[32m", "")
                    .replace("\x1b[33m", "")
                    .replace("\x1b[0m", "");
                assert!(width(&plain) <= columns, "{columns}: {plain}");
            }
        }
        let text = Screen::of(&status, Look { width: 80, height: 24, colour: false }).join("\n");
        assert!(text.contains("more: tidegate deployments") && text.contains("refusals"), "{text}");
    }
}
