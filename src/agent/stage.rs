//! One command that has to come to an end: a build or a migration, as a process or as a container.
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
use super::unit::Recipe;

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
    recipe: &Recipe,
    timeout: Duration,
    env: &BTreeMap<String, String>,
    log: &Log,
    cancel: &CancellationToken,
) -> StageEnd {
    let mut running = match recipe.start(env, None).await {
        Ok(running) => running,
        Err(error) => return StageEnd::NotStarted(error),
    };
    running.listen(log);
    let end = tokio::select! {
        ended = running.wait() => match ended {
            Ok(status) if status.success() => StageEnd::Done,
            Ok(status) => StageEnd::Exited(status),
            Err(error) => StageEnd::NotStarted(error),
        },
        () = tokio::time::sleep(timeout) => StageEnd::TimedOut,
        () = cancel.cancelled() => StageEnd::Cancelled,
    };
    running.kill().await;
    running.last_words().await;
    end
}
