//! One command that has to come to an end: a build or a migration.
//!
//! Guarantees: it ends by itself, by its time-out or because it is cancelled, and then nothing of it runs;
//! everything it says goes to its log, however much it is.
//! Must not know: what comes before and after it.

use std::collections::BTreeMap;
use std::io;
use std::process::ExitStatus;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::logs::Log;
use super::sandbox::{Rooms, Sandbox};
use crate::domain::policy::Command;

/// How long a stream may stay open after the command has ended.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How a command ended.
#[derive(Debug)]
pub enum StageEnd {
    /// Well.
    Done,
    /// Badly.
    Exited(ExitStatus),
    /// Not in time.
    TimedOut,
    /// It was told to.
    Cancelled,
    /// It could not be started.
    NotStarted(io::Error),
}

/// Runs a command to its end.
pub async fn run(
    sandbox: &Sandbox,
    rooms: &Rooms,
    command: &Command,
    env: &BTreeMap<String, String>,
    log: &Log,
    cancel: &CancellationToken,
) -> StageEnd {
    let mut running = match sandbox.start(rooms, &command.run, env) {
        Ok(running) => running,
        Err(error) => return StageEnd::NotStarted(error),
    };
    let output = running.output();
    let (out, err) = (log.clone(), log.clone());
    let mut listening = tokio::spawn(async move { tokio::join!(out.drain(output.stdout), err.drain(output.stderr)) });
    let end = tokio::select! {
        ended = running.wait() => match ended {
            Ok(status) if status.success() => StageEnd::Done,
            Ok(status) => StageEnd::Exited(status),
            Err(error) => StageEnd::NotStarted(error),
        },
        () = tokio::time::sleep(command.timeout) => StageEnd::TimedOut,
        () = cancel.cancelled() => StageEnd::Cancelled,
    };
    running.kill().await;
    if tokio::time::timeout(LAST_WORDS, &mut listening).await.is_err() {
        listening.abort();
    }
    end
}
