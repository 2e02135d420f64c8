//! What happens to pull requests: made up from a seed, or told again in fewer words.

use std::time::Duration;

use kagero::domain::pull::{PullFacts, PullState};
use kagero::sim::chance::Chance;
use kagero::sim::cloud::{Decoy, Quotas};
use kagero::sim::hub::{Pull, key};

use super::truth::Violation;
use super::world::{Installation, REPO, commit};

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
}

impl Event {
    /// Each kind by its name.
    pub const KINDS: [&str; 14] = [
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
        };
        Self::KINDS[place]
    }
}

/// How many pull requests a story is about.
pub const PULLS: u64 = 4;

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
            Event::MachineStops => drop(self.outside.cloud.stop_one()),
            Event::MachineLost => drop(self.outside.cloud.lose_one()),
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
                    member.clock.put_wrong(wrong * 60_000);
                }
            }
            Event::Outage { minutes } => self.outside.hub.go_down(Duration::from_mins(minutes)),
            Event::Protect { pr } => self.outside.cloud.protect(self.uid(key(REPO, pr)).as_str(), true),
            Event::Quotas { most } => {
                self.outside.cloud.set_quotas(Quotas { machines: most, databases: most, ..Quotas::default() });
            }
            Event::Close { .. } | Event::Reopen { .. } | Event::Label { .. } | Event::Draft { .. } => {}
        }
    }

    fn change(&mut self, pr: u64, number: u64, change: impl FnOnce(&mut PullFacts)) {
        let key = key(REPO, pr);
        self.outside.hub.change(key, &commit(number, false), change);
        let off = &self.outside.policy.labels.off;
        match self.outside.hub.pull(key) {
            Some(Pull { facts, .. }) if facts.state == PullState::Open && !facts.labels.contains(off) => {
                self.truth.note_wanted(key);
            }
            _ => self.truth.note_unwanted(key),
        }
    }

    fn is(&self, pr: u64, state: PullState) -> bool {
        self.outside.hub.pull(key(REPO, pr)).is_some_and(|pull| pull.facts.state == state)
    }

    fn is_known(&self, pr: u64) -> bool {
        self.outside.hub.pull(key(REPO, pr)).is_some()
    }
}
