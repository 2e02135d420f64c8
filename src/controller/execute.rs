//! Does steps. Decisions do not belong here: whatever a step leaves open is a flaw of the plan.
//!
//! Around every call: the intent is durable first, the journal announces the call and notes its end, and
//! the lease's fence is checked in the store with each of these writes.

use std::collections::BTreeMap;
use std::time::Duration;

use secrecy::ExposeSecret as _;
use serde_json::json;

use super::decide::Known;
use super::grounds::{Grounds, evidence};
use super::ports::World;
use super::{speak, sweep};
use crate::cloud::{CloudError, DatabaseBirth, ErrorClass, MachineBirth};
use crate::domain::assignment::{Assignment, Task};
use crate::domain::desired::DatabaseSpec;
use crate::domain::id::Generation;
use crate::domain::ledger::{Answer, Host, Intent, Ledger, Left, Proof, Said, Standing};
use crate::domain::owned::Refusal;
use crate::domain::step::Step;
use crate::domain::time::Timestamp;
use crate::forge::{ForgeError, ForgeErrorKind};
use crate::plan::brake::{is_asked_for, too_many};
use crate::store::{Lease, StoreError};

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// The store failed or refused the lease.
    #[error("the store failed")]
    Store(#[from] StoreError),
    /// A provider failed.
    #[error("the provider failed")]
    Cloud(#[from] CloudError),
    /// GitHub failed.
    #[error("GitHub failed")]
    Forge(#[from] ForgeError),
    /// The agent failed; the text says how.
    #[error("the agent failed: {0}")]
    Agent(String),
    /// The gateway did not show the environment; the text says what came instead.
    #[error("the probe through the gateway failed: {0}")]
    Probe(String),
    /// No write on GitHub is due before that long.
    #[error("GitHub's write budget is used up for {} s", .0.as_secs())]
    Budget(Duration),
    /// Another replica has taken the last turn at building.
    #[error("every turn at building is taken (limits.builds); it has to wait")]
    NoTurn,
    /// More is being taken away than looks right (I3); the text says how much.
    #[error("removals are frozen: {0}")]
    Braked(String),
    /// What was to be taken away may not be, after all.
    #[error("it is not taken away: {0}")]
    Refused(#[from] Refusal),
    /// The repository has not been read yet.
    #[error("the repository has not been read yet")]
    UnknownRepository,
}

impl StepError {
    /// How long to be silent on a pull request after this error.
    pub fn silence(&self) -> Duration {
        match self {
            Self::Budget(wait) => *wait,
            Self::Forge(error) => match error.kind {
                ForgeErrorKind::SlowDown(wait) => wait,
                ForgeErrorKind::Denied | ForgeErrorKind::Rejected | ForgeErrorKind::NotFound => Duration::from_hours(1),
                ForgeErrorKind::Retry | ForgeErrorKind::Garbled => Duration::from_secs(30),
            },
            _ => Duration::from_secs(30),
        }
    }

    /// How long the world asked us to wait, if it did.
    pub fn wait(&self) -> Option<Duration> {
        match self {
            Self::Cloud(CloudError { class: ErrorClass::SlowDown(wait), .. })
            | Self::Forge(ForgeError { kind: ForgeErrorKind::SlowDown(wait), .. })
            | Self::Budget(wait) => Some(*wait),
            _ => None,
        }
    }
}

/// Does one step, and counts it.
pub(super) async fn step(
    world: &World,
    lease: &Lease,
    known: &Known,
    grounds: &Grounds,
    step: &Step,
) -> Result<(), StepError> {
    let done = act(world, lease, known, grounds, step).await;
    let outcome = if done.is_ok() { "done" } else { "failed" };
    metrics::counter!("kagero_steps_total", "step" => step.kind(), "outcome" => outcome).increment(1);
    done
}

async fn act(world: &World, lease: &Lease, known: &Known, grounds: &Grounds, step: &Step) -> Result<(), StepError> {
    let now = world.clock.now();
    match step {
        Step::Enroll { generation, hosts, slots } => {
            let ledger = enrolled(known, *generation, hosts, now);
            tracing::info!(env.key = %lease.key, env.uid = %known.uid, env.generation = generation.0, "environment enrolled");
            Ok(world.store.admit(lease, &ledger, &world.policy.load().limits, slots).await?)
        }
        Step::Note { hosts } => Ok(world.store.enroll(lease, &noted(known, hosts, now)).await?),
        Step::LaunchMachine { intent, tags, slot } => {
            world.store.record_intent(lease, intent).await?;
            let detail = grounds.entry(json!({"token": intent.token.0, "attempt": intent.attempt}));
            let call = world.machines.launch(MachineBirth {
                token: &intent.token,
                attempt: intent.attempt,
                tags,
                placement: intent.placement.as_ref(),
                slot: slot.as_ref(),
            });
            let id = asked(world, lease, known, step, detail, intent, call).await?;
            tracing::info!(env.key = %lease.key, machine.id = %id, "machine asked for");
            Ok(())
        }
        Step::PrepareDatabase { intent, tags, database, slot } => {
            world.store.record_intent(lease, intent).await?;
            let detail =
                grounds.entry(json!({"name": database.name, "seed": database.seed, "attempt": intent.attempt}));
            let call = world.databases.prepare(DatabaseBirth { tags, database, slot: slot.as_ref() });
            let id = asked(world, lease, known, step, detail, intent, call).await?;
            tracing::info!(env.key = %lease.key, database.id = %id, "database asked for");
            Ok(())
        }
        Step::Retire { token } => Ok(world.store.answer(lease, token, &Answer::Retired).await?),
        Step::Assign { intent, agent, task, database } => {
            if !world.store.take_build(lease, world.policy.load().limits.builds, now).await? {
                return Err(StepError::NoTurn);
            }
            let assignment = fill_in(world, known, task, database.as_ref()).await?;
            world.store.record_intent(lease, intent).await?;
            assign(world, lease, grounds, intent, agent, &assignment).await
        }
        Step::Probe { host, path, task } => {
            world.prober.probe(host, path, &known.uid).await.map_err(StepError::Probe)?;
            let proof = Proof { task: task.clone(), at: world.clock.now() };
            world.store.prove(lease, &proof).await?;
            tracing::info!(env.key = %lease.key, env.uid = %known.uid, "environment ready");
            Ok(())
        }
        Step::StopMachine { machine, intent } => {
            machine.check_age(now)?;
            world.store.record_intent(lease, intent).await?;
            let detail = grounds.entry(json!({"machine": machine.id(), "evidence": evidence(machine)}));
            journaled(world, lease, step, detail, world.machines.stop(machine)).await
        }
        Step::StopDatabase { database, intent } => {
            database.check_age(now)?;
            world.store.record_intent(lease, intent).await?;
            let detail = grounds.entry(json!({"database": database.id(), "evidence": evidence(database)}));
            journaled(world, lease, step, detail, world.databases.stop(database)).await
        }
        Step::Leave { left } => {
            tracing::info!(env.key = %lease.key, env.uid = %known.uid, reason = ?left.why, "environment is being taken away");
            if is_asked_for(&left.why) {
                return Ok(world.store.leave(lease, left).await?);
            }
            let policy = world.policy.load_full();
            let judge = |lately: &[Left], live| too_many(lately, live, &policy).map_or(Ok(()), Err);
            match world.store.leave_counted(lease, left, now.minus(sweep::WINDOW), judge).await? {
                Ok(()) => Ok(()),
                Err(why) => {
                    sweep::freeze(world, &why, now).await?;
                    Err(StepError::Braked(why))
                }
            }
        }
        Step::Terminate(machine) => {
            machine.check_age(now)?;
            let detail = grounds.entry(json!({"machine": machine.id(), "evidence": evidence(machine)}));
            journaled(world, lease, step, detail, world.machines.terminate(machine)).await
        }
        Step::DropDatabase(database) => {
            database.check_age(now)?;
            let detail = grounds.entry(json!({"database": database.id(), "evidence": evidence(database)}));
            journaled(world, lease, step, detail, world.databases.delete(database)).await
        }
        Step::Release { seen_at } => {
            tracing::info!(env.key = %lease.key, env.uid = %known.uid, "nothing of the environment is left");
            Ok(world.store.release(lease, *seen_at).await?)
        }
        Step::Comment { .. }
        | Step::CreateDeployment { .. }
        | Step::FindDeployment { .. }
        | Step::SetDeployment { .. } => speak::write(world, lease, known, grounds, step).await,
    }
}

/// The row of a new generation, or the present row with other host names.
fn enrolled(known: &Known, generation: Generation, hosts: &[Host], now: Timestamp) -> Ledger {
    match &known.ledger {
        Some(ledger) if ledger.generation == generation => Ledger { hosts: hosts.to_vec(), ..ledger.clone() },
        other => Ledger {
            enrolled_at: now,
            standing: Standing::Live,
            generation,
            ..blank(known, hosts, other.as_ref().map(|ledger| ledger.said.clone()), now)
        },
    }
}

fn noted(known: &Known, hosts: &[Host], now: Timestamp) -> Ledger {
    Ledger { standing: Standing::Released(now), ..blank(known, hosts, None, now) }
}

fn blank(known: &Known, hosts: &[Host], said: Option<Said>, now: Timestamp) -> Ledger {
    Ledger {
        key: known.key,
        uid: known.uid.clone(),
        generation: Generation::NONE,
        hosts: hosts.to_vec(),
        enrolled_at: now,
        standing: Standing::Live,
        slot: None,
        left: None,
        intents: Vec::new(),
        proven: None,
        said: said.unwrap_or_default(),
    }
}

async fn assign(
    world: &World,
    lease: &Lease,
    grounds: &Grounds,
    intent: &Intent,
    agent: &str,
    assignment: &Assignment,
) -> Result<(), StepError> {
    let task = &assignment.task;
    let detail = grounds.entry(json!({"task": task.digest(), "commit": task.commit, "attempt": task.attempt}));
    let begun = world.store.begin(lease, "assign", detail, world.clock.now()).await?;
    let done = world.agents.assign(agent, assignment).await;
    finish(world, begun, done.as_ref().err()).await?;
    done.map_err(StepError::Agent)?;
    world.store.answer(lease, &intent.token, &Answer::Accepted(task.digest().0)).await?;
    tracing::info!(env.key = %lease.key, env.uid = %task.uid, commit = %task.commit, "task given to the agent");
    Ok(())
}

/// The task with its secrets, which exist only here and on the wire.
async fn fill_in(
    world: &World,
    known: &Known,
    task: &Task,
    database: Option<&DatabaseSpec>,
) -> Result<Assignment, StepError> {
    let repo = known.repo.as_ref().ok_or(StepError::UnknownRepository)?;
    let git_token = world.forge.git_token(repo).await?.map(|token| token.expose_secret().to_owned());
    let mut secret_env: BTreeMap<String, String> = task
        .secret_names
        .iter()
        .filter_map(|name| Some((name.clone(), world.secrets.get(name)?.expose_secret().to_owned())))
        .collect();
    let mut migrate_env = BTreeMap::new();
    let mut reachable = Vec::new();
    if let Some(database) = database {
        let access = world.databases.access(database).await?;
        secret_env.insert("DATABASE_URL".to_owned(), access.application_url);
        migrate_env.insert("DATABASE_URL".to_owned(), access.migration_url);
        reachable = access.paths;
    }
    Ok(Assignment { task: task.clone(), git_token, secret_env, migrate_env, reachable })
}

/// A create: its answer is kept with the intent, unless it is not known whether it happened.
async fn asked<T: ToString>(
    world: &World,
    lease: &Lease,
    known: &Known,
    step: &Step,
    detail: serde_json::Value,
    intent: &Intent,
    call: impl Future<Output = Result<T, CloudError>>,
) -> Result<String, StepError> {
    let begun = world.store.begin(lease, step.kind(), detail, world.clock.now()).await?;
    let done = call.await;
    finish(world, begun, done.as_ref().err()).await?;
    match done {
        Ok(id) => {
            let id = id.to_string();
            world.store.answer(lease, &intent.token, &Answer::Accepted(id.clone())).await?;
            Ok(id)
        }
        Err(error) => {
            match Lesson::of(&error) {
                Lesson::Answered(answer) => world.store.answer(lease, &intent.token, &answer).await?,
                Lesson::NothingMade => world.store.record_intent(lease, &unasked(known, intent)).await?,
                Lesson::Unknown => {}
            }
            Err(error.into())
        }
    }
}

/// What a failed question says about what was asked for.
#[derive(Debug, PartialEq, Eq)]
enum Lesson {
    /// That is its answer.
    Answered(Answer),
    /// Nothing was made: what is not found now is not there, unless an earlier question made it.
    NothingMade,
    /// It may be there or come to be.
    Unknown,
}

impl Lesson {
    fn of(error: &CloudError) -> Self {
        match error.class {
            ErrorClass::Denied | ErrorClass::Bug => Self::Answered(Answer::Refused(error.to_string())),
            ErrorClass::NoRoom => Self::Answered(Answer::NoRoom(error.to_string())),
            ErrorClass::SlowDown(_) | ErrorClass::Quota => Self::NothingMade,
            ErrorClass::Retry | ErrorClass::Ambiguous => Self::Unknown,
        }
    }
}

/// The intent as it was before a question that made nothing.
fn unasked(known: &Known, intent: &Intent) -> Intent {
    let before = known.ledger.iter().flat_map(|ledger| &ledger.intents).find(|before| before.token == intent.token);
    before.cloned().unwrap_or_else(|| Intent { asked_at: Timestamp::default(), ..intent.clone() })
}

async fn journaled<T>(
    world: &World,
    lease: &Lease,
    step: &Step,
    detail: serde_json::Value,
    call: impl Future<Output = Result<T, CloudError>>,
) -> Result<(), StepError> {
    let begun = world.store.begin(lease, step.kind(), detail, world.clock.now()).await?;
    let done = call.await;
    finish(world, begun, done.as_ref().err()).await?;
    done?;
    tracing::info!(env.key = %lease.key, step = step.kind(), "asked for it");
    Ok(())
}

/// Notes the end of a call in the journal.
pub(super) async fn finish<E: ToString>(
    world: &World,
    begun: crate::store::JournalId,
    error: Option<&E>,
) -> Result<(), StoreError> {
    let outcome = error.map_or_else(|| "ok".to_owned(), |error| format!("failed: {}", error.to_string()));
    world.store.finish(begun, &outcome, world.clock.now()).await
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::controller::decide::Known;
    use crate::domain::id::{EnvKey, EnvUid, HostLabel, InstallId, PrNumber, RepoId};
    use crate::domain::ledger::{Role, Token};
    use crate::domain::pull::Pins;

    const NOW: Timestamp = Timestamp(1_000_000);
    const KEY: EnvKey = EnvKey { repo: RepoId(1), pr: PrNumber(7) };

    fn intent(token: &str, at: Timestamp) -> Intent {
        Intent {
            role: Role::Machine,
            attempt: 1,
            placement: None,
            token: Token(token.to_owned()),
            asked_at: at,
            answer: None,
        }
    }

    fn hosts(label: &str) -> Vec<Host> {
        vec![Host { service: None, label: HostLabel::parse(label).unwrap() }]
    }

    fn known(ledger: Option<Ledger>) -> Known {
        Known {
            key: KEY,
            uid: EnvUid::derive(&InstallId::parse("test").unwrap(), KEY),
            repo: None,
            pull: None,
            config: None,
            pins: Pins::default(),
            ledger,
            taken: BTreeSet::new(),
            clone_url: String::new(),
            brakes: Vec::new(),
        }
    }

    fn lived() -> Ledger {
        let intents = vec![intent("one", Timestamp(5))];
        Ledger { generation: Generation(2), intents, ..blank(&known(None), &hosts("before"), None, Timestamp(3)) }
    }

    #[test]
    fn the_same_generation_keeps_its_row_under_other_hosts_and_the_next_one_begins_anew() {
        let row = lived();
        let same = enrolled(&known(Some(row.clone())), Generation(2), &hosts("after"), NOW);
        assert_eq!(same, Ledger { hosts: hosts("after"), ..row.clone() });
        let next = enrolled(&known(Some(row.clone())), Generation(3), &hosts("after"), NOW);
        assert_eq!((next.generation, next.standing, next.enrolled_at), (Generation(3), Standing::Live, NOW));
        assert_eq!((next.intents.len(), next.hosts), (0, hosts("after")));
        assert_eq!(noted(&known(None), &hosts("x"), NOW).standing, Standing::Released(NOW));
    }

    #[test]
    fn a_question_that_made_nothing_leaves_the_intent_as_it_was() {
        let known = known(Some(lived()));
        assert_eq!(unasked(&known, &intent("one", NOW)).asked_at, Timestamp(5), "an earlier question may have made it");
        assert_eq!(unasked(&known, &intent("two", NOW)).asked_at, Timestamp::default(), "nobody has ever asked");
    }

    #[test]
    fn a_failed_question_says_whether_anything_can_have_been_made() {
        let lesson = |class| Lesson::of(&CloudError { class, what: "RunInstances".to_owned(), why: "no".to_owned() });
        let text = CloudError { class: ErrorClass::Denied, what: "RunInstances".to_owned(), why: "no".to_owned() };
        let (refused, none) = (Answer::Refused(text.to_string()), Answer::NoRoom(text.to_string()));
        assert_eq!(lesson(ErrorClass::Denied), Lesson::Answered(refused.clone()));
        assert_eq!(lesson(ErrorClass::Bug), Lesson::Answered(refused));
        assert_eq!(lesson(ErrorClass::NoRoom), Lesson::Answered(none));
        assert_eq!(lesson(ErrorClass::Quota), Lesson::NothingMade);
        assert_eq!(lesson(ErrorClass::SlowDown(Duration::from_secs(1))), Lesson::NothingMade);
        assert_eq!(lesson(ErrorClass::Retry), Lesson::Unknown);
        assert_eq!(lesson(ErrorClass::Ambiguous), Lesson::Unknown);
    }

    #[test]
    fn what_was_asked_of_us_is_waited_for() {
        let minute = Duration::from_mins(1);
        let forge = |kind| StepError::from(ForgeError { kind, what: "x".to_owned(), why: "y".to_owned() });
        let cloud = |class| StepError::from(CloudError { class, what: "x".to_owned(), why: "y".to_owned() });
        for (error, wait, silence) in [
            (forge(ForgeErrorKind::SlowDown(minute)), Some(minute), minute),
            (forge(ForgeErrorKind::Denied), None, Duration::from_hours(1)),
            (forge(ForgeErrorKind::NotFound), None, Duration::from_hours(1)),
            (forge(ForgeErrorKind::Retry), None, Duration::from_secs(30)),
            (StepError::Budget(minute), Some(minute), minute),
            (cloud(ErrorClass::SlowDown(minute)), Some(minute), Duration::from_secs(30)),
            (cloud(ErrorClass::Quota), None, Duration::from_secs(30)),
            (StepError::NoTurn, None, Duration::from_secs(30)),
        ] {
            assert_eq!((error.wait(), error.silence()), (wait, silence), "{error}");
        }
    }
}
