//! Counts what guards have refused, for whoever watches: a guard that refuses more often than it used to is news.
//!
//! Guarantees: a guard is counted where its refusal is heeded, and decides nothing here.

use super::decide::Decision;
use super::execute::StepError;
use crate::domain::desired::Desired;
use crate::domain::guard::Guard;
use crate::domain::ledger::{Ledger, Standing};
use crate::store::StoreError;

/// One refusal.
pub(super) fn count(guard: Guard) {
    metrics::counter!("kagero_refusals_total", "guard" => guard.word()).increment(1);
}

/// The refusals in a decision about an environment.
pub(super) fn in_decision(decision: &Decision, ledger: Option<&Ledger>) {
    let Some(ledger) = ledger.filter(|ledger| !ledger.is_released()) else { return };
    match &decision.want {
        Desired::Unchanged(obstacle) if ledger.standing == Standing::Live => count(obstacle.guard()),
        _ => decision.plan.waiting.iter().filter_map(crate::domain::step::Waiting::guard).for_each(count),
    }
}

/// The refusal that an error is, if it is one.
pub(super) fn in_error(error: &StepError) {
    let guard = match error {
        StepError::Store(StoreError::Fenced { .. }) => Guard::Fence,
        StepError::Braked(_) => Guard::ManyLeave,
        StepError::Refused(refusal) => refusal.guard(),
        _ => return,
    };
    count(guard);
}
