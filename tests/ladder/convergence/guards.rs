//! Every guard of deletion refuses in a world made for it; one that never does proves nothing.
//!
//! The real controller counts what its guards refuse (`kagero_refusals_total`); here that is read. A new guard does
//! not compile until it has a scenario.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use kagero::controller::sweep::Scope;
use kagero::domain::brake::{Brake, BrakeKind, SetBy};
use kagero::domain::guard::Guard;
use kagero::domain::id::{EnvUid, Generation, RepoId, RepoName};
use kagero::domain::ledger::{Ledger, Standing};
use kagero::domain::observed::{Machine, MachineState, Tags};
use kagero::domain::owned::{Claim, machine_name, prove_machine};
use kagero::domain::policy::Policy;
use kagero::domain::pull::PullState;
use kagero::sim::cloud::{Decoy, Weather, staging};
use kagero::sim::fate::{Call, Fate};
use kagero::sim::hub::{Mood, key};
use metrics::{Counter, CounterFn, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};

use super::story::Event;
use super::sweep::{all, leaked, pass, strays, sweep};
use super::world::{Beginning, CONFIG, Installation, REPO, commit};

const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);

/// Counts refusals on this thread.
#[derive(Clone, Default)]
struct Tally(Arc<Mutex<BTreeMap<String, Arc<Count>>>>);

#[derive(Default)]
struct Count(AtomicU64);

impl CounterFn for Count {
    fn increment(&self, by: u64) {
        self.0.fetch_add(by, Ordering::SeqCst);
    }

    fn absolute(&self, to: u64) {
        self.0.fetch_max(to, Ordering::SeqCst);
    }
}

impl Tally {
    fn of(&self, guard: Guard) -> u64 {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.get(guard.word()).map_or(0, |count| count.0.load(Ordering::SeqCst))
    }
}

impl Recorder for Tally {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        if key.name() != "kagero_refusals_total" {
            return Counter::noop();
        }
        let guard = key.labels().next().map(|label| label.value().to_owned()).unwrap_or_default();
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Counter::from_arc(Arc::clone(counts.entry(guard).or_default()))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

/// Whether the guard refused in its world, from the moment that the world was ready for it.
async fn refuses(guard: Guard) -> bool {
    let tally = Tally::default();
    let counting = metrics::set_default_local_recorder(&tally);
    let before = match guard {
        Guard::Untagged => beside(&tally, guard, Decoy::Untagged).await,
        Guard::OtherInstall => beside(&tally, guard, Decoy::Relabelled).await,
        Guard::FutureGeneration => beside(&tally, guard, Decoy::Future).await,
        Guard::Name => beside(&tally, guard, Decoy::OtherName).await,
        Guard::Place => beside(&tally, guard, Decoy::CopiedTags).await,
        // No path leads here: an environment looks at what carries its uid, and a sweep at what carries the mark's.
        Guard::OtherEnvironment => return asked_for_another(guard),
        Guard::StaleEvidence => stale(&tally, guard).await,
        Guard::InUse => {
            let installation = one().await;
            let install = &installation.outside.policy.install;
            installation.outside.cloud.add_golden(install, Some(install), true);
            sweep_of(installation, &tally, guard).await
        }
        Guard::YoungMark => sweep_of(leaked().await, &tally, guard).await,
        Guard::Claimed | Guard::Unmarked | Guard::Vanished | Guard::LeaseTaken => between(&tally, guard).await,
        Guard::Pause => braked(&tally, guard, BrakeKind::Pause, SetBy::Operator).await,
        Guard::Hold => braked(&tally, guard, BrakeKind::Hold, SetBy::Operator).await,
        Guard::Freeze => braked(&tally, guard, BrakeKind::Freeze, SetBy::Operator).await,
        Guard::FrozenByGuard | Guard::ManyLeave => expired(&tally, guard).await,
        Guard::UnknownListing => {
            let mut installation = one().await;
            let partial = Weather { partial_permille: 1_000, ..Weather::FAIR };
            installation.outside.cloud.set_weather(partial);
            closes(&mut installation, &tally, guard).await
        }
        Guard::MachineFirst => closes(&mut one().await, &tally, guard).await,
        Guard::Unread => {
            let mut installation = one().await;
            let before = tally.of(guard);
            // The pull request is read, its configuration is not.
            installation.outside.dealer.script(Call::Read, 1, Fate::Error);
            happen(&mut installation, Event::Push { pr: 1, broken: false }).await;
            before
        }
        Guard::BrokenConfig => reconfigured(&tally, guard, "version: 1\nservices: nonsense\n").await,
        Guard::Unservable => reconfigured(&tally, guard, &CONFIG.replace("seed: golden", "seed: silver")).await,
        Guard::Delisted => under(&tally, guard, |policy| policy.repositories.clear()).await,
        Guard::Unapproved => {
            let mut installation = one().await;
            let before = tally.of(guard);
            installation.outside.hub.change(key(REPO, 1), &commit(2, false), |facts| {
                facts.head_repo = None;
            });
            pass(&mut installation, MINUTE * 15).await;
            before
        }
        Guard::OlderState => {
            let mut installation = one().await;
            let before = tally.of(guard);
            happen(&mut installation, Event::Close { pr: 1, merged: false }).await;
            installation.happen(8, Event::Reopen { pr: 1 }).await;
            pass(&mut installation, MINUTE).await;
            // It is known to be open; a replica of GitHub's still has it closed.
            installation.outside.hub.set_mood(Mood { stale_permille: 1_000, ..Mood::default() });
            pass(&mut installation, MINUTE * 15).await;
            before
        }
        Guard::EmptyAllowList => {
            let mut installation = one().await;
            let mut policy = installation.outside.policy.clone();
            policy.allow.networks.clear();
            installation.members[0].adopt(policy).await;
            sweep_of(installation, &tally, guard).await
        }
        Guard::NothingListed => {
            let installation = one().await;
            let chance = kagero::sim::chance::Chance::new(1);
            installation.outside.dealer.scatter(chance, &[Fate::Error], 1_000);
            sweep_of(installation, &tally, guard).await
        }
        Guard::Elsewhere => {
            let installation = Installation::begin(Beginning::fair(6)).await;
            let install = &installation.outside.policy.install;
            installation.outside.cloud.add_decoy(Decoy::CopiedTags, install, key(REPO, 1));
            sweep_of(installation, &tally, guard).await
        }
        Guard::Shrunk => {
            let mut installation = Installation::begin(Beginning::fair(6)).await;
            all(&mut installation, 1..=12, true).await;
            while installation.outside.cloud.lose_one().is_some() {}
            sweep_of(installation, &tally, guard).await
        }
        Guard::ManySwept => {
            let installation = seven().await;
            sweep_of(installation, &tally, guard).await
        }
        Guard::OpenPull => {
            let mut installation = Installation::begin(Beginning::fair(5)).await;
            strays(&installation, 1..=1);
            grow_old(&mut installation).await;
            installation.outside.hub.change(key(REPO, 1), &commit(1, false), |facts| facts.state = PullState::Open);
            sweep_of(installation, &tally, guard).await
        }
        Guard::UnreadPull => {
            let installation = ripe().await;
            // After the comments and the deployments of the repository.
            installation.outside.dealer.script(Call::Read, 2, Fate::Error);
            sweep_of(installation, &tally, guard).await
        }
        Guard::PartialSweep => {
            // Enough of them for a part to be more than nothing.
            let installation = seven().await;
            installation.outside.cloud.set_weather(Weather { partial_permille: 1_000, ..Weather::FAIR });
            sweep_of(installation, &tally, guard).await
        }
        Guard::UnknownMachines => {
            let installation = ripe().await;
            installation.outside.dealer.script(Call::ListMachines, 0, Fate::Error);
            sweep_of(installation, &tally, guard).await
        }
        Guard::HousedOrphan => {
            let mut installation = leaked().await;
            strays(&installation, 1..=1);
            grow_old(&mut installation).await;
            sweep_of(installation, &tally, guard).await
        }
        Guard::Fence => {
            let mut installation = Installation::begin(Beginning { members: 2, ..Beginning::fair(5) }).await;
            installation.outside.dealer.script(Call::Launch, 0, Fate::Pause);
            happen(&mut installation, Event::Push { pr: 1, broken: false }).await;
            0
        }
    };
    let refused = tally.of(guard) > before;
    drop(counting);
    refused
}

/// One environment that is ready, and nothing to do.
async fn one() -> Installation {
    let mut installation = Installation::begin(Beginning::fair(5)).await;
    all(&mut installation, 1..=1, true).await;
    installation
}

async fn happen(installation: &mut Installation, event: Event) {
    installation.happen(7, event).await;
    pass(installation, MINUTE * 15).await;
}

async fn closes(installation: &mut Installation, tally: &Tally, guard: Guard) -> u64 {
    let before = tally.of(guard);
    happen(installation, Event::Close { pr: 1, merged: true }).await;
    before
}

async fn beside(tally: &Tally, guard: Guard, decoy: Decoy) -> u64 {
    let mut installation = one().await;
    let before = tally.of(guard);
    happen(&mut installation, Event::Decoy { pr: 1, decoy }).await;
    before
}

async fn reconfigured(tally: &Tally, guard: Guard, config: &str) -> u64 {
    let mut installation = one().await;
    let before = tally.of(guard);
    installation.outside.hub.add_repo(RepoId(REPO), RepoName::parse("acme/shop").unwrap(), config);
    happen(&mut installation, Event::Push { pr: 1, broken: false }).await;
    before
}

async fn under(tally: &Tally, guard: Guard, change: impl FnOnce(&mut Policy)) -> u64 {
    let mut installation = one().await;
    let before = tally.of(guard);
    let mut policy = installation.outside.policy.clone();
    change(&mut policy);
    installation.members[0].adopt(policy).await;
    pass(&mut installation, MINUTE * 15).await;
    before
}

async fn braked(tally: &Tally, guard: Guard, kind: BrakeKind, by: SetBy) -> u64 {
    let mut installation = one().await;
    let at = installation.outside.time.now();
    let of = (kind == BrakeKind::Hold).then(|| key(REPO, 1));
    let brake = Brake { kind, key: of, reason: "an incident".to_owned(), by, at, until: at.plus(HOUR) };
    installation.outside.store.set_brake(&brake).await.unwrap();
    let left = installation.outside.cloud.residue();
    let before = closes(&mut installation, tally, guard).await;
    assert_eq!(installation.outside.cloud.residue(), left, "{guard:?}");
    before
}

/// A clock, or a hand in the configuration, has made everything too old.
async fn expired(tally: &Tally, guard: Guard) -> u64 {
    let mut installation = Installation::begin(Beginning::fair(8)).await;
    all(&mut installation, 1..=8, true).await;
    let before = tally.of(guard);
    let policy = Policy { max_age: Duration::from_secs(1), ..installation.outside.policy.clone() };
    installation.members[0].adopt(policy).await;
    (1..=8).for_each(|pr| installation.truth.note_unwanted(key(REPO, pr)));
    pass(&mut installation, MINUTE * 20).await;
    before
}

/// Between the listing and the call the controller stands still for longer than a description lasts.
async fn stale(tally: &Tally, guard: Guard) -> u64 {
    let mut installation = one().await;
    // The first pass after the close notes that it leaves, the second takes away.
    installation.outside.dealer.script(Call::Status, 1, Fate::Pause);
    closes(&mut installation, tally, guard).await
}

/// Orphans that are old enough.
async fn ripe() -> Installation {
    let mut installation = leaked().await;
    grow_old(&mut installation).await;
    installation
}

/// As many of them as are too many.
async fn seven() -> Installation {
    let mut installation = Installation::begin(Beginning::fair(4)).await;
    all(&mut installation, 1..=7, true).await;
    all(&mut installation, 1..=7, false).await;
    strays(&installation, 1..=7);
    grow_old(&mut installation).await;
    installation
}

/// Four sweeps mark what nobody claims; then a day passes in which nobody sweeps.
async fn grow_old(installation: &mut Installation) {
    pass(installation, HOUR * 4).await;
    let time = &installation.outside.time;
    time.advance_to(time.elapsed() + HOUR * 24);
}

async fn sweep_of(installation: Installation, tally: &Tally, guard: Guard) -> u64 {
    let before = tally.of(guard);
    sweep(&installation, Scope::Apply(None)).await;
    before
}

/// Something happens between the verdict and the second look.
async fn between(tally: &Tally, guard: Guard) -> u64 {
    let mut installation = ripe().await;
    let before = tally.of(guard);
    let (outside, pull, uid) = (installation.outside.clone(), key(REPO, 1), installation.uid(key(REPO, 1)));
    outside.dealer.script(Call::ListDatabases, 1, Fate::Pause);
    let report = installation.members[0].sweep_around(async {
        match guard {
            Guard::Vanished => outside.cloud.set_weather(Weather { lossy_permille: 1_000, ..Weather::FAIR }),
            Guard::Unmarked => outside.cloud.retag(uid.as_str(), Generation::NONE),
            _ => {
                let now = outside.time.now();
                let lease = outside.store.acquire(pull, "another", MINUTE, now).await.unwrap().unwrap();
                if guard == Guard::Claimed {
                    let record = outside.store.ledger(pull).await.unwrap().unwrap();
                    let next = record.generation.next();
                    let record = Ledger { generation: next, standing: Standing::Live, enrolled_at: now, ..record };
                    outside.store.enroll(&lease, &record).await.unwrap();
                    outside.store.release_lease(&lease).await.unwrap();
                }
            }
        }
    });
    let report = report.await;
    let machine = report.verdicts.iter().find(|verdict| verdict.guard == Some(guard));
    assert!(machine.is_some(), "{guard:?}: {report:?}");
    before
}

fn asked_for_another(guard: Guard) -> bool {
    let (ours, other) = (key(REPO, 1), key(REPO, 2));
    let install = kagero::domain::id::InstallId::parse("simulated").unwrap();
    let uid = EnvUid::derive(&install, ours);
    let generation = Generation::FIRST;
    let tags = Tags { install: install.clone(), uid: EnvUid::derive(&install, other), key: other, generation };
    let machine = Machine {
        id: kagero::domain::id::MachineId::parse("i-1").unwrap(),
        name: machine_name(&tags, 1),
        tags: Some(tags),
        location: staging(),
        agent: None,
        placement: None,
        slot: None,
        state: MachineState::Running,
        read_at: kagero::sim::clock::BEGINNING,
    };
    let place = staging();
    let allow = kagero::domain::policy::AllowList {
        accounts: vec![place.account],
        regions: vec![place.region],
        networks: vec![place.network],
    };
    let refused = prove_machine(&machine, Claim { install: &install, uid: &uid, generation }, &allow);
    refused.is_err_and(|refusal| refusal.guard() == guard)
}

#[tokio::test]
async fn every_guard_was_seen_to_refuse() {
    let mut silent = Vec::new();
    for guard in Guard::ALL {
        if !Box::pin(refuses(*guard)).await {
            silent.push(*guard);
        }
    }
    assert!(silent.is_empty(), "these guards never refused: {silent:?}");
}
