//! `tidegate demo`: starts the gateway that the demo puts before its engines, in this process.

use crate::clock;
use crate::lifecycle::heard::Ears;
use crate::lifecycle::serve;
use ::demo::{DemoArgs, DemoError, Started};
use config::Config;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Runs the demo until it is interrupted or its time is over.
///
/// # Errors
/// When something could not be started.
pub(super) fn run(args: &DemoArgs) -> Result<(), DemoError> {
    ::demo::run(args, start)
}

fn start(config: Config) -> Result<Started, DemoError> {
    // What ends the demo the demo hears itself, for it has a terminal to put back; the gateway in it hears nothing, but is
    // not ended by SIGHUP, SIGUSR1 or SIGUSR2 either.
    let ears = Ears::open()?;
    let (silent, heard) = mpsc::channel(1);
    let prepared = serve::prepare(config, None, heard).map_err(|e| DemoError::Serve(Box::new(e)))?;
    let (address, admin) = (prepared.address, prepared.admin_address);
    let (looked_at, stopped) = (Arc::clone(&prepared.gateway), Arc::clone(&prepared.gateway));
    let server = std::thread::Builder::new().name("gateway".to_owned()).spawn(|| prepared.run())?;
    let look = move || {
        let now = clock::now();
        let snapshot = looked_at.snapshot();
        let first = snapshot.deployments.first();
        first.map(|deployment| deployment.gate.read(|shedder| shedder.snapshot(now))).unwrap_or_default()
    };
    Ok(Started {
        address,
        admin,
        look: Box::new(look),
        is_over: Box::new(move || {
            let _keep = (&ears, &silent);
            server.is_finished()
        }),
        stop: Box::new(move || stopped.close_gates()),
    })
}
