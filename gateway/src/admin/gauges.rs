//! The gauges of `/metrics`, read from shedders, budgets and the process when the page is asked for.

use crate::clock;
use crate::state::key_expiry::ending_soon;
use crate::state::{Gateway, Snapshot};
use crate::telemetry::in_force::{self, InForce};
use crate::telemetry::metrics::{known_deployment, known_model, known_process};
use crate::telemetry::process_metrics;
use crate::telemetry::usage_meter::UsageMeter;
use crate::upstream::deployment::Deployment;
use crate::upstream::health::Health;
use metrics::{Label, SharedString, counter, gauge};
use metrics_exporter_prometheus::PrometheusHandle;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

fn label(key: &'static str, value: &Arc<str>) -> Label {
    Label::new(key, SharedString::from(Arc::clone(value)))
}

/// Budgets whose limit and use are shown, those with the most use first: a series for each account would be
/// without bound.
const BUDGETS_SHOWN_MAX: usize = 50;

fn read_budgets(gateway: &Gateway) {
    let mut views: Vec<_> = gateway.registry.budgets().into_iter().map(|cell| (cell.view(), cell)).collect();
    let use_of = |view: &limits::PerMeter<limits::MeterView>| {
        view.iter().map(|(_, meter)| meter.used as f64 / meter.limit.max(1) as f64).fold(0.0, f64::max)
    };
    views.sort_by(|(a, _), (b, _)| use_of(b).total_cmp(&use_of(a)));
    for (view, cell) in views.iter().take(BUDGETS_SHOWN_MAX) {
        for (meter, state) in view.iter() {
            let labels = || {
                vec![
                    label("account", &cell.account),
                    label("model", &cell.model),
                    Label::from_static_parts("meter", meter.name()),
                ]
            };
            gauge!("tidegate_limit_tokens_per_minute", labels()).set(state.limit as f64);
            gauge!("tidegate_used_tokens_per_minute", labels()).set(state.used as f64);
        }
    }
}

/// The page: every metric as it is now, of what the config in force has.
pub(super) fn page(gateway: &Gateway, rendered: &PrometheusHandle, now: Duration) -> String {
    read_gauges(gateway, now);
    let mut page = in_force::shown(&rendered.render(), &Known::of(&gateway.snapshot()));
    process_metrics::append_to(&mut page);
    page
}

/// How usage is kept.
fn read_usage(usage: &UsageMeter, now: Duration) {
    let (rows, unwritten, without_row) = {
        let book = usage.book();
        (book.entries(), book.unwritten(), book.overflowed())
    };
    gauge!("tidegate_usage_rows").set(rows as f64);
    gauge!("tidegate_usage_bytes").set(usage.bytes() as f64);
    gauge!("tidegate_usage_unwritten_requests").set(unwritten as f64);
    gauge!("tidegate_usage_last_write_seconds").set(usage.since_written(now).as_secs_f64());
    gauge!("tidegate_usage_damaged_lines").set(usage.damaged() as f64);
    counter!("tidegate_usage_write_failures_total").absolute(usage.failures());
    counter!("tidegate_usage_without_row_total").absolute(without_row);
}

/// What the config in force has, looked up once for a page.
struct Known<'s> {
    snapshot: &'s Snapshot,
    deployments: HashMap<&'s str, &'s Arc<Deployment>>,
}

impl<'s> Known<'s> {
    fn of(snapshot: &'s Snapshot) -> Self {
        let named = snapshot.deployments.iter().map(|one| (&*one.config.name, one));
        Known { snapshot, deployments: named.collect() }
    }
}

impl InForce for Known<'_> {
    fn model(&self, name: &str) -> bool {
        self.snapshot.models.get(name).is_some_and(|model| *model.config.name == *name)
    }

    fn deployment(&self, name: &str) -> bool {
        self.deployments.contains_key(name)
    }

    fn replica(&self, deployment: &str, replica: &str) -> bool {
        let id = replica.parse().map(shedder::ReplicaId).ok();
        self.deployments.get(deployment).zip(id).is_some_and(|(one, id)| one.replicas.get(id).is_some())
    }

    fn account(&self, id: &str) -> bool {
        self.snapshot.accounts.contains_key(id)
    }
}

/// What was refused for load, in each of the deployment's tiers.
fn shed_gauges(deployment: &config::Deployment, counters: &shedder::Counters) {
    for tier in deployment.tiers() {
        for reason in shedder::Reason::ALL {
            counter!(
                "tidegate_shed_total",
                vec![
                    label("deployment", &deployment.name),
                    Label::from_static_parts("tier", tier.name()),
                    Label::from_static_parts("reason", reason.name()),
                ]
            )
            .absolute(counters.shed[tier].of(reason));
        }
    }
}

/// Reads the gauges from the gates. To be called before the page is rendered.
fn read_gauges(gateway: &Gateway, now: Duration) {
    let snapshot = gateway.snapshot();
    known_process();
    super::server::known();
    snapshot.config.models.iter().enumerate().for_each(|(nth, model)| known_model(nth, model));
    for deployment in snapshot.deployments.iter() {
        let name = &deployment.config.name;
        let state = deployment.gate.read(|shedder| shedder.snapshot(now));
        known_deployment(name, state.replicas.iter().map(|replica| replica.id.0));
        shed_gauges(&deployment.config, &state.counters);
        let lengths = state.counters.lengths;
        for (length, counts) in [("short", lengths.short), ("long", lengths.long)] {
            for (what, count) in [("offered", counts.offered), ("started", counts.started)] {
                counter!(
                    "tidegate_regular_prompts_total",
                    vec![
                        label("deployment", name),
                        Label::from_static_parts("length", length),
                        Label::from_static_parts("what", what),
                    ]
                )
                .absolute(count);
            }
        }
        for tier in deployment.config.tiers() {
            gauge!(
                "tidegate_queue_depth",
                vec![label("deployment", name), Label::from_static_parts("tier", tier.name())]
            )
            .set(f64::from(state.queue[tier].requests));
        }
        for replica in &state.replicas {
            let labels = || vec![label("deployment", name), Label::new("replica", replica.id.0.to_string())];
            gauge!("tidegate_inflight", labels()).set(f64::from(replica.active));
            gauge!("tidegate_concurrency_limit", labels()).set(replica.limit);
            gauge!("tidegate_saturation_ratio", labels()).set(replica.saturation);
            let health = Health::of(replica);
            gauge!("tidegate_replica_up", labels()).set(f64::from(u8::from(health != Health::Down)));
            for state in Health::ALL {
                let labels = [labels(), vec![Label::from_static_parts("state", state.name())]].concat();
                gauge!("tidegate_replica_state", labels).set(f64::from(u8::from(health == state)));
            }
            if let Some(age) = replica.scrape_age {
                gauge!("tidegate_scrape_age_seconds", labels()).set(age.as_secs_f64());
            }
        }
    }
    read_budgets(gateway);
    gauge!("tidegate_inflight_bytes").set(gateway.memory.held() as f64);
    gauge!("tidegate_accounts_in_doubt").set(gateway.roster.in_doubt() as f64);
    gauge!("tidegate_keys_expiring_soon").set(ending_soon(gateway, clock::wall()) as f64);
    gauge!("tidegate_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    let good = gateway.reloader.state().last.is_none_or(|last| last.faults.is_none());
    gauge!("tidegate_config_last_reload_successful").set(f64::from(u8::from(good)));
    counter!("tidegate_log_dropped_total").absolute(crate::telemetry::logging::dropped());
    counter!("tidegate_access_log_dropped_total").absolute(gateway.accounts.dropped());
    if let Some(usage) = &gateway.accounts.usage {
        read_usage(usage, now);
    }
}
