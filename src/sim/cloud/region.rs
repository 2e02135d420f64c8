//! What is true of the cloud, and what a listing shows of it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::chance::Chance;
use super::super::clock::Time;
use super::super::mischief::{Mischief, Tally};
use super::decoy::Decoy;
use super::golden::Golden;
use super::machine::Work;
use crate::cloud::CloudError;
use crate::domain::id::{InstallId, SlotId};
use crate::domain::network::{Interface, Placement};
use crate::domain::observed::{Location, Tags};
use crate::domain::owned::name_prefix;
use crate::domain::time::Timestamp;

/// How the cloud behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weather {
    /// The longest that something new stays invisible. AWS promises no bound and speaks of minutes ("Eventual
    /// consistency in the Amazon EC2 API"); what we wait for is the policy's `pace.grace`.
    pub invisible: Duration,
    /// The longest that something gone is still shown. (The API keeps terminated instances for about an hour.)
    pub ghosts: Duration,
    /// How often in a thousand a listing lacks one of its items without saying so.
    pub lossy_permille: u64,
    /// How often in a thousand a listing ends early, and says so.
    pub partial_permille: u64,
    /// How often in a thousand a database cannot be made.
    pub failing_permille: u64,
    /// How often in a thousand a zone has no machine of the type that is asked for.
    pub crowded_permille: u64,
    /// From asking for a machine to its agent's answering: 25.8 s in the median ("EC2 boot times", 2021).
    pub boot: (Duration, Duration),
    /// From asking for a database to its being there.
    pub restore: (Duration, Duration),
    /// How long after being made a database refuses to be deleted, because it is backed up.
    pub backup: Duration,
    /// How long network interfaces outlive what they belong to: minutes at times, which is what `DependencyViolation`
    /// tells of ("Resolve the dependency error when deleting a security group", AWS re:Post).
    pub lingering: Duration,
}

impl Weather {
    /// Everything is seen at once; databases are cloned in seconds.
    pub const FAIR: Self = Self {
        invisible: Duration::ZERO,
        ghosts: Duration::ZERO,
        lossy_permille: 0,
        partial_permille: 0,
        failing_permille: 0,
        crowded_permille: 0,
        boot: (Duration::from_secs(20), Duration::from_secs(40)),
        restore: (Duration::from_secs(2), Duration::from_secs(10)),
        backup: Duration::ZERO,
        lingering: Duration::ZERO,
    };
}

/// Limits of the account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quotas {
    /// Machines at once.
    pub machines: usize,
    /// Databases at once: 40 unless raised (RDS user guide, "Quotas and constraints").
    pub databases: usize,
    /// `RunInstances`: the bucket's size and its refill a second: 5 and 2 (EC2 API reference, "Request throttling").
    pub launches: (u32, u32),
}

impl Default for Quotas {
    fn default() -> Self {
        Self { machines: 1_000, databases: 1_000, launches: (5, 2) }
    }
}

/// A call that arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// When.
    pub at: Timestamp,
    /// `launch`, `start`, `stop`, `terminate`, `prepare`, `start-database`, `stop-database`, `delete`, `drop-golden`,
    /// `list-machines`, `list-databases`, `list-interfaces` or `list-goldens`. With `ask-` before it: the caller has decided
    /// on it, whatever becomes of the call.
    pub kind: &'static str,
    /// The name of the thing; empty for a listing.
    pub name: String,
    /// Whose it is.
    pub tags: Option<Tags>,
    /// Why nothing was done; `None`: it was done.
    pub refused: Option<String>,
}

/// A machine or a database.
#[derive(Debug, Clone)]
pub(super) struct Resource<T> {
    pub name: String,
    pub tags: Option<Tags>,
    pub location: Location,
    pub born_at: Timestamp,
    pub visible_at: Timestamp,
    /// When it is up.
    pub ready_at: Timestamp,
    pub life: Life,
    /// Deletion protection.
    pub protected: bool,
    /// The slot that its network interface is a member of.
    pub slot: Option<SlotId>,
    pub decoy: Option<Decoy>,
    /// Whether a decoy stays when those of stories are taken away.
    pub lasting: bool,
    pub own: T,
}

/// How far a resource is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    Up,
    /// On its way down until it is ready, and down from then on.
    Stopped,
    /// It could not be made. Databases only.
    Failed,
    /// It ends at the first time and is shown until the second.
    Ending(Timestamp, Timestamp),
}

impl<T> Resource<T> {
    pub fn is_alive(&self, now: Timestamp) -> bool {
        !matches!(self.life, Life::Ending(end, _) if end <= now)
    }

    /// Whether it costs by the hour. What has failed cannot be stopped.
    pub fn is_awake(&self, now: Timestamp) -> bool {
        match self.life {
            Life::Up => true,
            Life::Stopped => self.ready_at > now,
            Life::Failed | Life::Ending(..) => false,
        }
    }

    /// Its network interface in its slot, which outlives it for a while, and whose it is.
    fn interface(&self, now: Timestamp, lingering: Duration) -> Option<(Interface, Option<Tags>)> {
        let is_gone = matches!(self.life, Life::Ending(end, _) if end.plus(lingering) <= now);
        let slot = self.slot.clone().filter(|_| !is_gone)?;
        Some((Interface { id: format!("eni-{}", self.name), slot }, self.tags.clone()))
    }

    fn is_shown(&self, now: Timestamp) -> bool {
        self.visible_at <= now && !matches!(self.life, Life::Ending(end, shown) if end.max(shown) <= now)
    }
}

/// What a machine has besides.
#[derive(Debug, Clone, Default)]
pub(super) struct MachineParts {
    pub token: String,
    pub placement: Option<Placement>,
    pub address: String,
    /// What its agent does; lost when it stops.
    pub work: Work,
}

/// What a database has besides.
#[derive(Debug, Clone, Default)]
pub(super) struct DatabaseParts {
    pub backed_up_at: Timestamp,
}

#[derive(Debug)]
pub(super) struct Region {
    pub time: Time,
    pub chance: Chance,
    pub weather: Weather,
    pub quotas: Quotas,
    pub machines: BTreeMap<String, Resource<MachineParts>>,
    pub databases: BTreeMap<String, Resource<DatabaseParts>>,
    pub goldens: BTreeMap<String, Golden>,
    pub journal: Vec<Entry>,
    pub breaches: Vec<String>,
    pub met: Tally,
    pub listings: u64,
    pub pages: u64,
    launches: Bucket,
    numbers: u64,
}

/// How many calls a listing of that many items takes.
fn pages(items: usize) -> u64 {
    (items as u64).div_ceil(100).max(1)
}

impl Region {
    pub fn new(time: Time, chance: Chance, weather: Weather) -> Self {
        Self {
            time,
            chance,
            weather,
            quotas: Quotas::default(),
            machines: BTreeMap::new(),
            databases: BTreeMap::new(),
            goldens: BTreeMap::new(),
            journal: Vec::new(),
            breaches: Vec::new(),
            met: Tally::default(),
            listings: 0,
            pages: 0,
            launches: Bucket::default(),
            numbers: 0,
        }
    }

    pub fn now(&self) -> Timestamp {
        self.time.now()
    }

    /// A number that was not given out before.
    pub fn fresh(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    pub fn note(&mut self, kind: &'static str, name: &str, tags: Option<Tags>) {
        let at = self.now();
        self.journal.push(Entry { at, kind, name: name.to_owned(), tags, refused: None });
    }

    /// Keeps what came of a call that was to change something: what was done is noted where it is done.
    pub fn answer<T>(
        &mut self,
        kind: &'static str,
        name: &str,
        tags: &Tags,
        answer: Result<T, CloudError>,
    ) -> Result<T, CloudError> {
        if let Err(error) = &answer {
            let (at, name, refused) = (self.now(), name.to_owned(), Some(error.to_string()));
            self.journal.push(Entry { at, kind, name, tags: Some(tags.clone()), refused });
        }
        answer
    }

    /// When something born now is seen.
    pub fn visible_at(&mut self) -> Timestamp {
        let delay = self.chance.between(Duration::ZERO, self.weather.invisible);
        self.now().plus(delay)
    }

    /// The life of something that ends within that time.
    pub fn ending(&mut self, least: u64, most: u64) -> Life {
        let end = self.now().plus(self.chance.between(Duration::from_secs(least), Duration::from_secs(most)));
        Life::Ending(end, end.plus(self.chance.between(Duration::ZERO, self.weather.ghosts)))
    }

    /// Whether a launch may be made now; it is paid for if so.
    pub fn take_launch(&mut self) -> bool {
        let now = self.now();
        self.launches.take(self.quotas.launches, now)
    }

    pub fn residue(&self) -> Vec<String> {
        let now = self.now();
        let machines = self.machines.values().filter(|one| one.decoy.is_none() && one.is_alive(now));
        let databases = self.databases.values().filter(|one| one.decoy.is_none() && one.is_alive(now));
        machines
            .map(|one| format!("machine {}", one.name))
            .chain(databases.map(|one| format!("database {}", one.name)))
            .chain(self.interfaces().into_iter().map(|(interface, _)| format!("interface {}", interface.id)))
            .collect()
    }

    /// Whether something of an environment is in a slot still, whatever it belonged to.
    pub fn is_in_a_slot(&self, uid: &str) -> bool {
        let mut owners = self.interfaces().into_iter().filter_map(|(_, owner)| owner);
        owners.any(|owner| owner.uid.as_str() == uid)
    }

    /// Whether one that is shown belongs to something that is gone.
    pub fn is_any_lingering(&self) -> bool {
        let (now, lingering) = (self.now(), self.weather.lingering);
        let machines = self.machines.values().any(|one| !one.is_alive(now) && one.interface(now, lingering).is_some());
        machines || self.databases.values().any(|one| !one.is_alive(now) && one.interface(now, lingering).is_some())
    }

    /// The network interfaces that are members of slots, and whose they are.
    pub fn interfaces(&self) -> Vec<(Interface, Option<Tags>)> {
        let (now, lingering) = (self.now(), self.weather.lingering);
        let machines = self.machines.values().filter_map(|one| one.interface(now, lingering));
        machines.chain(self.databases.values().filter_map(|one| one.interface(now, lingering))).collect()
    }

    /// What comes into a slot finds nobody else there (I17).
    pub fn enter(&mut self, slot: Option<&SlotId>, tags: &Tags) {
        let others = self.interfaces().into_iter().filter(|(interface, owner)| {
            Some(&interface.slot) == slot && owner.as_ref().is_none_or(|owner| owner.uid != tags.uid)
        });
        let met: Vec<String> = others.map(|(interface, _)| interface.id).collect();
        if !met.is_empty() {
            self.breaches.push(format!("{} shares its slot with {}", tags.uid, met.join(", ")));
        }
    }

    pub fn alive(&self, uid: &str) -> (usize, usize) {
        let now = self.now();
        let of = |tags: &Option<Tags>| tags.as_ref().is_some_and(|tags| tags.uid.as_str() == uid);
        let machines = self.machines.values().filter(|one| one.decoy.is_none() && of(&one.tags) && one.is_alive(now));
        let databases = self.databases.values().filter(|one| one.decoy.is_none() && of(&one.tags) && one.is_alive(now));
        (machines.count(), databases.count())
    }

    /// Machines and databases that are up, or on their way up or down: what costs by the hour.
    pub fn awake(&self, uid: &str) -> (usize, usize) {
        let now = self.now();
        let of = |tags: &Option<Tags>| tags.as_ref().is_some_and(|tags| tags.uid.as_str() == uid);
        let machines = self.machines.values().filter(|one| one.decoy.is_none() && of(&one.tags) && one.is_awake(now));
        let databases = self.databases.values().filter(|one| one.decoy.is_none() && of(&one.tags) && one.is_awake(now));
        (machines.count(), databases.count())
    }

    pub fn stop_one(&mut self) -> Option<String> {
        let machine = self.any_up()?;
        machine.life = Life::Stopped;
        machine.own.work = Work::default();
        Some(machine.name.clone())
    }

    pub fn lose_one(&mut self) -> Option<String> {
        let now = self.now();
        let machine = self.any_up()?;
        machine.life = Life::Ending(now, now);
        Some(machine.name.clone())
    }

    fn any_up(&mut self) -> Option<&mut Resource<MachineParts>> {
        let up: Vec<String> = self
            .machines
            .iter()
            .filter(|(_, one)| one.decoy.is_none() && one.life == Life::Up)
            .map(|(id, _)| id.clone())
            .collect();
        let id = self.chance.one(&up)?.clone();
        self.machines.get_mut(&id)
    }

    /// What a listing by our tag and our prefix shows, and whether it came to its end.
    pub fn list<'a, T>(
        chance: &mut Chance,
        met: &Tally,
        weather: Weather,
        now: Timestamp,
        from: impl Iterator<Item = &'a Resource<T>>,
        install: &InstallId,
        separator: char,
    ) -> (Vec<&'a Resource<T>>, bool)
    where
        T: 'a,
    {
        let prefix = name_prefix(install, separator);
        let asked_for = from.filter(|one| {
            one.name.starts_with(&prefix) || one.tags.as_ref().is_some_and(|tags| tags.install == *install)
        });
        let (shown, hidden): (Vec<_>, Vec<_>) = asked_for.partition(|one| one.is_shown(now));
        if hidden.iter().any(|one| one.visible_at > now && one.is_alive(now)) {
            met.note(Mischief::Invisible);
        }
        if shown.iter().any(|one| !one.is_alive(now)) {
            met.note(Mischief::Ghost);
        }
        // Both strike what is ours: that others' things are lacking would show nothing.
        let (decoys, mut ours): (Vec<_>, Vec<_>) = shown.into_iter().partition(|one| one.decoy.is_some());
        let mut complete = true;
        if !ours.is_empty() && chance.permille(weather.lossy_permille) {
            let lost = chance.below(ours.len() as u64);
            ours.remove(usize::try_from(lost).unwrap_or_default());
            met.note(Mischief::Lossy);
        }
        if chance.permille(weather.partial_permille) {
            let kept = chance.below(ours.len() as u64);
            ours.truncate(usize::try_from(kept).unwrap_or_default());
            complete = false;
            met.note(Mischief::Partial);
        }
        ours.extend(decoys);
        (ours, complete)
    }

    pub fn count_listing(&mut self, kind: &'static str, items: usize) {
        self.note(kind, "", None);
        self.listings += 1;
        self.pages += pages(items);
    }
}

/// Tokens that are taken by calls and come back with time.
#[derive(Debug, Default)]
struct Bucket {
    taken: f64,
    at: Timestamp,
}

impl Bucket {
    fn take(&mut self, (size, refill): (u32, u32), now: Timestamp) -> bool {
        self.taken = (self.taken - now.since(self.at).as_secs_f64() * f64::from(refill)).max(0.0);
        self.at = now;
        let fits = self.taken + 1.0 <= f64::from(size);
        if fits {
            self.taken += 1.0;
        }
        fits
    }
}
