//! `kagero serve`: controller and gateway until a signal.

use std::path::Path;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::api::server;
use super::run::{Running, Surroundings};
use super::{Exit, note};

/// Runs until SIGTERM or SIGINT.
pub async fn run(config: &Path) -> anyhow::Result<Exit> {
    let server = server(config)?;
    // From the beginning: a start takes its time, and ends as orderly as what has started.
    let mut signals = Signals::listen()?;
    let around = Surroundings::usual()?;
    let running = tokio::select! {
        running = Box::pin(Running::start(&server, &around)) => running?,
        () = signals.told_to_end() => {
            note("stopped before it was up");
            return Ok(Exit::Ok);
        }
    };
    note(&format!("kagero answers on http://{} and serves previews on {}", running.http, running.gateway));
    signals.told_to_end().await;
    note("stopping; environments go on");
    running.stop().await;
    Ok(Exit::Ok)
}

/// SIGTERM and SIGINT, from when they are listened to.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// From now on they do not end the process.
    pub fn listen() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for one of them.
    pub async fn told_to_end(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
