//! `tidegate engine`: one simulated model server in the foreground.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;

use crate::behaviour::Behaviour;
use crate::fault::StandingFault;
use crate::profile::{PROFILES, Profile};
use crate::server::{EngineServer, EngineServerConfig};

/// Options of `tidegate engine`.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Examples:\n  tidegate engine --address 127.0.0.1:8001\n  tidegate engine --profile 70b-h100-tp8 \
                        --model llama-70b --time-scale 4\n  tidegate engine --profile instant --fault 'status=503,share=0.1'"
)]
pub struct EngineArgs {
    /// Hardware and model that set the speed
    #[arg(long, value_name = "NAME", default_value = "8b-a100", value_parser = profile_parser())]
    pub profile: String,
    /// Where to listen; port 0 takes any free one
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:8001")]
    pub address: SocketAddr,
    /// The model's name; requests for another are answered with 404
    #[arg(long, value_name = "NAME", default_value = "sim")]
    pub model: String,
    /// Serve any model name
    #[arg(long)]
    pub any_model: bool,
    /// Engine seconds per real second: 10 is ten times faster than the hardware
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, value_parser = positive)]
    pub time_scale: f64,
    /// Changes the answers to requests that name no seed themselves
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Context window in tokens; default: the profile's
    #[arg(long, value_name = "TOKENS")]
    pub context: Option<u32>,
    /// Refuse requests when so many are in the engine, running ones included; default: never
    #[arg(long, value_name = "REQUESTS")]
    pub requests_max: Option<u32>,
    /// Leave cached tokens out of usage, as engines do unless told otherwise
    #[arg(long)]
    pub no_prompt_tokens_details: bool,
    /// How old the metrics may be, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 0)]
    pub metrics_interval_ms: u64,
    /// Most tokens in one streamed chunk; default: what one step gives
    #[arg(long, value_name = "TOKENS")]
    pub chunk_tokens: Option<u32>,
    /// Tokens that a sequence gains per step, as with speculative decoding; default: 1
    #[arg(long, value_name = "TOKENS")]
    pub decode_tokens: Option<u32>,
    /// How it differs from a plain engine, as a list such as 'speed=0.3,lag=300ms' or 'pause=1s/30s'; a wrong name lists all
    #[arg(long, value_name = "LIST", default_value = "", value_parser = behaviour)]
    pub behaviour: Behaviour,
    /// What goes wrong, as a list such as 'status=503,share=0.1' or 'cut=3,times=5'
    #[arg(long, value_name = "LIST", default_value = "", value_parser = standing)]
    pub fault: StandingFault,
}

fn profile_parser() -> clap::builder::PossibleValuesParser {
    PROFILES.iter().map(|profile| profile.name).collect::<Vec<_>>().into()
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(factor) if factor > 0.0 && factor <= 1e6 => Ok(factor),
        _ => Err("must be a number greater than 0, at most 1000000".to_owned()),
    }
}

fn behaviour(text: &str) -> Result<Behaviour, String> {
    text.parse().map_err(|error: crate::behaviour::BehaviourError| error.to_string())
}

fn standing(text: &str) -> Result<StandingFault, String> {
    text.parse().map_err(|error: crate::fault::FaultError| error.to_string())
}

impl From<EngineArgs> for EngineServerConfig {
    fn from(args: EngineArgs) -> Self {
        let mut profile =
            Profile::named(&args.profile).unwrap_or_else(|| crate::profile::LLAMA_8B_A100.clone());
        profile.behaviour = args.behaviour;
        profile.decode_tokens = args.decode_tokens.unwrap_or(profile.decode_tokens).max(1);
        Self {
            address: args.address,
            model: args.model,
            any_model: args.any_model,
            profile,
            time_scale: args.time_scale,
            seed: args.seed,
            context: args.context,
            requests_max: args.requests_max,
            vocabulary: None,
            prompt_tokens_details: !args.no_prompt_tokens_details,
            metrics_interval: Duration::from_millis(args.metrics_interval_ms),
            chunk_tokens: args.chunk_tokens,
            record_requests: false,
            fault: args.fault,
        }
    }
}

/// Runs a server until the process is told to end (`SIGINT`, `SIGTERM`), or a `die` fault ends it. Says on standard
/// output where it listens.
///
/// # Errors
/// The address cannot be listened on; no signal handler can be installed.
pub async fn run(args: EngineArgs) -> io::Result<()> {
    let (profile, model) = (args.profile.clone(), args.model.clone());
    let server = EngineServer::start(args.into()).await?;
    writeln!(io::stdout(), "simulated engine `{model}` ({profile}) on {}", server.url())?;
    server.run_until_told().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        args: EngineArgs,
    }

    #[test]
    fn the_options_become_the_configuration() {
        let program = Program::try_parse_from([
            "engine",
            "--profile",
            "70b-h100-tp8",
            "--time-scale",
            "4",
            "--context",
            "4096",
            "--fault",
            "status=503,share=0.5",
            "--behaviour",
            "speed=0.3,lag=300ms",
        ]);

        let config = EngineServerConfig::from(program.map_err(|e| e.to_string()).expect("good options").args);

        assert_eq!(config.profile.name, "70b-h100-tp8");
        assert_eq!(config.context(), 4096);
        assert!((config.profile.behaviour.speed - 0.3).abs() < f64::EPSILON);
        assert_eq!(config.fault.fault.status, Some(503));
        assert!((config.time_scale - 4.0).abs() < f64::EPSILON);
    }

    #[test]
    fn a_profile_that_does_not_exist_is_refused_with_the_list_of_those_that_do() {
        let error =
            Program::try_parse_from(["engine", "--profile", "9b"]).map(|_| ()).map_err(|e| e.to_string());
        assert!(error.is_err_and(|error| error.contains("8b-a100") && error.contains("instant")));
    }
}
