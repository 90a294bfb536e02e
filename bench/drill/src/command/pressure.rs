//! `tidegate drill pressure`: a gateway in service acts as if a part of its capacity were gone, for a time.
//!
//! Real customers, real engines, and the question what happens with half of them. It ends by itself in the gateway, also
//! when this command is gone; Ctrl-C ends it at once. While it lasts, a line a second for each deployment says who is
//! still served: what is turned away at one goes to the others.

use super::DrillError;
use super::inside::Admin;
use super::interrupt;
use crate::policy::Inside;
use engine::clock;
use shedder::Tier;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// Options of `tidegate drill pressure`.
#[derive(Debug, clap::Args)]
pub struct PressureArgs {
    /// The deployment.
    pub deployment: String,
    /// The share of its capacity to pretend away, 0.01 … 0.95.
    #[arg(long, value_name = "SHARE")]
    pub share: f64,
    /// For so many seconds, at most an hour.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub seconds: u64,
    /// The gateway's admin interface.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9090")]
    pub admin: String,
    /// A file with the admin token: a change always needs it.
    #[arg(long, value_name = "FILE", env = "TIDEGATE_ADMIN_TOKEN_FILE")]
    pub token_file: Option<PathBuf>,
    /// Do not ask before.
    #[arg(long)]
    pub yes: bool,
}

/// Presses, watches, and takes the pressure away again.
///
/// # Errors
/// The options are wrong, or the gateway does not answer or refuses.
pub fn pressure(args: &PressureArgs) -> Result<bool, DrillError> {
    if !(0.01..=0.95).contains(&args.share) {
        return Err(DrillError::Usage(format!("--share {}: must be between 0.01 and 0.95", args.share)));
    }
    let token = super::place::token_of(args.token_file.as_ref())?;
    let address = super::place::admin_of("--admin", &args.admin)?;
    let what = format!(
        "This lets {} at {address} act as if {:.0} % of its capacity were gone, for {} s, with its real traffic. Go on? [y/N] ",
        args.deployment,
        100.0 * args.share,
        args.seconds
    );
    super::target::confirm(&what, args.yes, || {
        DrillError::Usage("say --yes to press a gateway in service".to_owned())
    })?;
    let admin = Admin::new(address, token.as_deref());
    let interrupted = interrupt()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        admin.client.press(&args.deployment, args.share, Duration::from_secs(args.seconds)).await?;
        let end = clock::now() + Duration::from_secs(args.seconds);
        while clock::now() < end && !interrupted.load(Relaxed) {
            let left = end.saturating_sub(clock::now());
            for (name, inside) in admin.all_inside().await {
                say(&name, name == args.deployment, &inside, left);
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        admin.client.lift_pressure(&args.deployment).await?;
        tell("the pressure is gone");
        Ok(true)
    })
}

/// One deployment's line; the one that is pressed has a mark.
fn say(name: &str, is_pressed: bool, inside: &Inside, left: Duration) {
    if !std::io::stderr().is_terminal() {
        return;
    }
    let active: u32 = inside.replicas.iter().map(|replica| replica.active).sum();
    let limit: f64 =
        inside.replicas.iter().filter(|replica| replica.in_service).map(|replica| replica.limit).sum();
    let tiers = Tier::ALL.into_iter().zip(inside.queued);
    let waiting: Vec<_> = tiers.map(|(tier, queued)| format!("{tier} {queued}")).collect();
    tell(&format!(
        "{:>4} s left {} {name:<16} {active} running of {limit:.0}   waiting: {}",
        left.as_secs(),
        if is_pressed { '>' } else { ' ' },
        waiting.join(", "),
    ));
}

#[expect(clippy::print_stderr, reason = "what the person at the terminal watches")]
fn tell(line: &str) {
    eprintln!("{line}");
}
