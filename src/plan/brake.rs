//! Brakes: what is not done because somebody, or a guard, has stopped it.

use crate::domain::brake::{Brake, BrakeKind, SetBy};
use crate::domain::desired::GoneReason;
use crate::domain::ledger::Left;
use crate::domain::policy::Policy;
use crate::domain::step::{Next, Plan, Step, Waiting};
use crate::domain::time::Timestamp;

/// The plan without what is stopped for this environment, and with the reason. `brakes` are those that concern it.
///
/// A pause stops everything. A hold, and a freeze by a person, stop whatever takes something away. A freeze by the guard
/// only stops what the guard is about: environments that would go without anybody's having asked for that one.
#[must_use]
pub fn restrain(plan: Plan, brakes: &[Brake], policy: &Policy, now: Timestamp) -> Plan {
    let Plan { steps, mut waiting, next } = plan;
    let before = steps.len();
    let on: Vec<&Brake> = brakes.iter().filter(|brake| brake.is_on(now)).collect();
    let mut reasons: Vec<&Brake> = Vec::new();
    let steps: Vec<Step> = steps
        .into_iter()
        .filter(|step| {
            let stopped: Vec<&Brake> = on.iter().copied().filter(|brake| stops(brake, step)).collect();
            reasons.extend(&stopped);
            stopped.is_empty()
        })
        .collect();
    if steps.len() == before {
        return Plan { steps, waiting, next };
    }
    for (place, brake) in reasons.iter().enumerate() {
        if !reasons[..place].contains(brake) {
            waiting.push(Waiting::Braked((*brake).clone()));
        }
    }
    let next = if steps.is_empty() { Next::Poll(policy.pace.idle) } else { next };
    Plan { steps, waiting, next }
}

fn stops(brake: &Brake, step: &Step) -> bool {
    match (brake.kind, brake.by) {
        (BrakeKind::Pause, _) => true,
        (BrakeKind::Hold, _) | (BrakeKind::Freeze, SetBy::Operator) => {
            matches!(step, Step::Leave { .. } | Step::Terminate(_) | Step::DropDatabase(_))
        }
        (BrakeKind::Freeze, SetBy::Guard) => matches!(step, Step::Leave { left } if !is_asked_for(&left.why)),
    }
}

/// Whether somebody asked for this one environment to go. Everything else may come to many at once, by one mistake in a
/// configuration or a clock (I3).
pub fn is_asked_for(why: &GoneReason) -> bool {
    match why {
        GoneReason::Closed
        | GoneReason::Merged
        | GoneReason::OptedOut(_)
        | GoneReason::Requested
        | GoneReason::Superseded => true,
        GoneReason::RepositoryNotAllowed
        | GoneReason::LabelMissing(_)
        | GoneReason::Draft
        | GoneReason::BaseBranch(_)
        | GoneReason::ForkUnapproved(_)
        | GoneReason::ForkNever
        | GoneReason::Bot
        | GoneReason::NotConfigured
        | GoneReason::Expired => false,
    }
}

/// Whether one more environment may go that nobody asked for, after those of the last hour, beside so many that live: if
/// not, why.
pub fn too_many(lately: &[Left], live: usize, policy: &Policy) -> Option<String> {
    let gone = lately.iter().filter(|left| !is_asked_for(&left.why)).count();
    let limit = policy.removals.of(live + gone);
    (gone + 1 > limit).then(|| {
        format!(
            "{gone} environments were taken away within an hour that nobody asked to go, {live} live, and {limit} are allowed \
             (sweep.count, sweep.share)"
        )
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::id::Generation;
    use crate::domain::ledger::Held;
    use crate::plan::tests::{KEY, policy};

    const NOW: Timestamp = Timestamp(1_000_000);

    fn brake(kind: BrakeKind, by: SetBy) -> Brake {
        let until = NOW.plus(Duration::from_mins(1));
        Brake { kind, key: None, reason: "an incident".into(), by, at: NOW, until }
    }

    fn left(why: GoneReason) -> Left {
        Left { why, head_sha: None, at: NOW, held: Held::default() }
    }

    fn leave(why: GoneReason) -> Step {
        Step::Leave { left: left(why) }
    }

    fn plan(steps: Vec<Step>) -> Plan {
        Plan { steps, waiting: vec![Waiting::Removal], next: Next::Poll(policy().pace.busy) }
    }

    #[track_caller]
    fn check(brakes: &[Brake], step: &Step, stopped: bool) {
        let before = plan(vec![step.clone()]);
        let after = restrain(before.clone(), brakes, &policy(), NOW);
        if stopped {
            assert_eq!(after.steps, []);
            assert!(matches!(&after.waiting[1], Waiting::Braked(brake) if brake.reason == "an incident"), "{after:?}");
            assert_eq!(after.next, Next::Poll(policy().pace.idle));
        } else {
            assert_eq!(after, before);
        }
    }

    #[test]
    fn each_brake_stops_what_it_is_for() {
        let enroll = Step::Enroll { generation: Generation::FIRST, hosts: Vec::new(), slots: Vec::new() };
        let release = Step::Release { seen_at: NOW };
        let (closed, expired) = (leave(GoneReason::Closed), leave(GoneReason::Expired));
        let table = [
            (BrakeKind::Pause, SetBy::Operator, [true, true, true, true]),
            (BrakeKind::Hold, SetBy::Operator, [false, false, true, true]),
            (BrakeKind::Freeze, SetBy::Operator, [false, false, true, true]),
            (BrakeKind::Freeze, SetBy::Guard, [false, false, false, true]),
        ];
        for (kind, by, stopped) in table {
            for (step, stopped) in [&enroll, &release, &closed, &expired].into_iter().zip(stopped) {
                check(&[brake(kind, by)], step, stopped);
                check(&[Brake { until: NOW, ..brake(kind, by) }], step, false);
            }
        }
        check(&[], &expired, false);
    }

    #[test]
    fn one_reason_is_told_once_and_what_is_not_stopped_goes_on() {
        let enroll = Step::Enroll { generation: Generation::FIRST, hosts: Vec::new(), slots: Vec::new() };
        let steps = vec![leave(GoneReason::Closed), enroll.clone(), leave(GoneReason::Expired)];
        let after = restrain(plan(steps), &[brake(BrakeKind::Hold, SetBy::Operator)], &policy(), NOW);
        assert_eq!((after.steps, after.waiting.len()), (vec![enroll], 2));
        assert_eq!(after.next, Next::Poll(policy().pace.busy));
        assert!(brake(BrakeKind::Hold, SetBy::Operator).concerns(KEY));
    }

    #[test]
    fn many_that_nobody_asked_for_are_too_many() {
        let gone = |expired: usize, closed: usize| -> Vec<Left> {
            let expired = std::iter::repeat_n(left(GoneReason::Expired), expired);
            expired.chain(std::iter::repeat_n(left(GoneReason::Closed), closed)).collect()
        };
        for (expired, closed, live) in [(0, 0, 1), (4, 0, 1), (4, 500, 3), (19, 0, 81), (0, 900, 0)] {
            assert_eq!(too_many(&gone(expired, closed), live, &policy()), None, "{expired} {closed} {live}");
        }
        for (expired, closed, live) in [(5, 0, 1), (5, 9, 15), (20, 0, 80)] {
            assert!(too_many(&gone(expired, closed), live, &policy()).is_some(), "{expired} {closed} {live}");
        }
    }
}
