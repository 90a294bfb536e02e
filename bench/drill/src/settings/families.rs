//! The open world: fleets that behave as real ones do and the engine model by itself does not.
//!
//! Each family but the last is the conversations of [`Setting::CHAT`] on engines, or behind a network, with one thing that
//! is different. None of this is told to the policy. Load 1 of each is what it bears without any control, found by
//! [`knee`](super::knee) as that of the other settings.
//!
//! | family | what is different |
//! |---|---|
//! | `plain` | nothing |
//! | `network-50`, `network-100` | the engines are 50 or 100 ms away, another region |
//! | `jitter` | 10 ms away, and 20 more on average each time |
//! | `lag-300`, `lag-600` | so long before the scheduler knows of a request, whatever its size |
//! | `lag-spread` | 200 ms on average, with a coefficient of variation of 1 |
//! | `pictures` | 40 % of the requests take half a second more before they are computed |
//! | `tail` | 5 % of them 1.5 s more: adapters, grammars |
//! | `api-thread` | 30 µs of one thread for each prompt token, 20 µs for each event |
//! | `transfer` | 100 µs between prompt and first token for each token: KV that travels |
//! | `pauses` | the engine stands still for a second every 30 s |
//! | `stalls` | 2 % of the steps take 200 ms more |
//! | `graphs` | batches padded up to a multiple of 16, larger ones than 48 half as fast |
//! | `slow-card`, `slower-card` | 0.3 and 0.15 of an A100 |
//! | `mixed` | two replicas at half speed beside two at full |
//! | `prefill-first` | no answer goes on while a prompt is computed |
//! | `last-come`, `any-order` | another order inside the engine |
//! | `speculative` | four tokens drafted, 70 % of them right |
//! | `several-steps` | tokens of four steps come at once |
//! | `no-metrics` | nobody reads engine metrics |
//! | `small-steps`, `large-steps` | 512 or 8,192 tokens in a step |
//! | `sixteen` | sixteen replicas |
//! | `bursty-clients` | each account sends by itself: bursts of its own (CV 4), prompts of its own length |
//! | `one-token` | answers of one token after prompts of 800: classification |

use engine::behaviour::{Behaviour, Lag, Order, Pause};

use super::Setting;
use crate::scenario::Senders;
use engine::workload::{Size, Workload};

const fn fixed(mean_ms: f64) -> Lag {
    Lag { mean_ms, cv: 0.0 }
}

const fn behaving(name: &'static str, knee_per_s: f64, behaviour: Behaviour) -> Setting {
    Setting { name, knee_per_s, behaviour, ..Setting::CHAT }
}

const PLAIN: Behaviour = Behaviour::PLAIN;

/// All of them, the plain one first.
pub const FAMILIES: [Setting; 28] = [
    Setting { name: "plain", ..Setting::CHAT },
    Setting { name: "network-50", knee_per_s: 26.2, network_ms: (50.0, 0.0), ..Setting::CHAT },
    Setting { name: "network-100", knee_per_s: 25.7, network_ms: (100.0, 0.0), ..Setting::CHAT },
    Setting { name: "jitter", knee_per_s: 25.7, network_ms: (10.0, 20.0), ..Setting::CHAT },
    behaving("lag-300", 25.4, Behaviour { lag: fixed(300.0), ..PLAIN }),
    behaving("lag-600", 24.2, Behaviour { lag: fixed(600.0), ..PLAIN }),
    behaving("lag-spread", 25.4, Behaviour { lag: Lag { mean_ms: 200.0, cv: 1.0 }, ..PLAIN }),
    behaving("pictures", 25.7, Behaviour { some_lag: (0.4, fixed(500.0)), ..PLAIN }),
    behaving("tail", 25.7, Behaviour { some_lag: (0.05, fixed(1_500.0)), ..PLAIN }),
    behaving("api-thread", 26.2, Behaviour { api_us_per_token: 30.0, api_us_per_event: 20.0, ..PLAIN }),
    behaving("transfer", 26.2, Behaviour { transfer_us_per_token: 100.0, ..PLAIN }),
    behaving("pauses", 23.8, Behaviour { pause: Some(Pause { every_ms: 30_000.0, ms: 1_000.0 }), ..PLAIN }),
    behaving("stalls", 23.4, Behaviour { stall: (0.02, 200.0), ..PLAIN }),
    behaving("graphs", 19.4, Behaviour { graph_sequences: 16, eager: Some((48, 2.0)), ..PLAIN }),
    // Few requests a second: long enough that one of them decides nothing.
    Setting {
        warm_up_s: 300,
        end_s: 1_500,
        ..behaving("slow-card", 3.07, Behaviour { speed: 0.3, ..PLAIN })
    },
    Setting {
        warm_up_s: 600,
        end_s: 6_000,
        ..behaving("slower-card", 0.45, Behaviour { speed: 0.15, ..PLAIN })
    },
    Setting { name: "mixed", knee_per_s: 15.9, speeds: &[100, 100, 50, 50], ..Setting::CHAT },
    behaving("prefill-first", 24.0, Behaviour { prefill_first: true, ..PLAIN }),
    behaving("last-come", 25.9, Behaviour { order: Order::LastCome, ..PLAIN }),
    behaving("any-order", 26.2, Behaviour { order: Order::Random, ..PLAIN }),
    Setting {
        name: "speculative",
        knee_per_s: 31.5,
        decode_tokens: 4,
        behaviour: Behaviour { acceptance: 0.7, ..PLAIN },
        ..Setting::CHAT
    },
    behaving("several-steps", 26.2, Behaviour { steps_per_event: 4, ..PLAIN }),
    Setting { name: "no-metrics", knee_per_s: 26.2, scraped: false, ..Setting::CHAT },
    Setting { name: "small-steps", knee_per_s: 26.2, step_tokens: Some(512), ..Setting::CHAT },
    Setting { name: "large-steps", knee_per_s: 25.4, step_tokens: Some(8_192), ..Setting::CHAT },
    Setting { name: "sixteen", replicas: 16, knee_per_s: 108.5, ..Setting::CHAT },
    Setting {
        name: "bursty-clients",
        knee_per_s: 14.9,
        senders: Some(Senders { cv: 4.0, length_spread: 0.5 }),
        ..Setting::CHAT
    },
    Setting {
        name: "one-token",
        workload: Workload::Fixed(Size { prompt_tokens: 800, output_tokens: 1 }),
        knee_per_s: 67.6,
        ..Setting::CHAT
    },
];

/// The one of that name.
#[must_use]
pub fn named(name: &str) -> Option<Setting> {
    FAMILIES.into_iter().find(|family| family.name == name)
}

/// Two families at once: what either changes of [`Setting::CHAT`]. `None` where both change the same thing.
///
/// Its knee is nobody's yet; see [`knee`](super::knee). The name is that of the first.
#[must_use]
pub fn combined(one: &Setting, other: &Setting) -> Option<Setting> {
    let plain = Setting::CHAT;
    Some(Setting {
        name: one.name,
        profile: either(plain.profile, one.profile, other.profile)?,
        replicas: either(plain.replicas, one.replicas, other.replicas)?,
        workload: either(plain.workload, one.workload, other.workload)?,
        knee_per_s: one.knee_per_s.min(other.knee_per_s),
        warm_up_s: one.warm_up_s.max(other.warm_up_s),
        end_s: one.end_s.max(other.end_s),
        prefixes: either(plain.prefixes, one.prefixes, other.prefixes)?,
        decode_tokens: either(plain.decode_tokens, one.decode_tokens, other.decode_tokens)?,
        accounts: either(plain.accounts, one.accounts, other.accounts)?,
        tells_slots: either(plain.tells_slots, one.tells_slots, other.tells_slots)?,
        kv_tokens: either(plain.kv_tokens, one.kv_tokens, other.kv_tokens)?,
        behaviour: both_behaviours(one.behaviour, other.behaviour)?,
        network_ms: either(plain.network_ms, one.network_ms, other.network_ms)?,
        speeds: either(plain.speeds, one.speeds, other.speeds)?,
        senders: either(plain.senders, one.senders, other.senders)?,
        scraped: either(plain.scraped, one.scraped, other.scraped)?,
        step_tokens: either(plain.step_tokens, one.step_tokens, other.step_tokens)?,
    })
}

fn both_behaviours(one: Behaviour, other: Behaviour) -> Option<Behaviour> {
    Some(Behaviour {
        speed: either(PLAIN.speed, one.speed, other.speed)?,
        lag: either(PLAIN.lag, one.lag, other.lag)?,
        some_lag: either(PLAIN.some_lag, one.some_lag, other.some_lag)?,
        api_us_per_token: either(PLAIN.api_us_per_token, one.api_us_per_token, other.api_us_per_token)?,
        api_us_per_event: either(PLAIN.api_us_per_event, one.api_us_per_event, other.api_us_per_event)?,
        transfer_us_per_token: either(
            PLAIN.transfer_us_per_token,
            one.transfer_us_per_token,
            other.transfer_us_per_token,
        )?,
        way_ms: either(PLAIN.way_ms, one.way_ms, other.way_ms)?,
        pause: either(PLAIN.pause, one.pause, other.pause)?,
        stall: either(PLAIN.stall, one.stall, other.stall)?,
        graph_sequences: either(PLAIN.graph_sequences, one.graph_sequences, other.graph_sequences)?,
        eager: either(PLAIN.eager, one.eager, other.eager)?,
        order: either(PLAIN.order, one.order, other.order)?,
        prefill_first: either(PLAIN.prefill_first, one.prefill_first, other.prefill_first)?,
        acceptance: either(PLAIN.acceptance, one.acceptance, other.acceptance)?,
        steps_per_event: either(PLAIN.steps_per_event, one.steps_per_event, other.steps_per_event)?,
        any_order: either(PLAIN.any_order, one.any_order, other.any_order)?,
    })
}

/// The one that is not plain.
fn either<T: PartialEq>(plain: T, one: T, other: T) -> Option<T> {
    match (one == plain, other == plain) {
        (_, true) => Some(one),
        (true, false) => Some(other),
        (false, false) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_each_but_the_first_is_different() {
        for family in &FAMILIES {
            assert_eq!(
                FAMILIES.iter().filter(|other| other.name == family.name).count(),
                1,
                "{}",
                family.name
            );
            let plain = Setting { name: family.name, knee_per_s: family.knee_per_s, ..Setting::CHAT };
            assert_eq!(*family == plain, family.name == "plain", "{}", family.name);
            assert_eq!(named(family.name), Some(*family));
        }
    }

    #[test]
    fn two_families_are_combined_where_they_change_different_things() {
        let family = |name| named(name).unwrap();
        let both = combined(&family("network-100"), &family("slow-card")).unwrap();
        assert_eq!((both.network_ms, both.behaviour.speed, both.end_s), ((100.0, 0.0), 0.3, 1_500));
        assert_eq!(combined(&family("slow-card"), &family("slower-card")), None);
        assert_eq!(combined(&family("network-50"), &family("jitter")), None);
    }
}
