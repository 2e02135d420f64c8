//! Machines on this computer: each is a directory with an agent process.
//!
//! Guarantees: the owner record is on disk before the process is started; a process is recognised by its
//! start time, never by its number alone; nothing is signalled or removed unless the record on disk says
//! what the proof says; a removal that was cut off is seen and can be finished.
//! Must not know: what the agent runs.

mod record;
mod removal;
mod residue;

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::process::Command;

use self::record::{Life, Record, Room};
use crate::agent::protocol::{
    AgentOptions, ContainerOptions, ControllerKey, GitOptions, LogLimits, MACHINE_VARIABLE, ProcessRef, SandboxOptions,
    SupervisionPace, write_atomically,
};
use crate::clock::Clock;
use crate::cloud::{CloudError, ErrorClass, MachineBirth, Machines, nothing};
use crate::domain::id::{InstallId, MachineId};
use crate::domain::network::Interface;
use crate::domain::observed::{Listing, Location, Machine, MachineState, Residue};
use crate::domain::owned::{Owned, OwnedResidue, name_prefix};
use crate::domain::time::Timestamp;

/// A machine without a process is being made if it is younger than this, and dead if it is older.
const BIRTH: Duration = Duration::from_secs(30);
/// The only file among the machines' directories.
const LOCK_FILE: &str = ".lock";
/// The agent's own log is begun anew when it has grown beyond this.
const AGENT_LOG_BYTES: u64 = 1 << 20;
/// Variables that an agent inherits; all others may hold the controller's secrets.
const INHERITED: [&str; 7] = ["PATH", "HOME", "LANG", "TMPDIR", "KAGERO_LOG", "DOCKER_HOST", "XDG_RUNTIME_DIR"];

/// What machines are made from.
#[derive(Debug, Clone)]
pub struct LocalOptions {
    /// This installation.
    pub install: InstallId,
    /// Where everything lies.
    pub state_dir: PathBuf,
    /// The program that has the subcommand `agent`.
    pub executable: PathBuf,
    /// Whose requests the agents accept.
    pub public_key: ControllerKey,
    /// How agents fetch commits.
    pub git: GitOptions,
    /// How agents confine processes.
    pub sandbox: SandboxOptions,
    /// How much agents keep of the logs.
    pub logs: LogLimits,
    /// How agents watch services.
    pub pace: SupervisionPace,
    /// How agents make containers.
    pub containers: ContainerOptions,
    /// How long an agent may take to end before it is killed.
    pub ending: Duration,
}

impl LocalOptions {
    /// Options with the usual limits.
    pub fn new(install: InstallId, state_dir: &Path, executable: &Path, public_key: ControllerKey) -> Self {
        Self {
            install,
            state_dir: state_dir.to_owned(),
            executable: executable.to_owned(),
            public_key,
            git: GitOptions::default(),
            sandbox: SandboxOptions::default(),
            logs: LogLimits::default(),
            pace: SupervisionPace::default(),
            containers: ContainerOptions::default(),
            ending: Duration::from_secs(20),
        }
    }
}

/// Machines on this computer. Cheap to clone.
#[derive(Clone)]
pub struct LocalMachines {
    inner: Arc<Inner>,
}

struct Inner {
    options: LocalOptions,
    /// The canonical state directory.
    state: PathBuf,
    clock: Arc<dyn Clock>,
    /// Names of those that this process is stopping or removing.
    ending: Mutex<HashSet<String>>,
}

impl LocalMachines {
    /// The machines below a state directory, which is made if it is missing.
    pub fn open(options: LocalOptions, clock: Arc<dyn Clock>) -> Result<Self, CloudError> {
        use std::os::unix::fs::PermissionsExt as _;
        let what = || format!("opening the state directory {}", options.state_dir.display());
        let rooms = options.state_dir.join(record::ROOMS_DIR);
        let opened = fs::create_dir_all(&rooms)
            // Passed through, not listed: weaker sandboxes go by the computer's own paths.
            .and_then(|()| fs::set_permissions(&rooms, fs::Permissions::from_mode(0o711)))
            .and_then(|()| options.state_dir.canonicalize());
        let state = opened.map_err(|error| failed(what(), &error))?;
        Ok(Self { inner: Arc::new(Inner { options, state, clock, ending: Mutex::default() }) })
    }

    /// Where all machines of this provider are: for the allow-list.
    pub fn location(&self) -> Location {
        self.inner.location()
    }
}

#[async_trait]
impl Machines for LocalMachines {
    async fn list(&self) -> Result<Listing<Machine>, CloudError> {
        let inner = Arc::clone(&self.inner);
        blocking("listing machines", move || inner.list()).await
    }

    async fn launch(&self, birth: MachineBirth<'_>) -> Result<MachineId, CloudError> {
        let MachineBirth { token, attempt, tags, .. } = birth;
        let record = Record { tags: tags.clone(), token: token.clone(), attempt, created_at: self.inner.clock.now() };
        let inner = Arc::clone(&self.inner);
        let what = format!("launching machine {}", record.name());
        if record.tags.install != inner.options.install {
            let why = format!("its tags name installation {}, not ours", record.tags.install);
            return Err(CloudError { class: ErrorClass::Bug, what, why });
        }
        let told = what.clone();
        let room = blocking(&what, move || inner.make(&record, &told)).await?;
        if self.inner.is_ending(room.name()) {
            let why = "it is being stopped; launch again when it is down".to_owned();
            return Err(CloudError { class: ErrorClass::Retry, what, why });
        }
        self.inner.start(&room).map_err(|error| failed(what.clone(), &error))?;
        MachineId::parse(room.name()).map_err(|error| CloudError {
            class: ErrorClass::Bug,
            what,
            why: error.to_string(),
        })
    }

    async fn stop(&self, machine: &Owned<MachineId>) -> Result<(), CloudError> {
        let what = format!("stopping machine {}", machine.name());
        if let Some(room) = self.inner.check(&what, machine)? {
            self.inner.begin_stop(room);
        }
        Ok(())
    }

    async fn terminate(&self, machine: &Owned<MachineId>) -> Result<(), CloudError> {
        let what = format!("terminating machine {}", machine.name());
        let Some(room) = self.inner.check(&what, machine)? else { return Ok(()) };
        self.inner.begin_removal(room).map_err(|error| failed(what, &error))
    }

    async fn interfaces(&self) -> Result<Listing<Interface>, CloudError> {
        Ok(nothing())
    }

    async fn residue(&self) -> Result<Listing<Residue>, CloudError> {
        let inner = Arc::clone(&self.inner);
        blocking("listing what is beside the machines", move || inner.residue()).await
    }

    async fn clear_away(&self, residue: &OwnedResidue) -> Result<(), CloudError> {
        let what = format!("clearing {} away", residue.name());
        if !residue.is_fresh(self.inner.clock.now()) {
            let why = "the evidence that it is ours is more than a minute old; list again".to_owned();
            return Err(CloudError { class: ErrorClass::Retry, what, why });
        }
        let (inner, residue) = (Arc::clone(&self.inner), residue.clone());
        blocking(&what.clone(), move || inner.clear_away(&residue).map_err(|error| failed(what, &error))).await
    }
}

impl Inner {
    fn location(&self) -> Location {
        Location {
            account: self.state.to_string_lossy().into_owned(),
            region: "local".to_owned(),
            network: "host".to_owned(),
        }
    }

    fn prefix(&self) -> String {
        name_prefix(&self.options.install, '-')
    }

    fn rooms(&self) -> io::Result<Vec<Room>> {
        let prefix = self.prefix();
        let mut rooms = Vec::new();
        for entry in fs::read_dir(self.state.join(record::ROOMS_DIR))? {
            let entry = entry?;
            // A link is nothing of ours, wherever it leads.
            if entry.file_type()?.is_dir()
                && let Some(room) = Room::of(&entry.path())
                && room.name().starts_with(&prefix)
            {
                rooms.push(room);
            }
        }
        rooms.sort_by(|a, b| a.name().cmp(b.name()));
        Ok(rooms)
    }

    /// Held while machines are made, and while what is beside them is cleared away.
    fn lock(&self) -> io::Result<File> {
        let lock = File::create(self.state.join(record::ROOMS_DIR).join(LOCK_FILE))?;
        lock.lock()?;
        Ok(lock)
    }

    fn find(&self, name: &str) -> Option<Room> {
        self.rooms().ok()?.into_iter().find(|room| room.name() == name && !room.is_unborn())
    }

    /// The machine that was proven to be ours, if its record still says so; nothing if it is gone.
    fn check(&self, what: &str, machine: &Owned<MachineId>) -> Result<Option<Room>, CloudError> {
        let told = |class, why: String| CloudError { class, what: what.to_owned(), why };
        if !machine.is_fresh(self.clock.now()) {
            let why = "the evidence that it is ours is more than a minute old; list the machines again".to_owned();
            return Err(told(ErrorClass::Retry, why));
        }
        let Some(room) = self.find(machine.id().as_str()) else { return Ok(None) };
        if room.record().as_ref().map(|record| &record.tags) != Some(machine.tags()) {
            let why = format!("its record in {} does not say what the proof says; look at it", room.path().display());
            return Err(told(ErrorClass::Denied, why));
        }
        Ok(Some(room))
    }

    fn list(self: &Arc<Self>) -> Result<Listing<Machine>, CloudError> {
        let at = self.clock.now();
        let what = || "listing machines".to_owned();
        let mut items = Vec::new();
        for room in self.rooms().map_err(|error| failed(what(), &error))? {
            if room.is_unborn() {
                // Nothing was started there, and a launch that goes on makes it anew.
                continue;
            }
            let record = room.record();
            if record.is_none() && !room.path().exists() {
                // It went while we looked.
                continue;
            }
            let Ok(id) = MachineId::parse(room.name()) else { continue };
            let (state, agent) = match describe(&room, record.as_ref(), at) {
                // On its way down it can be neither used nor started yet.
                (MachineState::Running | MachineState::Stopped, _) if self.is_ending(room.name()) => {
                    (MachineState::Pending, None)
                }
                described => described,
            };
            let name = room.name().to_owned();
            if state == MachineState::Stopping {
                // Asked for with proof, and written down: a removal that a crash cut off goes on.
                if let Err(error) = self.begin_removal(room) {
                    tracing::warn!(machine.name = name, %error, "a removal cannot go on; it is tried again");
                }
            }
            items.push(Machine {
                id,
                name,
                tags: record.map(|record| record.tags),
                location: self.location(),
                state,
                agent,
                placement: None,
                slot: None,
                read_at: at,
            });
        }
        Ok(Listing { items, complete: true, at })
    }

    /// Makes the machine's directory, or finds the one made under the token.
    fn make(&self, record: &Record, what: &str) -> Result<Room, CloudError> {
        let told = |class, why: String| CloudError { class, what: what.to_owned(), why };
        let fail = |error: io::Error| failed(what.to_owned(), &error);
        let rooms = self.state.join(record::ROOMS_DIR);
        let _alone = self.lock().map_err(fail)?;
        for room in self.rooms().map_err(fail)? {
            if room.is_unborn() {
                room.clear_away().map_err(fail)?;
                continue;
            }
            let same_token = room.record().is_some_and(|found| found.token == record.token);
            if room.is_leaving() && (same_token || room.name() == record.name()) {
                return Err(told(ErrorClass::Retry, "it is being taken away; launch again when it is gone".to_owned()));
            }
            if same_token {
                return Ok(room);
            }
            if room.name() == record.name() {
                let why = format!("{} belongs to another token; look at its machine.json", room.path().display());
                return Err(told(ErrorClass::Bug, why));
            }
        }
        let options = AgentOptions {
            git: self.options.git.clone(),
            sandbox: self.options.sandbox.clone(),
            logs: self.options.logs,
            pace: self.options.pace,
            install: Some(self.options.install.clone()),
            containers: self.options.containers.clone(),
            ..AgentOptions::new(
                record.tags.uid.clone(),
                record.tags.generation,
                self.options.public_key,
                &rooms,
                &self.state.join("mirrors"),
            )
        };
        Room::bear(&rooms, record, options).map_err(fail)
    }

    /// Starts the machine's agent, unless it lives.
    fn start(&self, room: &Room) -> io::Result<()> {
        if room.life() != Life::Dead {
            return Ok(());
        }
        let log_path = room.path().join("agent.log");
        let begun_anew = fs::metadata(&log_path).is_ok_and(|data| data.len() > AGENT_LOG_BYTES);
        let log = File::options().create(true).append(!begun_anew).write(true).truncate(begun_anew).open(&log_path)?;
        let mut command = Command::new(&self.options.executable);
        command.arg("agent").arg("--dir").arg(room.path()).current_dir(room.path()).env_clear();
        for name in INHERITED {
            command.envs(std::env::var_os(name).map(|value| (name, value)));
        }
        command.env(MACHINE_VARIABLE, room.path());
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let mut child = command.spawn()?;
        let process = child.id().and_then(|pid| ProcessRef::of(pid.try_into().ok()?));
        if let Some(process) = process {
            write_atomically(&room.path().join(record::PROCESS_FILE), &serde_json::to_vec(&process)?)?;
        }
        // Only so that it leaves no zombie: the agent outlives this process if it has to.
        tokio::spawn(async move { child.wait().await });
        Ok(())
    }

    fn is_ending(&self, name: &str) -> bool {
        self.ending.lock().unwrap_or_else(PoisonError::into_inner).contains(name)
    }

    /// Does that to a machine, unless something is being done to it already.
    fn end(self: &Arc<Self>, room: &Room, end: impl Future<Output = io::Result<()>> + Send + 'static) {
        let (inner, name) = (Arc::clone(self), room.name().to_owned());
        if !self.ending.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone()) {
            return;
        }
        tokio::spawn(async move {
            if let Err(error) = end.await {
                tracing::warn!(machine.name = name, %error, "cannot end a machine; it is tried again with the next request");
            }
            inner.ending.lock().unwrap_or_else(PoisonError::into_inner).remove(&name);
        });
    }

    fn begin_stop(self: &Arc<Self>, room: Room) {
        if room.life() == Life::Dead {
            return;
        }
        let patience = self.options.ending;
        self.end(&room.clone(), async move { removal::stop(&room, patience).await });
    }

    fn begin_removal(self: &Arc<Self>, room: Room) -> io::Result<()> {
        let waited = self.clock.now().since(room.ask_to_leave(self.clock.now())?);
        let patience = self.options.ending.saturating_sub(waited);
        self.end(&room.clone(), removal::remove(room, patience));
        Ok(())
    }
}

fn describe(room: &Room, record: Option<&Record>, now: Timestamp) -> (MachineState, Option<String>) {
    if room.is_leaving() {
        return (MachineState::Stopping, None);
    }
    match room.life() {
        Life::Listening(address) => (MachineState::Running, Some(address.to_string())),
        Life::Starting => (MachineState::Pending, None),
        Life::Dead if room.was_started() => (MachineState::Stopped, None),
        Life::Dead if record.is_some_and(|record| now.since(record.created_at) < BIRTH) => {
            (MachineState::Pending, None)
        }
        Life::Dead => (MachineState::Stopped, None),
    }
}

async fn blocking<T: Send + 'static>(
    what: &str,
    work: impl FnOnce() -> Result<T, CloudError> + Send + 'static,
) -> Result<T, CloudError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        Err(CloudError { class: ErrorClass::Retry, what: what.to_owned(), why: error.to_string() })
    })
}

fn failed(what: String, error: &io::Error) -> CloudError {
    let (class, advice) = match error.kind() {
        io::ErrorKind::PermissionDenied => (ErrorClass::Denied, "check the permissions of the state directory"),
        io::ErrorKind::NotFound => (ErrorClass::Denied, "check the state directory and the program's path"),
        io::ErrorKind::StorageFull => (ErrorClass::Quota, "free space on the disk of the state directory"),
        _ => (ErrorClass::Retry, "try again"),
    };
    CloudError { class, what, why: format!("{error}; {advice}") }
}
