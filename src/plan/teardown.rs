//! Steps towards nothing being left.
//!
//! Teardown is desired state: it is planned anew from what is seen in every pass until absence has been
//! observed, and only then the row is released. What cannot be proven to be ours is never touched, and
//! keeps the row open where a person can see it.

use super::act;
use crate::domain::desired::GoneReason;
use crate::domain::ledger::{Held, Ledger, Left, Standing};
use crate::domain::observed::{Database, DatabaseState, Machine, MachineState, Observed};
use crate::domain::owned::{Claim, prove_database, prove_machine};
use crate::domain::policy::Policy;
use crate::domain::pull::PullFacts;
use crate::domain::seen::Seen;
use crate::domain::step::{Next, Plan, Step, Waiting};

/// From whatever stands to nothing.
pub(super) fn leave(
    why: &GoneReason,
    seen: &Observed,
    asked: Option<&Ledger>,
    pull: Option<&PullFacts>,
    policy: &Policy,
) -> Plan {
    let Some(ledger) = asked else { return super::at_rest(policy) };
    match ledger.standing {
        Standing::Released(_) => super::at_rest(policy),
        Standing::Leaving(_) => take_away(ledger, seen, policy),
        Standing::Live => {
            let held = Held {
                machines: seen.machines.present().map_or(0, Vec::len),
                databases: seen.databases.present().map_or(0, Vec::len),
            };
            let left = Left { why: why.clone(), head_sha: pull.map(|pull| pull.head_sha.clone()), at: seen.at, held };
            act(vec![Step::Leave { left }], vec![Waiting::Removal], policy)
        }
    }
}

/// Takes away what is seen; releases the row once nothing is.
pub(super) fn take_away(ledger: &Ledger, seen: &Observed, policy: &Policy) -> Plan {
    let mut steps = Vec::new();
    let mut waiting = Vec::new();
    match &seen.machines {
        Seen::Absent => {}
        Seen::Unknown(doubt) => waiting.push(Waiting::Knowledge(format!("machines: {doubt}"))),
        Seen::Present(machines) => {
            for machine in machines {
                let (step, wait) = terminate(machine, ledger, policy);
                steps.extend(step);
                waiting.push(wait);
            }
        }
    }
    // Machines first: a database is dropped once nothing of ours can be using it. What is not ours may stay for ever.
    let machines_gone = match &seen.machines {
        Seen::Absent => true,
        Seen::Unknown(_) => false,
        Seen::Present(machines) => {
            machines.iter().all(|machine| prove_machine(machine, claim(ledger, policy), &policy.allow).is_err())
        }
    };
    match &seen.databases {
        Seen::Absent => {}
        Seen::Unknown(doubt) => waiting.push(Waiting::Knowledge(format!("databases: {doubt}"))),
        Seen::Present(databases) => {
            for database in databases {
                if machines_gone {
                    let (step, wait) = drop_database(database, ledger, policy);
                    steps.extend(step);
                    waiting.push(wait);
                } else {
                    waiting.push(Waiting::MachineFirst);
                }
            }
        }
    }
    // What the slot keeps apart has to be gone before others get it (I17). Every step comes with something to wait for.
    if waiting.is_empty() {
        match &seen.interfaces {
            Seen::Absent => {}
            Seen::Present(_) => waiting.push(Waiting::Removal),
            Seen::Unknown(doubt) => waiting.push(Waiting::Knowledge(format!("network interfaces: {doubt}"))),
        }
    }
    if steps.is_empty() && waiting.is_empty() {
        return act(vec![Step::Release { seen_at: seen.at }], Vec::new(), policy);
    }
    let refused = waiting.iter().all(|wait| matches!(wait, Waiting::Refused(_)));
    // Then there is no step either: each comes with something to wait for.
    let next = if refused { Next::Poll(policy.pace.idle) } else { Next::Poll(policy.pace.busy) };
    Plan { steps, waiting, next }
}

/// The step that takes a machine away, if it may be taken, and what there is to wait for.
pub(super) fn terminate(machine: &Machine, ledger: &Ledger, policy: &Policy) -> (Option<Step>, Waiting) {
    match prove_machine(machine, claim(ledger, policy), &policy.allow) {
        Err(refusal) => (None, Waiting::Refused(refusal)),
        Ok(owned) => match machine.state {
            // Providers finish a removal by themselves, after their own restart too.
            MachineState::Stopping => (None, Waiting::Removal),
            MachineState::Pending | MachineState::Running | MachineState::Stopped => {
                (Some(Step::Terminate(owned)), Waiting::Removal)
            }
        },
    }
}

/// The step that takes a database away, if it may be taken, and what there is to wait for.
pub(super) fn drop_database(database: &Database, ledger: &Ledger, policy: &Policy) -> (Option<Step>, Waiting) {
    match prove_database(database, claim(ledger, policy), &policy.allow) {
        Err(refusal) => (None, Waiting::Refused(refusal)),
        Ok(owned) => match database.state {
            DatabaseState::Dropping => (None, Waiting::Removal),
            DatabaseState::Preparing | DatabaseState::Ready | DatabaseState::Stopped | DatabaseState::Failed(_) => {
                (Some(Step::DropDatabase(owned)), Waiting::Removal)
            }
        },
    }
}

/// What the ledger says of the environment.
pub(super) fn claim<'a>(ledger: &'a Ledger, policy: &'a Policy) -> Claim<'a> {
    Claim { install: &policy.install, uid: &ledger.uid, generation: ledger.generation }
}
