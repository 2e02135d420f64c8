//! A plan as sentences: what is wanted, what is known, what happens next and what it waits for.

use serde::{Deserialize, Serialize};

use crate::domain::desired::Desired;
use crate::domain::observed::Observed;
use crate::domain::seen::Seen;
use crate::domain::step::{Next, Plan, Step, Waiting};
use crate::report::comment::reason;

/// A plan as sentences.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// What should be true.
    pub wanted: String,
    /// What was read.
    pub seen: Vec<String>,
    /// What will be done.
    pub steps: Vec<String>,
    /// What has to happen first.
    pub waiting: Vec<String>,
    /// When it is looked at again.
    pub next: String,
}

/// Explains one decision.
pub fn explain(want: &Desired, seen: &Observed, plan: &Plan) -> Explanation {
    Explanation {
        wanted: wanted(want),
        seen: vec![
            format!(
                "machines: {}",
                known(&seen.machines, |all| {
                    all.iter().map(|one| format!("{} ({:?})", one.name, one.state)).collect::<Vec<_>>().join(", ")
                })
            ),
            format!(
                "databases: {}",
                known(&seen.databases, |all| {
                    all.iter().map(|one| format!("{} ({:?})", one.name, one.state)).collect::<Vec<_>>().join(", ")
                })
            ),
            format!(
                "agent: {}",
                known(&seen.agent, |status| {
                    let serving = status.serving.as_ref().map_or("nothing", |rollout| rollout.commit.short());
                    let candidate = status.candidate.as_ref().map_or("nothing", |rollout| rollout.commit.short());
                    format!("serves {serving}, works on {candidate}")
                })
            ),
        ],
        steps: plan.steps.iter().map(step).collect(),
        waiting: plan.waiting.iter().map(waiting).collect(),
        next: match &plan.next {
            Next::Settled => "when something changes".to_owned(),
            Next::Poll(after) => format!("after {} ms, or when something changes", after.as_millis()),
            Next::Blocked(why) => format!("blocked: {why}"),
        },
    }
}

fn known<T>(seen: &Seen<T>, words: impl Fn(&T) -> String) -> String {
    match seen {
        Seen::Absent => "none".to_owned(),
        Seen::Unknown(doubt) => format!("not known: {doubt}"),
        Seen::Present(value) => words(value),
    }
}

/// What is wanted, and why, as a phrase.
pub fn wanted(want: &Desired) -> String {
    match want {
        Desired::Running(spec) => format!("running {} (generation {})", spec.task.commit.short(), spec.generation),
        Desired::Asleep(spec) => format!("asleep (generation {})", spec.generation),
        Desired::Queued(reason) => format!("queued, position {}", reason.position),
        Desired::Gone(why) => format!("gone: {}", reason(why)),
        Desired::Unchanged(obstacle) => format!("unchanged: {obstacle}"),
    }
}

/// One step as a phrase.
pub fn step(step: &Step) -> String {
    let about = match step {
        Step::Enroll { generation, .. } => format!("generation {generation}"),
        Step::LaunchMachine { intent, .. } => format!("attempt {}", intent.attempt),
        Step::PrepareDatabase { intent, database, .. } => {
            format!("{} from seed {}, attempt {}", database.name, database.seed, intent.attempt)
        }
        Step::Assign { task, .. } => format!("commit {}, attempt {}", task.commit.short(), task.attempt),
        Step::Probe { host, path, .. } => format!("{host}{path}"),
        Step::Leave { left } => reason(&left.why),
        Step::StopMachine { machine, .. } | Step::Terminate(machine) => machine.name().to_owned(),
        Step::StopDatabase { database, .. } | Step::DropDatabase(database) => database.name().to_owned(),
        Step::CreateDeployment { sha } | Step::FindDeployment { sha } => sha.short().to_owned(),
        Step::SetDeployment { id, state, .. } => format!("{id} to {state:?}"),
        Step::Note { .. } | Step::Retire { .. } | Step::Release { .. } | Step::Comment { .. } => String::new(),
    };
    if about.is_empty() { step.kind().to_owned() } else { format!("{}: {about}", step.kind()) }
}

fn waiting(waiting: &Waiting) -> String {
    match waiting {
        Waiting::Machine => "the machine is being made".to_owned(),
        Waiting::Database => "the database is being cloned".to_owned(),
        Waiting::Room(why) => format!("there is no room for a machine anywhere; it is asked for again soon: {why}"),
        Waiting::Turn => "as many commits as allowed are being built; this one follows".to_owned(),
        Waiting::Rollout => "the agent works on the task".to_owned(),
        Waiting::Agent(why) => format!("the agent does not answer: {why}"),
        Waiting::Knowledge(why) => format!("not known: {why}"),
        Waiting::Stop => "what is not to run is being stopped".to_owned(),
        Waiting::Removal => "resources are being taken away".to_owned(),
        Waiting::MachineFirst => "the database goes after its machine".to_owned(),
        Waiting::Refused(why) => format!("left alone: {why}"),
        Waiting::Braked(why) => format!("stopped: {why}"),
        Waiting::Failed(failure) => format!("{} failed: {}", failure.stage, failure.reason),
    }
}
