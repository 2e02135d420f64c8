//! `kagero serve`: controller and gateway until a signal.

use std::path::Path;

use tokio::signal::unix::{SignalKind, signal};

use super::api::server;
use super::run::{Running, Surroundings};
use super::{Exit, note};

/// Runs until SIGTERM or SIGINT.
pub async fn run(config: &Path) -> anyhow::Result<Exit> {
    let server = server(config)?;
    let running = Running::start(&server, &Surroundings::usual()?).await?;
    note(&format!("kagero answers on http://{} and serves previews on {}", running.http, running.gateway));
    wait_for_signal().await?;
    note("stopping; environments go on");
    running.stop().await;
    Ok(Exit::Ok)
}

/// Waits for SIGTERM or SIGINT.
pub async fn wait_for_signal() -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
