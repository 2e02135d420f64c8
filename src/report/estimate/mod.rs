//! What environments on AWS cost an hour, and which quotas they need, from what the operator has configured.
//!
//! Guarantees: no price is guessed. What has none is named, and a sum that lacks one is not given.
//! Must not know: how a configuration is written, and AWS itself.

mod fixed;
mod prices;
mod quotas;

use serde::Serialize;

pub use prices::SOURCE;
pub use quotas::Quota;

/// What is wanted, as far as it costs something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outline {
    /// Environments at once.
    pub environments: u32,
    /// The Region.
    pub region: String,
    /// Instance types of machines, the preferred one first.
    pub instance_types: Vec<String>,
    /// GiB of a machine's volume.
    pub volume: u32,
    /// Classes of the instances that databases run as; empty: databases are no instances of their own.
    pub classes: Vec<String>,
    /// Whether databases of some seeds are clusters.
    pub clusters: bool,
    /// Whether databases of some seeds are instances with storage of their own.
    pub volumes: bool,
    /// GiB of a database's storage.
    pub storage: u32,
    /// Hours of a day in which environments run; in the others they are asleep.
    pub hours: u32,
}

/// A part and what it costs, in dollars an hour; `None`: its price is not known.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Line {
    /// The part.
    pub part: &'static str,
    /// What it is.
    pub what: String,
    /// While it runs.
    pub running: Option<f64>,
    /// While it is asleep.
    pub asleep: Option<f64>,
}

/// What several parts cost together, in dollars; `None` where a price is lacking.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Sum {
    /// An hour, while they run.
    pub running: Option<f64>,
    /// An hour, while they are asleep.
    pub asleep: Option<f64>,
    /// A month of 730 hours.
    pub month: Option<f64>,
}

/// Slots, which infra/ makes: one for each environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Slots {
    /// For all environments at once.
    pub needed: u32,
    /// What `infra/deploy slots` is told; `None`: it makes fewer than are needed.
    pub deploy: Option<u32>,
}

/// Everything that can be said beforehand.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Estimate {
    /// Where the prices are from.
    pub source: &'static str,
    /// Hours of a day in which environments run.
    pub hours: u32,
    /// The parts of one environment.
    pub environment: Vec<Line>,
    /// One environment.
    pub one: Sum,
    /// How many there may be at once.
    pub environments: u32,
    /// All of them.
    pub all: Sum,
    /// What stands there anyway.
    pub fixed: Vec<Line>,
    /// All of that.
    pub standing: Sum,
    /// Everything together.
    pub total: Sum,
    /// AWS's quotas.
    pub quotas: Vec<Quota>,
    /// Slots.
    pub slots: Slots,
    /// What else has to be known, as sentences.
    pub notes: Vec<String>,
}

/// The most slots that infra/ makes, and of how many a series is.
const MOST_SLOTS: u32 = 200;
const SERIES: u32 = 20;

/// Computes it.
pub fn estimate(outline: &Outline) -> Estimate {
    let environment = environment(outline);
    let one = sum(&environment, outline.hours);
    let all = one.times(outline.environments);
    let fixed = fixed::lines();
    let standing = sum(&fixed, outline.hours);
    let needed = outline.environments;
    let deploy = needed.checked_next_multiple_of(SERIES).filter(|slots| *slots <= MOST_SLOTS);
    Estimate {
        source: SOURCE,
        hours: outline.hours,
        one,
        environments: outline.environments,
        all,
        standing,
        total: all.plus(standing),
        quotas: quotas::quotas(outline),
        slots: Slots { needed, deploy },
        notes: notes(outline, &environment),
        environment,
        fixed,
    }
}

/// The parts of one environment: with the preferred machine, and the dearest of the databases.
fn environment(outline: &Outline) -> Vec<Line> {
    let machine = outline.instance_types.first().map(|name| Line {
        part: "machine",
        what: name.clone(),
        running: prices::machine(name).map(|price| price.hour),
        asleep: Some(0.0),
    });
    let volume = prices::volume(outline.volume);
    let volume = Line {
        part: "volume",
        what: format!("{} GiB, gp3", outline.volume),
        running: Some(volume),
        asleep: Some(volume),
    };
    let mut lines: Vec<Line> = machine.into_iter().chain([volume]).collect();
    if let Some((class, running)) = dearest(&outline.classes) {
        lines.push(Line { part: "database", what: class.clone(), running, asleep: Some(0.0) });
    }
    if outline.volumes {
        let storage = prices::storage(outline.storage);
        lines.push(Line {
            part: "storage",
            what: format!("{} GiB of the database (assumed)", outline.storage),
            running: Some(storage),
            asleep: Some(storage),
        });
    }
    lines
}

/// A class without a price may be dearer than any that has one.
fn dearest(classes: &[String]) -> Option<(&String, Option<f64>)> {
    let rank = |price: &Option<f64>| price.unwrap_or(f64::INFINITY);
    let priced = classes.iter().map(|class| (class, prices::database(class)));
    priced.max_by(|(_, one), (_, other)| rank(one).total_cmp(&rank(other)))
}

fn sum(lines: &[Line], hours: u32) -> Sum {
    let running: Option<f64> = lines.iter().map(|line| line.running).sum();
    let asleep: Option<f64> = lines.iter().map(|line| line.asleep).sum();
    let share = f64::from(hours) / 24.0;
    let hour = running.zip(asleep).map(|(running, asleep)| running * share + asleep * (1.0 - share));
    Sum { running, asleep, month: hour.map(|hour| hour * prices::MONTH) }
}

impl Sum {
    fn times(self, count: u32) -> Self {
        let times = |price: Option<f64>| price.map(|price| price * f64::from(count));
        Self { running: times(self.running), asleep: times(self.asleep), month: times(self.month) }
    }

    fn plus(self, other: Self) -> Self {
        let plus = |one: Option<f64>, other: Option<f64>| one.zip(other).map(|(one, other)| one + other);
        Self {
            running: plus(self.running, other.running),
            asleep: plus(self.asleep, other.asleep),
            month: plus(self.month, other.month),
        }
    }
}

fn notes(outline: &Outline, environment: &[Line]) -> Vec<String> {
    let mut notes = Vec::new();
    for line in environment.iter().filter(|line| line.running.is_none()) {
        notes.push(format!(
            "the price of {} is not known here, and every sum that needs it is missing: look it up on \
             aws.amazon.com, and add it to what the other parts cost",
            line.what
        ));
    }
    for name in outline.instance_types.iter().skip(1) {
        notes.push(match prices::machine(name) {
            Some(price) => {
                format!("where AWS has no room for the first type, {name} is taken, for {:.4} an hour", price.hour)
            }
            None => format!(
                "where AWS has no room for the first type, {name} is taken; its price and its vCPUs are not \
                 known here: look them up"
            ),
        });
    }
    if outline.region != prices::REGION {
        notes.push(format!(
            "the prices are those of {}; those of {} are others: look them up before you plan with them",
            prices::REGION,
            outline.region
        ));
    }
    match outline.classes.as_slice() {
        [] => notes.push(
            "no seed is a snapshot on RDS, so no environment has an instance of its own; the server that databases are \
             cloned on is not in it"
                .to_owned(),
        ),
        [_] => {}
        [_, _, ..] => notes.push("of the seeds' classes the dearest is taken".to_owned()),
    }
    if outline.classes.iter().any(|class| class == prices::SERVERLESS) {
        notes.push(
            "of a serverless instance the price is that of the four capacity units that it takes at the most; idle, it takes \
             half of one. Its clone's storage is paid for as far as it differs from the golden cluster's"
                .to_owned(),
        );
    }
    if outline.volumes {
        notes.push(
            "a database has the storage of the snapshot that it was restored from, which no configuration knows: \
             --storage sets it"
                .to_owned(),
        );
    }
    let always = [
        "asleep is what is paid while machine and database are stopped, as those of drafts are",
        "not in it: traffic, CPU credits that burstable types use up beyond what they earn, logs, snapshots, and what \
         makes golden ones",
        "an account's quotas may be others by now: Service Quotas in the AWS console shows them. The 20 network \
         interfaces of what stands there anyway are assumed",
    ];
    notes.extend(always.map(str::to_owned));
    notes
}

#[cfg(test)]
mod tests;
