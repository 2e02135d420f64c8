//! What is being prepared or dropped right now, and what failed: the part of a listing that no server has.
//!
//! Guarantees: at most one task for a name; a drop overtakes a preparation that has not begun its work and
//! waits for one that has; a failure stays visible with its cause until the next request for that name.
//! Must not know: engines.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

use crate::cloud::CloudError;
use crate::domain::observed::{Database, DatabaseState, Tags};

use super::fault;

/// Tasks by the name of their database.
#[derive(Debug, Clone, Default)]
pub struct Tasks(Arc<Mutex<Book>>);

#[derive(Debug, Default)]
struct Book {
    tasks: BTreeMap<String, Task>,
    runs: u64,
}

/// One name's task, or what became of the last one.
#[derive(Debug, Clone)]
pub struct Task {
    /// For whom.
    pub tags: Tags,
    /// How far it is.
    pub phase: Phase,
    run: u64,
    overtaken: CancellationToken,
}

/// How far a task is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// Being cloned.
    Preparing,
    /// Being dropped.
    Dropping,
    /// Cloning failed.
    PrepareFailed(String),
    /// Dropping failed.
    DropFailed(String),
}

/// The right to work on a name, held by its task.
#[derive(Debug)]
pub struct Run {
    name: String,
    number: u64,
    /// Fires when a drop was asked for meanwhile.
    pub overtaken: CancellationToken,
}

/// What the book said to a request.
#[derive(Debug)]
pub enum Begin {
    /// Do it.
    Now(Run),
    /// It is already being done.
    Underway,
}

impl Tasks {
    /// Asks to prepare.
    pub fn begin_prepare(&self, name: &str, tags: &Tags) -> Result<Begin, CloudError> {
        let mut book = self.book();
        match book.tasks.get(name) {
            Some(task) if task.phase == Phase::Preparing && task.tags == *tags => return Ok(Begin::Underway),
            Some(task) if matches!(task.phase, Phase::Preparing | Phase::Dropping) => {
                let doing =
                    if task.phase == Phase::Dropping { "being dropped" } else { "being prepared for another owner" };
                return Err(fault::retry(
                    format!("prepare database {name}"),
                    format!("it is {doing}; ask again when it is gone"),
                ));
            }
            _ => {}
        }
        Ok(Begin::Now(book.start(name, tags, Phase::Preparing)))
    }

    /// Asks to drop.
    pub fn begin_drop(&self, name: &str, tags: &Tags) -> Begin {
        let mut book = self.book();
        match book.tasks.get(name) {
            Some(task) if task.phase == Phase::Dropping => return Begin::Underway,
            Some(task) => task.overtaken.cancel(),
            None => {}
        }
        Begin::Now(book.start(name, tags, Phase::Dropping))
    }

    /// A preparation ended. One that was overtaken leaves no trace.
    pub fn prepared(&self, run: &Run, outcome: &Result<(), CloudError>) {
        self.ended(run, outcome, Phase::PrepareFailed);
    }

    /// A drop ended.
    pub fn dropped(&self, run: &Run, outcome: &Result<(), CloudError>) {
        self.ended(run, outcome, Phase::DropFailed);
    }

    fn ended(&self, run: &Run, outcome: &Result<(), CloudError>, failed: impl FnOnce(String) -> Phase) {
        let mut book = self.book();
        let Some(task) = book.tasks.get_mut(&run.name).filter(|task| task.run == run.number) else { return };
        match outcome {
            Ok(()) => drop(book.tasks.remove(&run.name)),
            Err(error) => task.phase = failed(error.to_string()),
        }
    }

    /// All tasks at this instant.
    pub fn snapshot(&self) -> BTreeMap<String, Task> {
        self.book().tasks.clone()
    }

    /// Forgets failures of dropping what the server no longer has.
    fn forget(&self, name: &str, task: &Task) {
        let mut book = self.book();
        if book.tasks.get(name).is_some_and(|now| now.run == task.run) {
            book.tasks.remove(name);
        }
    }

    /// Lays the tasks over what a server was found to hold. `before` was taken before the server was read:
    /// a task that ended in between would otherwise be in neither.
    pub fn overlay(
        &self,
        before: BTreeMap<String, Task>,
        found: Vec<Database>,
        absent: impl Fn(&str) -> Option<Database>,
    ) -> Vec<Database> {
        let mut tasks = before;
        tasks.extend(self.snapshot());
        let mut names = BTreeSet::new();
        let mut items = Vec::with_capacity(found.len());
        for mut database in found {
            names.insert(database.name.clone());
            // The tags stay what the server says: a task gives nobody a claim to what is there.
            if let Some(task) = tasks.get(&database.name) {
                database.state = if database.tags.as_ref() == Some(&task.tags) {
                    task.phase.over(database.state)
                } else {
                    task.phase.beside(database.state)
                };
            }
            items.push(database);
        }
        for (name, task) in tasks.iter().filter(|(name, _)| !names.contains(*name)) {
            if matches!(task.phase, Phase::DropFailed(_)) {
                self.forget(name, task);
                continue;
            }
            let Some(mut database) = absent(name) else { continue };
            database.tags = Some(task.tags.clone());
            database.state = task.phase.over(DatabaseState::Preparing);
            items.push(database);
        }
        items
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    fn start(&mut self, name: &str, tags: &Tags, phase: Phase) -> Run {
        self.runs += 1;
        let task = Task { tags: tags.clone(), phase, run: self.runs, overtaken: CancellationToken::new() };
        let run = Run { name: name.to_owned(), number: self.runs, overtaken: task.overtaken.clone() };
        self.tasks.insert(name.to_owned(), task);
        run
    }
}

impl Phase {
    /// Over what belongs to someone else only a failure is shown, because it tells of the clash.
    fn beside(&self, server: DatabaseState) -> DatabaseState {
        match self {
            Self::PrepareFailed(why) | Self::DropFailed(why) => DatabaseState::Failed(why.clone()),
            Self::Preparing | Self::Dropping => server,
        }
    }

    fn over(&self, server: DatabaseState) -> DatabaseState {
        match (self, server) {
            (Self::Dropping, _) => DatabaseState::Dropping,
            (Self::Preparing | Self::PrepareFailed(_), DatabaseState::Ready) => DatabaseState::Ready,
            (Self::Preparing, _) => DatabaseState::Preparing,
            (Self::DropFailed(why) | Self::PrepareFailed(why), _) => DatabaseState::Failed(why.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::{DatabaseId, EnvKey, EnvUid, Generation, InstallId, PrNumber, RepoId};
    use crate::domain::observed::Location;
    use crate::domain::time::Timestamp;

    fn tags(pr: u64) -> Tags {
        let install = InstallId::parse("dev").unwrap();
        let key = EnvKey { repo: RepoId(1), pr: PrNumber(pr) };
        Tags { uid: EnvUid::derive(&install, key), install, key, generation: Generation::FIRST }
    }

    fn database(name: &str) -> Database {
        let location = Location { account: "a".into(), region: "local".into(), network: "n".into() };
        Database {
            id: DatabaseId::parse(name).unwrap(),
            name: name.to_owned(),
            tags: None,
            location,
            state: DatabaseState::Ready,
            can_stop: false,
            slot: None,
            read_at: Timestamp(0),
        }
    }

    fn states(tasks: &Tasks, found: Vec<Database>) -> Vec<(String, DatabaseState)> {
        let items = tasks.overlay(tasks.snapshot(), found, |name| Some(database(name)));
        items.into_iter().map(|item| (item.name, item.state)).collect()
    }

    fn now(begin: Begin) -> Run {
        match begin {
            Begin::Now(run) => run,
            Begin::Underway => panic!("already underway"),
        }
    }

    #[test]
    fn a_name_is_prepared_once_and_failures_stay_until_asked_again() {
        let tasks = Tasks::default();
        let run = now(tasks.begin_prepare("a", &tags(1)).unwrap());
        assert!(matches!(tasks.begin_prepare("a", &tags(1)).unwrap(), Begin::Underway));
        assert!(tasks.begin_prepare("a", &tags(2)).is_err());
        tasks.prepared(&run, &Err(fault::denied("x", "no seed")));
        assert_eq!(states(&tasks, vec![]), [("a".into(), DatabaseState::Failed("x: no seed".into()))]);
        let run = now(tasks.begin_prepare("a", &tags(1)).unwrap());
        assert_eq!(states(&tasks, vec![]), [("a".into(), DatabaseState::Preparing)]);
        tasks.prepared(&run, &Ok(()));
        assert_eq!(states(&tasks, vec![]), []);
    }

    #[test]
    fn a_drop_overtakes_and_the_overtaken_leaves_no_trace() {
        let tasks = Tasks::default();
        let preparing = now(tasks.begin_prepare("a", &tags(1)).unwrap());
        let dropping = now(tasks.begin_drop("a", &tags(1)));
        assert!(preparing.overtaken.is_cancelled());
        assert!(matches!(tasks.begin_drop("a", &tags(1)), Begin::Underway));
        tasks.prepared(&preparing, &Err(fault::bug("x", "y")));
        assert_eq!(states(&tasks, vec![]), [("a".into(), DatabaseState::Dropping)]);
        tasks.dropped(&dropping, &Ok(()));
        assert_eq!(states(&tasks, vec![]), []);
    }

    #[test]
    fn a_task_that_ends_while_the_server_is_read_is_still_listed() {
        let tasks = Tasks::default();
        let run = now(tasks.begin_prepare("a", &tags(1)).unwrap());
        let before = tasks.snapshot();
        tasks.prepared(&run, &Ok(()));
        let items = tasks.overlay(before, vec![], |name| Some(database(name)));
        assert_eq!(items.len(), 1);
    }

    #[test]
    fn what_is_not_ours_keeps_its_state_and_has_no_tags() {
        let tasks = Tasks::default();
        let _run = now(tasks.begin_drop("a", &tags(1)));
        let items = tasks.overlay(tasks.snapshot(), vec![database("a")], |name| Some(database(name)));
        assert_eq!((items[0].tags.clone(), items[0].state.clone()), (None, DatabaseState::Ready));
    }

    #[test]
    fn a_failed_drop_of_what_is_gone_is_over() {
        let tasks = Tasks::default();
        let run = now(tasks.begin_drop("a", &tags(1)));
        tasks.dropped(&run, &Err(fault::retry("x", "y")));
        let here = Database { tags: Some(tags(1)), ..database("a") };
        assert_eq!(states(&tasks, vec![here]), [("a".into(), DatabaseState::Failed("x: y".into()))]);
        assert_eq!(states(&tasks, vec![]), []);
        assert!(tasks.snapshot().is_empty());
    }
}
