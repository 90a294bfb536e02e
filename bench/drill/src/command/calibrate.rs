//! Engines like those that a running gateway serves, from what it has measured of them.
//!
//! The gateway's admin API tells of each replica, by the number of streams, how long its steps take and how many prompt tokens
//! were computed in them ([`gateway_core::curve`]). Fitted by least squares, each class weighted by the time that was seen:
//!
//! ```text
//! T = (steps · (a + b · n) + P · p) · f(n)      f = 1 up to an edge of n, then a factor; no edge unless it halves the error
//! ```
//!
//! So `a` becomes what a step costs, `b` what a stream adds, `p` what a prompt token takes, the edge the size of batch from
//! which steps are slower. What first tokens take beside that, memory and slots are told as they are. It is right where it
//! was measured, and a guess beyond: a gateway that has seen ten streams says little of two hundred.

use super::DrillError;
use super::place::{admin_of, token_of};
use client::api::{Bounds, Client};
use client::views::measured::{Measured, MeasuredAtLoad, MeasuredReplica};
use engine::behaviour::Behaviour;
use engine::profile::{LLAMA_8B_A100, Profile};
use std::path::PathBuf;
use std::time::Duration;

/// Bounds of a call.
const BOUNDS: Bounds = Bounds { body_max: 32 << 20, patience: Duration::from_secs(10) };
/// Steps that have to be seen.
const STEPS_MIN: f64 = 500.0;
/// Steps of a class that say something.
const STEPS_OF_CLASS_MIN: f64 = 20.0;
/// The most streams that were seen are so many times the fewest, or nothing is known of how they slow each other down.
const SPREAD_MIN: f64 = 1.5;
/// An edge has to explain this part of the error.
const EDGE_EXPLAINS: f64 = 0.5;
/// Factors of an edge that are tried.
const EDGE_FACTORS: std::ops::RangeInclusive<u32> = 105..=400;

/// What was measured of one deployment.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Calibrated {
    /// Its engines.
    pub(super) profile: Profile,
    /// How fast each replica is, compared with them.
    pub(super) speeds: Vec<f64>,
}

/// Asks the gateway at `admin` for these deployments.
///
/// # Errors
/// It does not answer, or has not seen enough yet.
pub(super) fn ask(
    admin: &str,
    token_file: Option<&PathBuf>,
    deployments: &[String],
) -> Result<Vec<(String, Calibrated)>, DrillError> {
    let address = admin_of("--calibrate", admin)?;
    let token = token_of(token_file)?;
    let client = Client::new(address.to_string(), token.as_deref(), BOUNDS);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let each = deployments.iter().map(|name| {
        let measured = runtime.block_on(client.measured(name))?;
        of(&measured).map_err(|e| DrillError::Usage(format!("--calibrate {admin}: {e}")))
    });
    each.collect()
}

/// The name of a deployment, and engines like those that were measured of it.
///
/// # Errors
/// Not enough was seen yet.
pub(super) fn of(measured: &Measured) -> Result<(String, Calibrated), String> {
    let calibrated = calibrated(measured)
        .map_err(|lack| format!("{lack}; let it serve its usual load for some minutes first"))?;
    Ok((measured.name.to_string(), calibrated))
}

/// One class of one replica, which counts for the fit.
#[derive(Debug, Clone, Copy)]
struct Point {
    streams: f64,
    seconds: f64,
    steps: f64,
    prompt_tokens: f64,
}

/// Seconds of a step, that each stream adds, and of a prompt token.
type Costs = [f64; 3];

/// From so many streams on steps take so many times as long.
type Edge = Option<(f64, f64)>;

fn calibrated(measured: &Measured) -> Result<Calibrated, String> {
    let points: Vec<Point> = measured.replicas.iter().flat_map(points_of).collect();
    let name = &measured.name;
    let steps: f64 = points.iter().map(|point| point.steps).sum();
    if steps < STEPS_MIN {
        return Err(format!("of `{name}` it has seen {steps:.0} steps, and {STEPS_MIN:.0} are needed"));
    }
    let streams = points.iter().map(|point| point.streams);
    let (least, most) = streams.fold((f64::INFINITY, 0.0_f64), |(a, b), n| (a.min(n), b.max(n)));
    if most < SPREAD_MIN * least {
        return Err(format!(
            "`{name}` always had about {least:.0} streams, so nobody knows how they slow each other down"
        ));
    }
    let (costs, edge) =
        fitted(&points).ok_or_else(|| format!("what it has seen of `{name}` fits no engine"))?;
    Ok(Calibrated {
        profile: profile(measured, costs, edge),
        speeds: measured.replicas.iter().map(|replica| speed(replica, costs, edge)).collect(),
    })
}

fn points_of(replica: &MeasuredReplica) -> impl Iterator<Item = Point> {
    let point = |at: &MeasuredAtLoad| {
        let MeasuredAtLoad { streams, seconds, steps, prompt_tokens } = *at;
        let is_sane = [streams, seconds, steps, prompt_tokens]
            .iter()
            .all(|number| number.is_finite() && *number >= 0.0);
        (is_sane && steps >= STEPS_OF_CLASS_MIN && seconds > 0.0).then_some(Point {
            streams,
            seconds,
            steps,
            prompt_tokens,
        })
    };
    replica.at_loads.iter().filter_map(point)
}

/// The costs with the least error, and an edge where one explains most of it.
fn fitted(points: &[Point]) -> Option<(Costs, Edge)> {
    let (plain, error) = without_edge(points, None)?;
    let mut streams: Vec<f64> = points.iter().map(|point| point.streams).collect();
    streams.sort_by(f64::total_cmp);
    streams.dedup_by(|a, b| *a / *b < 1.05);
    let mut best = (plain, None, error);
    for pair in streams.windows(2) {
        let &[below, above] = pair else { continue };
        for factor in EDGE_FACTORS.step_by(5) {
            let edge = Some((f64::midpoint(below, above), f64::from(factor) / 100.0));
            if let Some((costs, error)) = without_edge(points, edge)
                && error < best.2
            {
                best = (costs, edge, error);
            }
        }
    }
    let (costs, edge, least) = best;
    Some(if least < EDGE_EXPLAINS * error { (costs, edge) } else { (plain, None) })
}

/// Weighted least squares where steps beyond `edge` count for what they would take below it; the mean square error relative
/// to the time. No cost is negative: one that would be is none.
fn without_edge(points: &[Point], edge: Edge) -> Option<(Costs, f64)> {
    let rows: Vec<([f64; 3], f64)> = points
        .iter()
        .map(|point| {
            let factor = edge.filter(|(from, _)| point.streams > *from).map_or(1.0, |(_, factor)| factor);
            let row = [point.steps, point.steps * point.streams, point.prompt_tokens];
            (row.map(|x| x * factor), point.seconds)
        })
        .collect();
    let mut used = [true; 3];
    loop {
        let costs = solved(&rows, used)?;
        match costs.iter().position(|cost| *cost < 0.0) {
            Some(negative) => *used.get_mut(negative)? = false,
            None => {
                let off = |(row, seconds): &([f64; 3], f64)| {
                    let told: f64 = row.iter().zip(costs).map(|(x, cost)| x * cost).sum();
                    (told - seconds).powi(2) / seconds
                };
                let all: f64 = rows.iter().map(|(_, seconds)| seconds).sum();
                return Some((costs, rows.iter().map(off).sum::<f64>() / all));
            }
        }
    }
}

/// The costs that are used, by the normal equations, each row weighted by one over its time, and Cramer's rule.
fn solved(rows: &[([f64; 3], f64)], used: [bool; 3]) -> Option<Costs> {
    let (mut squares, mut products) = ([[0.0_f64; 3]; 3], [0.0_f64; 3]);
    for (row, seconds) in rows {
        for ((sums, product), x) in squares.iter_mut().zip(&mut products).zip(row) {
            *product += x;
            sums.iter_mut().zip(row).for_each(|(sum, y)| *sum += x * y / seconds);
        }
    }
    // A cost that is not used is nothing, and in nobody's equation.
    for (at, ((sums, product), is_used)) in squares.iter_mut().zip(&mut products).zip(used).enumerate() {
        for (other, (sum, other_is_used)) in sums.iter_mut().zip(used).enumerate() {
            if !(is_used && other_is_used) {
                *sum = f64::from(u8::from(at == other && !is_used));
            }
        }
        *product = if is_used { *product } else { 0.0 };
    }
    let all = determinant(squares);
    let replaced = |column: usize| {
        let mut system = squares;
        for (sums, product) in system.iter_mut().zip(products) {
            sums.iter_mut().skip(column).take(1).for_each(|sum| *sum = product);
        }
        determinant(system) / all
    };
    let costs = [replaced(0), replaced(1), replaced(2)];
    costs.iter().all(|cost| cost.is_finite()).then_some(costs)
}

fn determinant([[a, b, c], [d, e, f], [g, h, i]]: [[f64; 3]; 3]) -> f64 {
    a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)
}

fn profile(measured: &Measured, [step, stream, prompt]: Costs, edge: Edge) -> Profile {
    let told = |of: fn(&MeasuredReplica) -> Option<f64>| {
        let mut all: Vec<f64> = measured.replicas.iter().filter_map(of).filter(|n| n.is_finite()).collect();
        all.sort_by(f64::total_cmp);
        all.get(all.len() / 2).copied()
    };
    // Where prompts were too few to tell, the rate at which they were computed.
    let rate = told(|replica| replica.prefill_tokens_per_s).filter(|rate| *rate > 0.0);
    let prompt = if prompt > 0.0 { prompt } else { rate.map_or(0.0, |rate| 1.0 / rate) };
    let whole = |number: f64| number.clamp(1.0, f64::from(u32::MAX)) as u32;
    let kv_tokens = told(|replica| replica.kv_tokens.map(|tokens| tokens as f64)).map(whole);
    let slots = told(|replica| replica.slots.map(f64::from)).map(whole);
    let kv_tokens = kv_tokens.unwrap_or(LLAMA_8B_A100.kv_tokens).max(1024);
    Profile {
        name: "measured",
        weights_ms: 0.0,
        // A decoding stream is a token of the step, too.
        token_ms: prompt * 1e3,
        sequence_ms: (stream - prompt).max(0.0) * 1e3,
        step_ms: step * 1e3,
        context_us: 0.0,
        pair_ms: 0.0,
        api_ms: told(|replica| replica.lag_s).unwrap_or(0.0) * 1e3,
        kv_tokens,
        context: LLAMA_8B_A100.context.min(kv_tokens),
        sequences_max: slots.unwrap_or(LLAMA_8B_A100.sequences_max),
        tells_slots: slots.is_some(),
        behaviour: Behaviour { eager: edge.map(|(from, factor)| (from as u32, factor)), ..Behaviour::PLAIN },
        ..LLAMA_8B_A100
    }
}

/// How fast a replica is, compared with the costs of all.
fn speed(replica: &MeasuredReplica, [step, stream, prompt]: Costs, edge: Edge) -> f64 {
    let (mut told, mut seen) = (0.0, 0.0);
    for point in points_of(replica) {
        let factor = edge.filter(|(from, _)| point.streams > *from).map_or(1.0, |(_, factor)| factor);
        told += factor * (point.steps * (step + stream * point.streams) + prompt * point.prompt_tokens);
        seen += point.seconds;
    }
    if told > 0.0 && seen > 0.0 { (told / seen).clamp(0.05, 20.0) } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What would be measured of an engine with these costs.
    fn measured(costs: Costs, edge: Edge, slowness: &[f64]) -> Measured {
        let [step, stream, prompt] = costs;
        let replica = |(id, slower): (u16, &f64)| MeasuredReplica {
            id,
            replica: format!("r{id}"),
            prefill_tokens_per_s: Some(1.0 / prompt),
            lag_s: Some(0.08),
            gap_idle_s: None,
            slots: None,
            kv_tokens: Some(200_000),
            at_loads: (0..14)
                .map(|class| {
                    let streams = 1.5_f64.powi(class);
                    let (steps, prompt_tokens) = (1_000.0, 20_000.0 * (1.0 + f64::from(class % 3)));
                    let factor = edge.filter(|(from, _)| streams > *from).map_or(1.0, |(_, factor)| factor);
                    let seconds =
                        slower * factor * (steps * (step + stream * streams) + prompt_tokens * prompt);
                    MeasuredAtLoad { streams, seconds, steps, prompt_tokens }
                })
                .collect(),
        };
        let replicas = (0..).zip(slowness).map(replica).collect();
        Measured { name: "d".into(), replicas }
    }

    #[test]
    fn costs_are_found_again() {
        let Calibrated { profile, speeds } =
            calibrated(&measured([0.020, 0.0003, 0.00012], None, &[1.0, 1.0])).unwrap();
        assert!((profile.step_ms - 20.0).abs() < 0.1, "{profile:?}");
        assert!(
            (profile.token_ms - 0.12).abs() < 0.002 && (profile.sequence_ms - 0.18).abs() < 0.01,
            "{profile:?}"
        );
        assert_eq!((profile.behaviour.eager, profile.kv_tokens), (None, 200_000));
        assert!((profile.api_ms - 80.0).abs() < 1e-9);
        assert!(speeds.iter().all(|speed| (speed - 1.0).abs() < 0.01), "{speeds:?}");
    }

    #[test]
    fn an_edge_is_found_where_there_is_one() {
        let Calibrated { profile, .. } =
            calibrated(&measured([0.012, 0.0002, 0.0001], Some((40.0, 1.8)), &[1.0])).unwrap();
        let (above, factor) = profile.behaviour.eager.expect("an edge");
        assert!((25..58).contains(&above) && (factor - 1.8).abs() < 0.06, "{above} {factor}");
        assert!((profile.step_ms - 12.0).abs() < 0.5, "{profile:?}");
    }

    #[test]
    fn a_slow_replica_is_one() {
        let Calibrated { speeds, .. } =
            calibrated(&measured([0.02, 0.0003, 0.0001], None, &[1.0, 1.0, 1.0, 2.0])).unwrap();
        assert!((speeds[3] / speeds[0] - 0.5).abs() < 0.02, "{speeds:?}");
    }

    #[test]
    fn too_little_says_what_is_lacking() {
        let mut few = measured([0.02, 0.0003, 0.0001], None, &[1.0]);
        few.replicas[0].at_loads.truncate(1);
        assert!(calibrated(&few).unwrap_err().contains("always had about 1 streams"));
        few.replicas[0].at_loads.clear();
        assert!(calibrated(&few).unwrap_err().contains("0 steps"));
        few.replicas[0].at_loads =
            vec![MeasuredAtLoad { streams: f64::NAN, seconds: -1.0, steps: 1e9, prompt_tokens: 0.0 }];
        assert!(calibrated(&few).is_err());
    }
}
