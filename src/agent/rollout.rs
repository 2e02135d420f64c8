//! The life of tasks on one agent, as plain data with plain transitions.
//!
//! Guarantees: no I/O, no clock; at most one candidate and one serving task; what failed stays failed under
//! its digest; the newest task wins.
//! Must not know: how stages and services are run.

use crate::domain::assignment::{
    Rollout, RolloutPhase, ServiceReport, ServiceState, Stage, StageFailure, StageReport, Task, TaskDigest,
};
use crate::domain::time::Timestamp;

/// What the agent works on and what it serves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rollouts {
    /// The newest task, until it serves.
    pub candidate: Option<Rollout>,
    /// The task that visitors see.
    pub serving: Option<Rollout>,
}

/// What is to be done about a task that was assigned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is being worked on, has failed, or serves.
    Nothing,
    /// It serves; whatever is being worked on instead is to end.
    DropCandidate,
    /// It is new: whatever is being worked on is to end, and this begins.
    Begin,
}

impl Rollouts {
    /// What is to be done about a task.
    pub fn judge(&self, task: &TaskDigest) -> Verdict {
        let is = |rollout: &Option<Rollout>| rollout.as_ref().is_some_and(|rollout| rollout.task == *task);
        match (is(&self.candidate), is(&self.serving)) {
            (true, _) => Verdict::Nothing,
            (false, true) if self.candidate.is_none() => Verdict::Nothing,
            (false, true) => Verdict::DropCandidate,
            (false, false) => Verdict::Begin,
        }
    }

    /// A task begins.
    pub fn begin(&mut self, task: &Task) {
        let waiting = |service: &crate::domain::policy::Service| ServiceReport {
            name: service.name.clone(),
            state: ServiceState::Waiting,
            address: None,
            restarts: 0,
        };
        self.candidate = Some(Rollout {
            task: task.digest(),
            commit: task.commit.clone(),
            database: task.database.clone(),
            phase: RolloutPhase::Working,
            stages: Vec::new(),
            services: task.services.iter().map(waiting).collect(),
        });
    }

    /// A stage of the candidate begins; the one before it is over.
    pub fn enter(&mut self, stage: Stage, now: Timestamp) {
        if let Some(candidate) = &mut self.candidate {
            end_stage(candidate, now);
            candidate.stages.push(StageReport { stage, began_at: now, ended_at: None });
        }
    }

    /// The stage that the candidate is in.
    pub fn stage(&self) -> Option<Stage> {
        self.candidate.as_ref()?.stages.last().map(|report| report.stage)
    }

    /// The candidate has failed.
    pub fn fail(&mut self, failure: StageFailure, now: Timestamp) {
        if let Some(candidate) = &mut self.candidate {
            end_stage(candidate, now);
            candidate.phase = RolloutPhase::Failed(failure);
        }
    }

    /// The candidate serves from now on.
    pub fn promote(&mut self, now: Timestamp) {
        if let Some(mut candidate) = self.candidate.take() {
            end_stage(&mut candidate, now);
            candidate.phase = RolloutPhase::Healthy;
            self.serving = Some(candidate);
        }
    }
}

fn end_stage(rollout: &mut Rollout, now: Timestamp) {
    if let Some(last) = rollout.stages.last_mut() {
        last.ended_at.get_or_insert(now);
    }
}

/// Fills in what the services say now.
pub fn with_services(rollout: &mut Rollout, services: Vec<ServiceReport>) {
    if matches!(rollout.phase, RolloutPhase::Healthy | RolloutPhase::Degraded) {
        let whole = services.iter().all(|service| service.state == ServiceState::Healthy);
        rollout.phase = if whole { RolloutPhase::Healthy } else { RolloutPhase::Degraded };
    }
    rollout.services = services;
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;
    use crate::domain::assignment::Source;
    use crate::domain::id::{CommitSha, EnvUid, Generation, ServiceName};
    use crate::domain::policy::{Runs, Service};

    fn task(fill: &str) -> Task {
        Task {
            uid: EnvUid::parse("a".repeat(20)).unwrap(),
            generation: Generation::FIRST,
            commit: CommitSha::parse(fill.repeat(40)).unwrap(),
            source: Source { url: String::new(), reference: String::new(), mirror: String::new() },
            build: None,
            migrate: None,
            services: vec![Service {
                name: ServiceName::parse("web").unwrap(),
                runs: Runs::Process(String::new()),
                health: None,
                start_timeout: Duration::ZERO,
                public: true,
                overlap: true,
            }],
            env: BTreeMap::new(),
            secret_names: Vec::new(),
            database: None,
            attempt: 1,
        }
    }

    fn failure() -> StageFailure {
        StageFailure { stage: Stage::Build, reason: "it failed".to_owned(), log_tail: Vec::new() }
    }

    #[test]
    fn the_newest_task_wins_and_equal_tasks_are_one() {
        let (old, new) = (task("a"), task("b"));
        let mut book = Rollouts::default();
        assert_eq!(book.judge(&old.digest()), Verdict::Begin);
        book.begin(&old);
        assert_eq!(book.judge(&old.digest()), Verdict::Nothing);
        book.promote(Timestamp(1));
        assert_eq!(book.judge(&old.digest()), Verdict::Nothing);
        assert_eq!(book.judge(&new.digest()), Verdict::Begin);
        book.begin(&new);
        assert_eq!(book.judge(&old.digest()), Verdict::DropCandidate);
        book.fail(failure(), Timestamp(2));
        assert_eq!(book.judge(&new.digest()), Verdict::Nothing, "what has failed is not tried again");
        assert_eq!(book.judge(&old.digest()), Verdict::DropCandidate);
        assert_eq!(book.serving.unwrap().task, old.digest(), "a failed push leaves the old version serving");
    }

    #[test]
    fn stages_end_where_the_next_one_begins() {
        let mut book = Rollouts::default();
        book.begin(&task("a"));
        book.enter(Stage::Checkout, Timestamp(1));
        book.enter(Stage::Build, Timestamp(3));
        book.fail(failure(), Timestamp(9));
        let stages = book.candidate.unwrap().stages;
        let spans: Vec<_> = stages.iter().map(|stage| (stage.began_at.0, stage.ended_at.unwrap().0)).collect();
        assert_eq!(spans, [(1, 3), (3, 9)]);
    }

    #[test]
    fn a_service_that_is_down_degrades_and_its_return_heals() {
        let mut book = Rollouts::default();
        book.begin(&task("a"));
        book.promote(Timestamp(1));
        let mut rollout = book.serving.unwrap();
        let mut services = rollout.services.clone();
        services[0].state = ServiceState::Restarting;
        with_services(&mut rollout, services.clone());
        assert_eq!(rollout.phase, RolloutPhase::Degraded);
        services[0].state = ServiceState::Healthy;
        with_services(&mut rollout, services);
        assert_eq!(rollout.phase, RolloutPhase::Healthy);
    }
}
