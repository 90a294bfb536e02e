//! Behaviour as a list of directives, for the command line: `speed=0.3,lag=300ms,pause=1s/30s`.
//!
//! | directive | |
//! |---|---|
//! | `speed=0.3` | share of the profile's speed |
//! | `lag=300ms`, `lag=300ms~0.5` | before the scheduler; after `~` its coefficient of variation |
//! | `some-lag=0.4:500ms` | the same for that share of the requests, on top |
//! | `api-per-token=20us`, `api-per-event=50us` | the API server's one thread |
//! | `transfer-per-token=10us` | from the end of a prompt to its first token |
//! | `way=100ms` | network before it, each way |
//! | `pause=1s/30s` | stands still for a second every 30 s |
//! | `stall=0.02:200ms` | that share of the steps takes longer |
//! | `graph=8` | batches are padded up to a multiple |
//! | `eager=64:1.5` | steps of more sequences take so many times as long |
//! | `order=last-come` | or `random`, `first-come` |
//! | `prefill-first` | no answer goes on while a prompt can be computed |
//! | `acceptance=0.7` | of drafted tokens, see `--decode-tokens` |
//! | `steps-per-event=4` | tokens are told after so many steps |
//! | `any-order` | the tokens of one step are told in any order of the requests |

use std::str::FromStr;
use std::time::Duration;

use super::{Behaviour, Lag, Order, Pause};

/// A directive that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BehaviourError {
    /// The name is not in the table. Usually a typing mistake.
    #[error("unknown behaviour `{0}`; there are: {NAMES}")]
    Unknown(String),
    /// The value has the wrong form.
    #[error("behaviour `{name}` does not take the value `{value}`; it is written like `{example}`")]
    Value {
        /// The directive.
        name: String,
        /// What was given.
        value: String,
        /// How it is written.
        example: &'static str,
    },
}

const NAMES: &str = "speed, lag, some-lag, api-per-token, api-per-event, transfer-per-token, way, pause, stall, graph, eager, \
                     order, prefill-first, acceptance, steps-per-event, any-order";

impl FromStr for Behaviour {
    type Err = BehaviourError;

    fn from_str(list: &str) -> Result<Self, BehaviourError> {
        let mut behaviour = Behaviour::PLAIN;
        for directive in list.split(',').map(str::trim).filter(|directive| !directive.is_empty()) {
            let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
            let example = example(name).ok_or_else(|| BehaviourError::Unknown(name.to_owned()))?;
            set(&mut behaviour, name, value).ok_or_else(|| BehaviourError::Value {
                name: name.to_owned(),
                value: value.to_owned(),
                example,
            })?;
        }
        Ok(behaviour)
    }
}

fn example(name: &str) -> Option<&'static str> {
    Some(match name {
        "speed" => "speed=0.3",
        "lag" => "lag=300ms~0.5",
        "some-lag" => "some-lag=0.4:500ms",
        "api-per-token" => "api-per-token=20us",
        "api-per-event" => "api-per-event=50us",
        "transfer-per-token" => "transfer-per-token=10us",
        "way" => "way=100ms",
        "pause" => "pause=1s/30s",
        "stall" => "stall=0.02:200ms",
        "graph" => "graph=8",
        "eager" => "eager=64:1.5",
        "order" => "order=last-come",
        "prefill-first" => "prefill-first",
        "acceptance" => "acceptance=0.7",
        "steps-per-event" => "steps-per-event=4",
        "any-order" => "any-order",
        _ => return None,
    })
}

/// `None`: the value has the wrong form.
fn set(behaviour: &mut Behaviour, name: &str, value: &str) -> Option<()> {
    match name {
        "speed" => behaviour.speed = number(value, 0.01, 100.0)?,
        "lag" => behaviour.lag = lag(value)?,
        "some-lag" => {
            behaviour.some_lag = of_share(value).and_then(|(share, rest)| Some((share, lag(rest)?)))?
        }
        "api-per-token" => behaviour.api_us_per_token = ms(value)? * 1e3,
        "api-per-event" => behaviour.api_us_per_event = ms(value)? * 1e3,
        "transfer-per-token" => behaviour.transfer_us_per_token = ms(value)? * 1e3,
        "way" => behaviour.way_ms = ms(value)?,
        "pause" => {
            let (length, every) = value.split_once('/')?;
            let pause = Pause { every_ms: ms(every)?, ms: ms(length)? };
            behaviour.pause = Some(pause).filter(|pause| pause.ms < pause.every_ms);
            behaviour.pause?;
        }
        "stall" => behaviour.stall = of_share(value).and_then(|(share, rest)| Some((share, ms(rest)?)))?,
        "graph" => behaviour.graph_sequences = number(value, 1.0, 1024.0)? as u32,
        "eager" => {
            let (above, factor) = value.split_once(':')?;
            behaviour.eager = Some((number(above, 1.0, 1e6)? as u32, number(factor, 1.0, 100.0)?));
        }
        "order" => {
            behaviour.order = match value {
                "first-come" => Order::FirstCome,
                "last-come" => Order::LastCome,
                "random" => Order::Random,
                _ => return None,
            }
        }
        "prefill-first" => behaviour.prefill_first = value.is_empty().then_some(true)?,
        "acceptance" => behaviour.acceptance = number(value, 0.0, 1.0)?,
        "steps-per-event" => behaviour.steps_per_event = number(value, 1.0, 1024.0)? as u32,
        "any-order" => behaviour.any_order = value.is_empty().then_some(true)?,
        _ => return None,
    }
    Some(())
}

fn number(value: &str, least: f64, most: f64) -> Option<f64> {
    value.parse().ok().filter(|number| (least..=most).contains(number))
}

fn of_share(value: &str) -> Option<(f64, &str)> {
    let (share, rest) = value.split_once(':')?;
    Some((number(share, 0.0, 1.0)?, rest))
}

fn lag(value: &str) -> Option<Lag> {
    let (mean, cv) = value.split_once('~').unwrap_or((value, "0"));
    Some(Lag { mean_ms: ms(mean)?, cv: number(cv, 0.0, 10.0)? })
}

/// Milliseconds of `20us`, `300ms`, `1s`; at most ten minutes.
fn ms(value: &str) -> Option<f64> {
    let duration: Duration = crate::fault::duration(value)?;
    Some(duration.as_secs_f64() * 1e3).filter(|ms| *ms <= 600_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_example_is_read_and_changes_something() {
        for name in NAMES.split(", ") {
            let example = example(name).expect("each name has an example");
            let read: Behaviour = example.parse().expect(example);
            assert!(read != Behaviour::PLAIN, "{example}");
        }
    }

    #[test]
    fn a_list_sets_all_that_is_in_it() {
        let read: Behaviour = "speed=0.3, lag=300ms~0.5,pause=1s/30s".parse().expect("a good list");
        assert_eq!(read.lag, Lag { mean_ms: 300.0, cv: 0.5 });
        assert_eq!(read.pause, Some(Pause { every_ms: 30_000.0, ms: 1_000.0 }));
        assert_eq!("".parse::<Behaviour>(), Ok(Behaviour::PLAIN));
    }

    #[test]
    fn mistakes_are_named_with_what_would_be_right() {
        let told = |list: &str| list.parse::<Behaviour>().map(|_| ()).map_err(|error| error.to_string());
        assert!(
            told("sped=1").is_err_and(|error| error.contains("`sped`") && error.contains("steps-per-event"))
        );
        for wrong in
            ["speed=fast", "lag=300", "pause=30s/1s", "stall=2:1ms", "order=lifo", "prefill-first=no"]
        {
            assert!(told(wrong).is_err_and(|error| error.contains("written like")), "{wrong}");
        }
    }
}
