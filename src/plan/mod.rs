//! Pure verbs: what should be, and which steps lead there.
//!
//! Guarantees: no I/O, no clock, no `async`, no `dyn`; every decision of the program about environments is
//! taken here, so that the executor takes none.
//! Must not know: adapters, the store, HTTP.

mod admission;
mod adopt;
pub mod brake;
mod desired;
mod hosts;
mod provision;
pub mod sweep;
mod teardown;

pub use admission::{Applicant, Seat, Seated, admit};
pub use adopt::{Adoption, Leftover, Remains, adopt, keys_of};
pub use desired::{Ground, desired};
pub use hosts::choose as choose_hosts;
pub use provision::{current_attempt, machine_of};

use crate::domain::desired::Desired;
use crate::domain::ledger::{Ledger, Standing};
use crate::domain::observed::Observed;
use crate::domain::policy::Policy;
use crate::domain::pull::PullFacts;
use crate::domain::step::{Next, Plan, Step, Waiting};

/// The steps that lead from what is seen to what is wanted.
///
/// `asked` is the environment's record, if there is one; `pull` is the newest reading of the pull request,
/// used only to remember for which commit an environment was taken away.
pub fn plan(
    want: &Desired,
    seen: &Observed,
    asked: Option<&Ledger>,
    pull: Option<&PullFacts>,
    policy: &Policy,
) -> Plan {
    match want {
        Desired::Running(spec) => provision::run(spec, seen, asked, policy),
        Desired::Asleep(spec) => provision::sleep(spec, seen, asked, policy),
        Desired::Gone(why) => teardown::leave(why, seen, asked, pull, policy),
        Desired::Queued(_) => at_rest(policy),
        Desired::Unchanged(obstacle) => {
            // A teardown once begun goes on, whatever can or cannot be read now.
            if let Some(ledger) = asked
                && matches!(ledger.standing, Standing::Leaving(_))
            {
                return teardown::take_away(ledger, seen, policy);
            }
            Plan {
                steps: Vec::new(),
                waiting: vec![Waiting::Knowledge(format!("{obstacle}"))],
                next: Next::Poll(policy.pace.idle),
            }
        }
    }
}

/// The plan without the build that would begin: it is not its turn yet. Whoever ends wakes whoever follows.
#[must_use]
pub fn without_build(plan: Plan, policy: &Policy) -> Plan {
    let steps: Vec<Step> = plan.steps.into_iter().filter(|step| !matches!(step, Step::Assign { .. })).collect();
    let mut waiting: Vec<Waiting> = plan.waiting.into_iter().filter(|one| *one != Waiting::Rollout).collect();
    waiting.push(Waiting::Turn);
    let next = Next::Poll(if steps.is_empty() { policy.pace.idle } else { policy.pace.busy });
    Plan { steps, waiting, next }
}

fn at_rest(policy: &Policy) -> Plan {
    Plan { steps: Vec::new(), waiting: Vec::new(), next: Next::Poll(policy.pace.idle) }
}

/// A plan that has something to do: look again as soon as it is done.
fn act(steps: Vec<Step>, waiting: Vec<Waiting>, policy: &Policy) -> Plan {
    Plan { steps, waiting, next: Next::Poll(policy.pace.busy) }
}

#[cfg(test)]
mod tests;
