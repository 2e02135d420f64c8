//! Takes orders one after the other and sees to it that the newest task serves.
//!
//! Guarantees: one candidate at a time; a newer order ends the work on an older one; the old version goes
//! only after the controller was told of the new one and visitors had time to move; when it ends, nothing
//! runs.
//! Must not know: HTTP, how stages work.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::attempt::{Ended, Workshop};
use super::release::Release;
use super::rollout::{Rollouts, Verdict};
use crate::clock::{Clock as _, SystemClock};
use crate::domain::assignment::Assignment;

/// What the agent is told to do.
pub enum Order {
    /// Run this.
    Assign(Box<Assignment>),
    /// Run nothing.
    Stop,
    /// Run nothing and end.
    End,
}

/// Takes orders.
pub struct Conductor {
    workshop: Arc<Workshop>,
    work: Option<Work>,
    leaving: JoinSet<()>,
    hurry: CancellationToken,
}

struct Work {
    cancel: CancellationToken,
    task: JoinHandle<Result<Arc<Release>, Ended>>,
}

impl Conductor {
    /// A conductor that runs nothing yet.
    pub fn new(workshop: Arc<Workshop>) -> Self {
        Self { workshop, work: None, leaving: JoinSet::new(), hurry: CancellationToken::new() }
    }

    /// Takes orders until it is told to end.
    pub async fn conduct(mut self, mut orders: mpsc::Receiver<Order>) {
        loop {
            let finished = async {
                match &mut self.work {
                    Some(work) => (&mut work.task).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                order = orders.recv() => match order {
                    Some(Order::Assign(assignment)) => self.assign(*assignment).await,
                    Some(Order::Stop) => self.stop().await,
                    Some(Order::End) | None => return self.stop().await,
                },
                done = finished => {
                    self.work = None;
                    self.settle(done.unwrap_or(Err(Ended::Cancelled)));
                }
                Some(_) = self.leaving.join_next() => {}
            }
        }
    }

    async fn assign(&mut self, assignment: Assignment) {
        let board = Arc::clone(&self.workshop.board);
        let verdict = board.state().rollouts.judge(&assignment.task.digest());
        match verdict {
            Verdict::Nothing => {}
            Verdict::DropCandidate => self.drop_candidate().await,
            Verdict::Begin => {
                self.drop_candidate().await;
                tracing::info!(env.uid = %assignment.task.uid, task.commit = %assignment.task.commit, "a new task begins");
                board.state().rollouts.begin(&assignment.task);
                let cancel = CancellationToken::new();
                let (workshop, token) = (Arc::clone(&self.workshop), cancel.clone());
                let before = board.state().serving.clone();
                let task = tokio::spawn(async move { workshop.attempt(&assignment, before.as_deref(), &token).await });
                self.work = Some(Work { cancel, task });
            }
        }
    }

    /// Ends the work on the candidate; what it has failed at is forgotten too.
    async fn drop_candidate(&mut self) {
        if let Some(work) = self.work.take() {
            work.cancel.cancel();
            if let Ok(Ok(release)) = work.task.await {
                release.end().await;
            }
        }
        let mut state = self.workshop.board.state();
        state.rollouts.candidate = None;
        state.candidate = None;
    }

    /// Puts the outcome of the work on the board.
    fn settle(&mut self, done: Result<Arc<Release>, Ended>) {
        let board = &self.workshop.board;
        let mut state = board.state();
        match done {
            Ok(release) => {
                state.rollouts.promote(SystemClock.now());
                state.candidate = None;
                let old = state.serving.replace(Arc::clone(&release));
                drop(state);
                if let Some(old) = old {
                    self.leave(old, &release);
                }
            }
            Err(Ended::Failed(failure)) => {
                tracing::info!(
                    env.uid = %self.workshop.options.uid,
                    task.stage = failure.stage.as_str(),
                    task.reason = failure.reason,
                    "the task has failed"
                );
                state.rollouts.fail(failure, SystemClock.now());
            }
            Err(Ended::Cancelled) => {
                state.rollouts.candidate = None;
                state.candidate = None;
            }
        }
    }

    /// Lets the old version go once visitors have moved.
    fn leave(&mut self, old: Arc<Release>, new: &Arc<Release>) {
        let (workshop, hurry, task) = (Arc::clone(&self.workshop), self.hurry.clone(), new.task.clone());
        self.leaving.spawn(async move {
            let pace = workshop.options.pace;
            let moved = async {
                workshop.board.has_told(&task).await;
                sleep(pace.drain).await;
            };
            tokio::select! {
                _ = timeout(pace.drain_most, moved) => {}
                () = hurry.cancelled() => {}
            }
            old.end().await;
        });
    }

    async fn stop(&mut self) {
        self.drop_candidate().await;
        self.hurry.cancel();
        let serving = self.workshop.board.state().serving.clone();
        if let Some(serving) = serving {
            serving.end().await;
        }
        while self.leaving.join_next().await.is_some() {}
        self.hurry = CancellationToken::new();
        let mut state = self.workshop.board.state();
        state.rollouts = Rollouts::default();
        state.serving = None;
    }
}
