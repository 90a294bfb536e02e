//! The command line: which command, and with what exit code.
//!
//! `0` it went well, `1` it ran and failed, `2` it was called wrongly or its config is wrong.

mod check;
mod demo;
mod drill;
mod keys;
mod man;
mod serve;

use clap::{CommandFactory as _, Parser, Subcommand};
use client::commands::{CommandError, accounts, deployments, limits, process, requests, status, usage};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

/// The exit code of a wrong call or a wrong config.
const USAGE: u8 = 2;

/// An inference gateway with tiered load shedding for self-hosted model servers.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version, after_help = "Without a command: `tidegate demo`, on loopback only.")]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway.
    #[command(after_help = "Examples:\n  tidegate serve --config tidegate.yaml\n  \
        tidegate serve --config tidegate.yaml --upgrade, then kill -QUIT the one that runs")]
    Serve(ServeArguments),
    /// Report every fault of a config, with key and line. Exit code 0 or 2.
    #[command(
        after_help = "Examples:\n  tidegate check tidegate.yaml\n  tidegate check --config /etc/tidegate/tidegate.yaml"
    )]
    Check(CheckArguments),
    /// Print the JSON Schema of the config, for editors.
    #[command(after_help = "Example: tidegate schema > tidegate.schema.json\n\
        Then, as the first line of the config: # yaml-language-server: $schema=tidegate.schema.json")]
    Schema,
    /// Simulated engines, the gateway and traffic in one process, on loopback. Nothing else is needed.
    #[command(after_help = "Example: tidegate demo --port 8080")]
    Demo(::demo::DemoArgs),
    /// Run one simulated model server: OpenAI's API, vLLM's metric names.
    Engine(Box<engine::cli::EngineArgs>),
    /// A capacity drill: plays load, judges it, writes a report. Exit code 0 passed, 1 failed, 2 usage.
    #[command(after_help = ::drill::command::EXAMPLES)]
    Drill(Box<::drill::command::DrillArguments>),
    /// Accounts of a running gateway: make, change, disable, rotate keys, through its admin API.
    Accounts(accounts::AccountsArguments),
    /// Accounts' limits, through the admin API of a running gateway.
    Limits(limits::LimitsArguments),
    /// Deployments of a running gateway: how full, who waits; drain, thresholds, pressure.
    Deployments(deployments::DeploymentsArguments),
    /// What a running gateway does now: once, or live on a terminal.
    Status(status::StatusArguments),
    /// The last refusals of a running gateway, and why.
    Requests(requests::RequestsArguments),
    /// What accounts used, by hour, day or month, as a table, JSON or CSV.
    Usage(usage::UsageArguments),
    /// Have a running gateway read its config again.
    Reload(process::ReloadArguments),
    /// The level of a running gateway's own log.
    Log(process::LogArguments),
    /// Whether a running gateway takes requests. Exit code 0 or 1.
    Health(process::HealthArguments),
    /// Have a running gateway hand over to a new process of the program at its path.
    Upgrade(process::UpgradeArguments),
    /// API keys.
    #[command(subcommand, after_help = "Example: tidegate keys new")]
    Keys(keys::KeysCommand),
    /// Print a completion script for a shell.
    #[command(after_help = "Example: tidegate completions bash > /etc/bash_completion.d/tidegate")]
    Completions {
        /// bash, zsh, fish, elvish or powershell.
        shell: clap_complete::Shell,
    },
    /// Write the manual pages, for packages.
    #[command(hide = true, after_help = "Example: tidegate man --output target/man")]
    Man {
        /// The folder that they are written to; it is made.
        #[arg(long, value_name = "FOLDER")]
        output: PathBuf,
    },
}

/// How the gateway is run.
#[derive(Debug, clap::Args)]
struct ServeArguments {
    #[command(flatten)]
    config: ConfigArgument,
    /// Take over from the gateway that runs with the same `state.dir`: wait until it gets SIGQUIT, then go on with its
    /// listeners and its accounts' budgets. No connection is refused, no answer is cut.
    #[arg(long)]
    upgrade: bool,
}

/// The config file of a command.
#[derive(Debug, clap::Args)]
struct ConfigArgument {
    /// The config file, YAML.
    #[arg(long, short, value_name = "FILE", env = "TIDEGATE_CONFIG")]
    config: PathBuf,
}

/// A config to be judged.
#[derive(Debug, clap::Args)]
struct CheckArguments {
    /// The config file, YAML.
    #[arg(value_name = "FILE", required_unless_present = "config")]
    file: Option<PathBuf>,
    /// The same, as an option; FILE wins.
    #[arg(long, short, value_name = "FILE", env = "TIDEGATE_CONFIG")]
    config: Option<PathBuf>,
}

/// Runs the command line of this process.
#[must_use]
pub fn run() -> ExitCode {
    match Arguments::parse().command {
        Some(Command::Serve(serve)) => serve::run(&serve.config.config, serve.upgrade),
        Some(Command::Check(check)) => check::run(&check.file.or(check.config).unwrap_or_default()),
        Some(Command::Schema) => check::schema(),
        Some(Command::Engine(arguments)) => engine(*arguments),
        Some(Command::Drill(arguments)) => drill::run(&arguments),
        Some(Command::Accounts(arguments)) => told(accounts::run(&arguments)),
        Some(Command::Limits(arguments)) => told(limits::run(&arguments)),
        Some(Command::Deployments(arguments)) => told(deployments::run(&arguments)),
        Some(Command::Status(arguments)) => told(status::run(&arguments)),
        Some(Command::Requests(arguments)) => told(requests::run(&arguments)),
        Some(Command::Usage(arguments)) => told(usage::run(&arguments)),
        Some(Command::Reload(arguments)) => told(process::reload(&arguments)),
        Some(Command::Log(arguments)) => told(process::log(&arguments)),
        Some(Command::Health(arguments)) => told(process::health(&arguments)),
        Some(Command::Upgrade(arguments)) => told(process::upgrade(&arguments)),
        Some(Command::Keys(command)) => keys::run(&command),
        Some(Command::Man { output }) => man::run(Arguments::command(), &output),
        Some(Command::Completions { shell }) => completions(shell),
        Some(Command::Demo(arguments)) => demonstrate(&arguments),
        None => demonstrate(&::demo::DemoArgs::default()),
    }
}

fn demonstrate(arguments: &::demo::DemoArgs) -> ExitCode {
    match demo::run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => failed(&format!("the demo could not start: {e}")),
    }
}

fn engine(arguments: engine::cli::EngineArgs) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let result = runtime.and_then(|runtime| runtime.block_on(engine::cli::run(arguments)));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => failed(&format!("the simulated engine stopped: {e}")),
    }
}

fn completions(shell: clap_complete::Shell) -> ExitCode {
    clap_complete::generate(shell, &mut Arguments::command(), "tidegate", &mut std::io::stdout());
    ExitCode::SUCCESS
}

/// Prints the result of an operator's command.
fn told(result: Result<String, CommandError>) -> ExitCode {
    match result {
        Ok(text) => {
            if !text.is_empty() {
                say(&text);
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            let code = failed(&error.to_string());
            if matches!(error, CommandError::Usage(_)) { ExitCode::from(USAGE) } else { code }
        }
    }
}

/// Says on standard error why the command failed.
#[expect(clippy::print_stderr, reason = "this is what a person at the terminal reads")]
fn failed(message: &str) -> ExitCode {
    eprintln!("tidegate: {message}");
    ExitCode::FAILURE
}

/// Prints a line of a command's result. Who reads it may have read enough, as `head` has.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Command as Clap;

    /// Each command that does something shows how it is called.
    fn without_example(command: &Clap, of_parent: bool, path: &str, found: &mut Vec<String>) {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let has = of_parent || help.contains("Example");
        if !has && command.get_subcommands().count() == 0 {
            found.push(path.to_owned());
        }
        for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
            without_example(sub, has && !path.is_empty(), &format!("{path} {}", sub.get_name()), found);
        }
    }

    #[test]
    fn the_help_of_every_command_has_an_example() {
        let mut found = Vec::new();
        without_example(&Arguments::command(), false, "", &mut found);
        assert_eq!(found, Vec::<String>::new());
    }

    #[test]
    fn the_definition_of_the_command_line_holds_together() {
        Arguments::command().debug_assert();
    }
}
