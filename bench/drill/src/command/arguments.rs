//! The command line of `tidegate drill`.

use super::served::{ServedArgs, served};
use super::{DrillError, PlanArgs, PlayArgs, PressureArgs, plan, pressure, run};
use crate::file::DrillFile;
use clap::Subcommand;
use std::io::Write as _;

/// `tidegate drill …`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct DrillArguments {
    #[command(subcommand)]
    command: Option<DrillCommand>,
    #[command(flatten)]
    play: PlayArgs,
}

#[derive(Debug, Subcommand)]
enum DrillCommand {
    /// How many replicas for which attainment: by search in virtual time. Exit code 1: a goal is not reached.
    #[command(
        after_help = "Examples:\n  tidegate drill plan --rate 40 --workload azure --profile 8b-a100\n  \
        tidegate drill plan deploy/drills/launch-day.yaml --attainment 0.95,0.99"
    )]
    Plan(Box<PlanArgs>),
    /// A gateway in service acts as if a part of its capacity were gone, for a time; Ctrl-C ends it at once.
    #[command(
        after_help = "Example: tidegate drill pressure llama --share 0.5 --seconds 60 --token-file admin.token"
    )]
    Pressure(PressureArgs),
    /// Print the JSON Schema of scenario files, for editors.
    #[command(after_help = "Example: tidegate drill schema > drill.schema.json\n\
        Then, as the first line of the scenario: # yaml-language-server: $schema=drill.schema.json")]
    Schema,
    /// What a gateway starts for a drill on its config.
    #[command(hide = true)]
    Served(ServedArgs),
}

/// What `tidegate drill --help` ends with.
pub const EXAMPLES: &str = "Examples:
  tidegate drill deploy/drills/launch-day.yaml --virtual       # policies and engine model, seconds
  tidegate drill deploy/drills/launch-day.yaml                 # the real gateway before simulated engines
  tidegate drill day.yaml --virtual --config tidegate.yaml     # your models, replicas, limits, tiers and queue
  tidegate drill day.yaml --virtual --config tidegate.yaml --calibrate 127.0.0.1:9090   # and engines like yours
  tidegate drill day.yaml --target http://10.0.0.5:8080 --key tg-… --stop-below 0.95
  tidegate drill plan --rate 40 --workload azure
  tidegate drill schema > drill.schema.json

The report is a page that needs nothing else (NAME.html) and the same as JSON (NAME.json).
Exit code: 0 passed, 1 failed, 2 called wrongly, or a scenario that is wrong or could never pass.";

/// Runs one of the drill's commands. Whether it passed.
///
/// # Errors
/// It could not take place, or its report could not be written.
pub fn command(arguments: &DrillArguments) -> Result<bool, DrillError> {
    match &arguments.command {
        None => run(&arguments.play),
        Some(DrillCommand::Plan(arguments)) => plan(arguments),
        Some(DrillCommand::Pressure(arguments)) => pressure(arguments),
        Some(DrillCommand::Served(arguments)) => served(arguments),
        Some(DrillCommand::Schema) => {
            let schema = config::schema_of::<DrillFile>();
            // Who reads it may have read enough, as `head` has.
            let _ =
                writeln!(std::io::stdout(), "{}", serde_json::to_string_pretty(&schema).unwrap_or_default());
            Ok(true)
        }
    }
}
