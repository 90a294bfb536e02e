//! How long prompts and answers are, and when requests come.
//!
//! Synthetic, after the statistics of public traces, so that nobody has to ship one. Everything is a function of a
//! random number generator that the caller seeds: the load generator in real time and the drills in virtual time
//! draw the same requests.
//!
//! | name | prompt tokens | answer tokens | after |
//! |---|---|---|---|
//! | `azure` | quantiles, mean 1155, p50 1020, p99 4142 | quantiles, mean 211, p50 129, p90 424, p99 601 | a public conversation trace of 2023 |
//! | `chat` | lognormal µ 6.7 σ 0.85 (mean 1,166) | lognormal µ 4.9 σ 1.0, at most 1,000 (mean 208) | its smooth relative |
//! | `code` | lognormal µ 7.3 σ 0.8 (mean 2,039) | lognormal µ 2.6 σ 1.2 (mean 27.6) | code completion |
//! | `long-context` | lognormal, mean 12,000, p50 6,900, p99 80,000 | lognormal, mean 343 | documents and long conversations |
//! | `reasoning` | lognormal σ 0.8, mean 600 | lognormal σ 1.0, mean 2,840, at most 16,000 | answers that think |
//! | `fixed:P:C` | `P` | `C` | measurements |
//!
//! Arrivals are a Gamma process: the times between requests have the mean `1 / rate` and a coefficient of variation
//! of choice: 1 is a Poisson process, 3 comes in bursts, 0 is a metronome.

use std::str::FromStr;
use std::time::Duration;

use rand::Rng;

/// The size of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Size {
    /// Prompt tokens, at least 1.
    pub prompt_tokens: u32,
    /// Answer tokens, at least 1.
    pub output_tokens: u32,
}

/// A named distribution of sizes; see the table of the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Workload {
    /// Conversations, by the quantiles of a trace.
    Azure,
    /// Conversations, lognormal.
    Chat,
    /// Code completion: long prompts, answers of a few tokens.
    Code,
    /// Prompts of thousands of tokens.
    LongContext,
    /// Answers of thousands of tokens.
    Reasoning,
    /// Always the same.
    Fixed(Size),
}

/// A workload's name that does not exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is none of azure, chat, code, long-context, reasoning, fixed:PROMPT:ANSWER")]
pub struct UnknownWorkload(String);

impl FromStr for Workload {
    type Err = UnknownWorkload;

    fn from_str(name: &str) -> Result<Self, UnknownWorkload> {
        let unknown = || UnknownWorkload(name.to_owned());
        match name {
            "azure" => Ok(Self::Azure),
            "chat" => Ok(Self::Chat),
            "code" => Ok(Self::Code),
            "long-context" => Ok(Self::LongContext),
            "reasoning" => Ok(Self::Reasoning),
            _ => {
                let sizes = name.strip_prefix("fixed:").and_then(|sizes| sizes.split_once(':'));
                let (prompt, output) = sizes.ok_or_else(unknown)?;
                let tokens = |text: &str| text.parse().ok().filter(|tokens| *tokens > 0).ok_or_else(unknown);
                Ok(Self::Fixed(Size { prompt_tokens: tokens(prompt)?, output_tokens: tokens(output)? }))
            }
        }
    }
}

/// The lengths below which a share of a trace's prompts lies.
const AZURE_PROMPT: [(f64, f64); 7] =
    [(0.0, 10.0), (0.25, 460.0), (0.5, 1020.0), (0.75, 1440.0), (0.9, 2100.0), (0.99, 4142.0), (1.0, 7000.0)];

/// The same for answers.
const AZURE_OUTPUT: [(f64, f64); 7] =
    [(0.0, 5.0), (0.25, 52.0), (0.5, 129.0), (0.75, 385.0), (0.9, 424.0), (0.99, 601.0), (1.0, 1000.0)];

impl Workload {
    /// The next request's size.
    pub fn draw(&self, rng: &mut impl Rng) -> Size {
        let (prompt, output) = match self {
            Self::Azure => (quantile(&AZURE_PROMPT, rng.random()), quantile(&AZURE_OUTPUT, rng.random())),
            Self::Chat => (lognormal(rng, 6.7, 0.85, 32_000.0), lognormal(rng, 4.9, 1.0, 1000.0)),
            Self::Code => (lognormal(rng, 7.3, 0.8, 32_000.0), lognormal(rng, 2.6, 1.2, 2000.0)),
            Self::LongContext => (lognormal(rng, 8.85, 1.053, 120_000.0), lognormal(rng, 5.52, 0.8, 4000.0)),
            Self::Reasoning => (lognormal(rng, 6.077, 0.8, 16_000.0), lognormal(rng, 7.492, 1.0, 16_000.0)),
            Self::Fixed(size) => return *size,
        };
        Size { prompt_tokens: tokens(prompt), output_tokens: tokens(output) }
    }
}

fn tokens(drawn: f64) -> u32 {
    (drawn.round() as u32).max(1)
}

/// Linear between the points. `u` in 0 … 1.
fn quantile(points: &[(f64, f64)], u: f64) -> f64 {
    let mut from = (0.0, 0.0);
    for to in points {
        if u <= to.0 && to.0 > from.0 {
            return from.1 + (to.1 - from.1) * (u - from.0) / (to.0 - from.0);
        }
        from = *to;
    }
    from.1
}

/// A factor whose logarithm has the mean 0 and this standard deviation.
pub fn spread(rng: &mut impl Rng, sigma: f64) -> f64 {
    lognormal(rng, 0.0, sigma, f64::INFINITY)
}

fn lognormal(rng: &mut impl Rng, mu: f64, sigma: f64, max: f64) -> f64 {
    (mu + sigma * normal(rng)).exp().min(max)
}

/// Box and Muller's method; the second number of each pair is not used.
fn normal(rng: &mut impl Rng) -> f64 {
    let (u, v): (f64, f64) = (rng.random(), rng.random());
    (-2.0 * (1.0 - u).ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}

/// A Gamma process.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Arrivals {
    /// Requests per second, greater than 0.
    pub rate_per_s: f64,
    /// Coefficient of variation of the time between two, at least 0.
    pub cv: f64,
}

impl Arrivals {
    /// The time from one request to the next.
    pub fn gap(&self, rng: &mut impl Rng) -> Duration {
        let mean_s = 1.0 / self.rate_per_s;
        let gap_s = if self.cv < 1e-3 {
            mean_s
        } else {
            let shape = 1.0 / (self.cv * self.cv);
            gamma(rng, shape) * mean_s / shape
        };
        Duration::from_secs_f64(gap_s.min(MAX_GAP_S))
    }
}

/// The tail of a bursty process is cut here, so that a gap is always a time.
const MAX_GAP_S: f64 = 1e6;

/// Marsaglia and Tsang's method (2000), scale 1. Below a shape of 1 by `gamma(k) = gamma(k+1) · u^(1/k)`.
fn gamma(rng: &mut impl Rng, shape: f64) -> f64 {
    if shape < 1.0 {
        let u: f64 = 1.0 - rng.random::<f64>();
        return gamma(rng, shape + 1.0) * u.powf(1.0 / shape);
    }
    let d = shape - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    loop {
        let x = normal(rng);
        let v = (1.0 + c * x).powi(3);
        let u: f64 = 1.0 - rng.random::<f64>();
        if v > 0.0 && u.ln() < 0.5 * x * x + d - d * v + d * v.ln() {
            return d * v;
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;

    fn means(workload: Workload) -> (f64, f64) {
        let mut rng = SmallRng::seed_from_u64(1);
        let n = 200_000;
        let (mut prompt, mut output) = (0.0, 0.0);
        for _ in 0..n {
            let size = workload.draw(&mut rng);
            prompt += f64::from(size.prompt_tokens);
            output += f64::from(size.output_tokens);
        }
        (prompt / f64::from(n), output / f64::from(n))
    }

    #[test]
    fn each_workload_has_the_means_of_the_table() {
        let expected = [
            ("azure", 1155.0, 211.0),
            ("chat", 1166.0, 208.0),
            ("code", 2039.0, 27.6),
            ("long-context", 12_000.0, 343.0),
            ("reasoning", 600.0, 2840.0),
        ];
        for (name, prompt, output) in expected {
            let (p, o) = means(name.parse().expect("a name"));
            assert!((p / prompt - 1.0).abs() < 0.02, "{name}: prompt {p}, not {prompt}");
            assert!((o / output - 1.0).abs() < 0.02, "{name}: answer {o}, not {output}");
        }
    }

    #[test]
    fn azure_has_the_quantiles_of_the_trace() {
        let mut rng = SmallRng::seed_from_u64(2);
        let mut outputs: Vec<u32> =
            (0..100_000).map(|_| Workload::Azure.draw(&mut rng).output_tokens).collect();
        outputs.sort_unstable();
        for (share, tokens) in [(0.5, 129.0), (0.9, 424.0), (0.99, 601.0)] {
            let got = f64::from(outputs[(share * 100_000.0) as usize]);
            assert!((got / tokens - 1.0).abs() < 0.03, "p{share}: {got}, not {tokens}");
        }
    }

    #[test]
    fn gaps_have_the_mean_and_the_variation_asked_for() {
        for cv in [0.0, 0.5, 1.0, 3.0] {
            let mut rng = SmallRng::seed_from_u64(3);
            let arrivals = Arrivals { rate_per_s: 20.0, cv };
            let gaps: Vec<f64> = (0..400_000).map(|_| arrivals.gap(&mut rng).as_secs_f64()).collect();
            let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
            let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
            assert!((mean * 20.0 - 1.0).abs() < 0.02, "cv {cv}: mean {mean}");
            assert!((variance.sqrt() / mean - cv).abs() < 0.05, "cv {cv}: {}", variance.sqrt() / mean);
        }
    }

    #[test]
    fn names_are_read_and_mistakes_named() {
        let fixed = Workload::Fixed(Size { prompt_tokens: 100, output_tokens: 20 });
        assert_eq!("fixed:100:20".parse(), Ok(fixed));
        assert!("fixed:100".parse::<Workload>().is_err());
        assert_eq!("chatt".parse::<Workload>(), Err(UnknownWorkload("chatt".to_owned())));
    }
}
