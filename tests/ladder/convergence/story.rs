//! What happens to pull requests: made up from a seed, or told again in fewer words.

use std::time::Duration;

use kagero::domain::brake::{Brake, BrakeKind, SetBy};
use kagero::domain::id::{EnvKey, RepoId, RepoName};
use kagero::domain::pull::{Pins, PullFacts, PullState};
use kagero::sim::chance::Chance;
use kagero::sim::cloud::{Decoy, Quotas};
use kagero::sim::hub::{Pull, key};

use super::truth::Violation;
use super::world::{CONFIG, Installation, REPO, commit};

/// Something that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A commit is pushed; a pull request that is not there is opened.
    Push {
        pr: u64,
        broken: bool,
    },
    Close {
        pr: u64,
        merged: bool,
    },
    Reopen {
        pr: u64,
    },
    /// The opt-out label is set or taken off.
    Label {
        pr: u64,
        off: bool,
    },
    Draft {
        pr: u64,
        draft: bool,
    },
    /// Somebody deletes our comment.
    Delete {
        pr: u64,
    },
    /// A machine fails.
    MachineStops,
    /// A machine is gone.
    MachineLost,
    /// Something appears that is not ours.
    Decoy {
        pr: u64,
        decoy: Decoy,
    },
    /// A controller is killed.
    Kill {
        member: usize,
    },
    /// The clock of a controller's machine is put: by so many minutes it is wrong from now on.
    Clock {
        member: usize,
        wrong: i64,
    },
    /// GitHub is down for so many minutes.
    Outage {
        minutes: u64,
    },
    /// Somebody switches deletion protection on.
    Protect {
        pr: u64,
    },
    /// The account may have so many machines and databases from now on.
    Quotas {
        most: usize,
    },
    /// An operator stops something: for one pull request, or for all.
    Brake {
        kind: BrakeKind,
        pr: Option<u64>,
    },
    /// An operator takes every brake off.
    Lift,
    /// The base branch loses its configuration, or has it again.
    Config {
        there: bool,
    },
    /// A commit is pushed to the pull request that comes from a fork.
    Fork,
    /// A maintainer approves the newest commit of that.
    Approve,
}

impl Event {
    /// Each kind by its name.
    pub const KINDS: [&str; 19] = [
        "push",
        "close",
        "reopen",
        "label",
        "draft",
        "delete comment",
        "machine stops",
        "machine lost",
        "decoy",
        "kill",
        "clock",
        "outage",
        "protect",
        "quotas",
        "brake",
        "lift",
        "config",
        "fork",
        "approve",
    ];

    pub fn kind(self) -> &'static str {
        let place = match self {
            Self::Push { .. } => 0,
            Self::Close { .. } => 1,
            Self::Reopen { .. } => 2,
            Self::Label { .. } => 3,
            Self::Draft { .. } => 4,
            Self::Delete { .. } => 5,
            Self::MachineStops => 6,
            Self::MachineLost => 7,
            Self::Decoy { .. } => 8,
            Self::Kill { .. } => 9,
            Self::Clock { .. } => 10,
            Self::Outage { .. } => 11,
            Self::Protect { .. } => 12,
            Self::Quotas { .. } => 13,
            Self::Brake { .. } => 14,
            Self::Lift => 15,
            Self::Config { .. } => 16,
            Self::Fork => 17,
            Self::Approve => 18,
        };
        Self::KINDS[place]
    }
}

/// How many pull requests a story is about.
pub const PULLS: u64 = 4;

/// The one that comes from a fork.
pub const FORK: u64 = 899;

/// Whose repository that is.
const ELSEWHERE: RepoId = RepoId(77);

/// How many kinds of decoys are in stories: one more would give every seed another meaning.
const DECOYS: usize = 8;

/// Makes up a story: what happens, and after how long.
pub fn make_up(chance: &mut Chance, length: u64) -> Vec<(Duration, Event)> {
    (0..length)
        .map(|_| {
            let gap = if chance.permille(300) {
                Duration::from_secs(chance.below(5))
            } else {
                chance.between(Duration::from_secs(10), Duration::from_mins(8))
            };
            (gap, event(chance))
        })
        .collect()
}

/// Clocks that are put wrong in the middle of a story, by up to an hour.
pub fn put_clocks(chance: &mut Chance, story: &mut Vec<(Duration, Event)>) {
    for _ in 0..=chance.below(3) {
        let place = usize::try_from(chance.below(story.len() as u64 + 1)).unwrap();
        let member = usize::try_from(chance.below(2)).unwrap();
        let wrong = i64::try_from(chance.below(121)).unwrap() - 60;
        story.insert(place, (Duration::ZERO, Event::Clock { member, wrong }));
    }
}

/// What the world outside does to all: put into a story, each sometimes.
pub fn add_misfortunes(chance: &mut Chance, story: &mut Vec<(Duration, Event)>) {
    let outage = Event::Outage { minutes: 5 + chance.below(175) };
    let protect = Event::Protect { pr: 1 + chance.below(PULLS) };
    let quotas = Event::Quotas { most: usize::try_from(chance.below(3)).unwrap() };
    for event in [outage, protect, quotas] {
        if chance.permille(200) {
            let place = usize::try_from(chance.below(story.len() as u64 + 1)).unwrap();
            story.insert(place, (Duration::ZERO, event));
        }
    }
}

/// What operators and maintainers do: put into a story, each sometimes.
pub fn add_hands(chance: &mut Chance, story: &mut Vec<(Duration, Event)>) {
    let pr = Some(1 + chance.below(PULLS));
    let brakes = [(BrakeKind::Hold, pr), (BrakeKind::Freeze, None), (BrakeKind::Pause, None), (BrakeKind::Pause, pr)];
    let mut events = Vec::new();
    for (kind, pr) in brakes {
        if chance.permille(100) {
            events.push(Event::Brake { kind, pr });
            events.extend(chance.permille(500).then_some(Event::Lift));
        }
    }
    if chance.permille(250) {
        events.push(Event::Config { there: false });
        events.extend(chance.permille(500).then_some(Event::Config { there: true }));
    }
    if chance.permille(300) {
        events.push(Event::Fork);
        let more = [Event::Approve, Event::Fork, Event::Approve, Event::Close { pr: FORK, merged: false }];
        events.extend(more.into_iter().filter(|_| chance.permille(500)));
    }
    // Each somewhere after the one before.
    let mut place = 0;
    for event in events {
        place += usize::try_from(chance.below((story.len() - place) as u64 + 1)).unwrap();
        let gap = chance.between(Duration::ZERO, Duration::from_mins(12));
        story.insert(place, (gap, event));
        place += 1;
    }
}

fn event(chance: &mut Chance) -> Event {
    let pr = 1 + chance.below(PULLS);
    match chance.below(100) {
        0..=37 => Event::Push { pr, broken: chance.permille(150) },
        38..=57 => Event::Close { pr, merged: chance.permille(500) },
        58..=68 => Event::Reopen { pr },
        69..=73 => Event::Label { pr, off: chance.permille(500) },
        74..=78 => Event::Draft { pr, draft: chance.permille(500) },
        79..=82 => Event::Delete { pr },
        83..=86 => Event::MachineStops,
        87..=89 => Event::MachineLost,
        90..=93 => Event::Decoy { pr, decoy: *chance.one(&Decoy::ALL[..DECOYS]).unwrap() },
        _ => Event::Kill { member: usize::try_from(chance.below(2)).unwrap() },
    }
}

impl Installation {
    /// Lets a story happen.
    pub async fn tell(&mut self, story: &[(Duration, Event)]) -> Result<(), Violation> {
        for (number, (gap, event)) in (1..).zip(story) {
            self.pass_time(*gap).await?;
            self.happen(number, *event).await;
            self.truth.look().await?;
        }
        Ok(())
    }

    /// Lets one thing happen.
    pub async fn happen(&mut self, number: u64, event: Event) {
        match event {
            Event::Push { pr, broken } => {
                let sha = commit(number, broken);
                self.change(pr, number, |facts| facts.head_sha = sha.clone());
            }
            Event::Close { pr, merged } if self.is(pr, PullState::Open) => {
                let state = if merged { PullState::Merged } else { PullState::Closed };
                self.change(pr, number, |facts| facts.state = state);
            }
            Event::Reopen { pr } if self.is(pr, PullState::Closed) => {
                self.change(pr, number, |facts| facts.state = PullState::Open);
            }
            Event::Label { pr, off } if self.is_known(pr) => {
                let label = self.outside.policy.labels.off.clone();
                self.change(pr, number, |facts| {
                    if off {
                        facts.labels.insert(label)
                    } else {
                        facts.labels.remove(&label)
                    };
                });
            }
            Event::Draft { pr, draft } if self.is_known(pr) => {
                self.change(pr, number, |facts| facts.draft = draft);
            }
            Event::Delete { pr } => {
                self.outside.hub.delete_comment(key(REPO, pr));
                self.truth.note_deleted(key(REPO, pr));
            }
            Event::MachineStops => self.truth.note_losses(self.outside.cloud.stop_one().is_some()),
            Event::MachineLost => self.truth.note_losses(self.outside.cloud.lose_one().is_some()),
            Event::Decoy { pr, decoy } => {
                self.outside.cloud.add_decoy(decoy, &self.outside.policy.install, key(REPO, pr));
            }
            Event::Kill { member } => {
                if let Some(member) = self.members.get_mut(member) {
                    member.restart().await;
                }
            }
            Event::Clock { member, wrong } => {
                if let Some(member) = self.members.get(member) {
                    self.truth.note_clock();
                    member.clock.put_wrong(wrong * 60_000);
                }
            }
            Event::Outage { minutes } => self.outside.hub.go_down(Duration::from_mins(minutes)),
            Event::Protect { pr } => self.outside.cloud.protect(self.uid(key(REPO, pr)).as_str(), true),
            Event::Quotas { most } => {
                self.outside.cloud.set_quotas(Quotas { machines: most, databases: most, ..Quotas::default() });
            }
            Event::Brake { kind, pr } => self.brake(kind, pr).await,
            Event::Lift => self.lift().await,
            Event::Config { there } => self.configure(there),
            Event::Fork => {
                let sha = commit(number, false);
                self.change(FORK, number, |facts| (facts.head_sha, facts.head_repo) = (sha.clone(), Some(ELSEWHERE)));
            }
            Event::Approve => self.approve().await,
            Event::Close { .. } | Event::Reopen { .. } | Event::Label { .. } | Event::Draft { .. } => {}
        }
    }

    async fn brake(&mut self, kind: BrakeKind, pr: Option<u64>) {
        let (key, at) = (pr.map(|pr| key(REPO, pr)), self.outside.time.now());
        // Longer than any story, whatever a wrong clock takes of it.
        let until = at.plus(Duration::from_hours(12));
        let brake = Brake { kind, key, reason: "a story".to_owned(), by: SetBy::Operator, at, until };
        self.outside.store.set_brake(&brake).await.unwrap();
        self.truth.note_braked(kind, key);
    }

    /// Takes every brake off, those of guards as well.
    pub async fn lift(&mut self) {
        let now = self.outside.time.now();
        for brake in self.outside.store.brakes(now).await.unwrap() {
            self.outside.store.lift_brake(brake.kind, brake.key, now).await.unwrap();
        }
        for member in &self.members {
            self.outside.hub.keys().into_iter().for_each(|key| member.desk().wake(key));
        }
        self.truth.note_lifted();
    }

    /// The base branch has its configuration, or has none.
    pub fn configure(&mut self, there: bool) {
        let name = RepoName::parse("acme/shop").unwrap();
        let hub = &self.outside.hub;
        if there {
            hub.add_repo(RepoId(REPO), name, CONFIG);
        } else {
            hub.remove_file(RepoId(REPO));
        }
        for key in self.outside.hub.keys() {
            self.note(key);
        }
    }

    /// A maintainer approves the newest commit of the fork, which is told as every change is.
    async fn approve(&mut self) {
        let key = key(REPO, FORK);
        let Some(pull) = self.outside.hub.pull(key) else { return };
        let sha = pull.facts.head_sha;
        let pins = self.outside.store.pins(key).await.unwrap();
        self.outside.store.put_pins(key, &Pins { approved_sha: Some(sha.clone()), ..pins }).await.unwrap();
        self.truth.note_approved(sha.clone());
        self.outside.hub.change(key, &sha, |_| {});
    }

    fn change(&mut self, pr: u64, number: u64, change: impl FnOnce(&mut PullFacts)) {
        let key = key(REPO, pr);
        self.outside.hub.change(key, &commit(number, false), change);
        self.note(key);
    }

    /// Notes whether a pull request is to have an environment.
    fn note(&mut self, key: EnvKey) {
        let off = &self.outside.policy.labels.off;
        let is_wanted = |Pull { facts, .. }: Pull| {
            facts.state == PullState::Open && !facts.labels.contains(off) && !facts.is_fork()
        };
        if self.outside.hub.has_file(key.repo) && self.outside.hub.pull(key).is_some_and(is_wanted) {
            self.truth.note_wanted(key);
        } else {
            self.truth.note_unwanted(key);
        }
    }

    fn is(&self, pr: u64, state: PullState) -> bool {
        self.outside.hub.pull(key(REPO, pr)).is_some_and(|pull| pull.facts.state == state)
    }

    fn is_known(&self, pr: u64) -> bool {
        self.outside.hub.pull(key(REPO, pr)).is_some()
    }
}
