//! The end of a machine: its agent is asked, then killed; then the directory goes, if it is to go.
//!
//! Guarantees: the directory goes only after every process and every container of the machine is gone.
//! Must not know: who asked for it.

use std::io;
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::time::{Instant, sleep};

use super::record::Room;
use crate::agent::protocol::{MACHINE_VARIABLE, ProcessRef, carrying, descendants, remove_containers};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);
/// How long the kernel may take to end what was killed.
const AFTER_KILL: Duration = Duration::from_secs(10);

/// Removes a machine. The agent has `patience` to end by itself.
pub(super) async fn remove(room: Room, patience: Duration) -> io::Result<()> {
    stop(&room, patience).await?;
    remove_containers(room.path()).await?;
    tokio::task::spawn_blocking(move || room.clear_away()).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

/// Ends all processes of a machine. The agent has `patience` to end by itself.
pub(super) async fn stop(room: &Room, patience: Duration) -> io::Result<()> {
    for process in room.processes() {
        process.signal(Signal::SIGTERM);
    }
    let deadline = Instant::now() + patience;
    while !room.processes().is_empty() && Instant::now() < deadline {
        sleep(LOOK).await;
    }
    let deadline = Instant::now() + AFTER_KILL;
    loop {
        let left = everything(room);
        if left.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(io::Error::other(format!("{} of its processes cannot be killed", left.len())));
        }
        for process in left {
            process.signal(Signal::SIGKILL);
        }
        sleep(LOOK).await;
    }
}

/// Every process of the machine: below its agent, or with its mark.
fn everything(room: &Room) -> Vec<ProcessRef> {
    let agents = room.processes();
    let mut found: Vec<ProcessRef> = agents.iter().flat_map(|agent| descendants(agent.pid)).collect();
    found.extend(agents);
    found.extend(carrying(&format!("{MACHINE_VARIABLE}={}", room.path().display())));
    found.retain(ProcessRef::is_alive);
    found
}
