//! Verdicts on what is neither machine nor database: processes and directories that a machine has left, goldens.
//!
//! Guarantees: the same as of the whole sweep; what is of use is kept, whatever mark stands on it.
//! Must not know: how a provider finds out what uses a thing.

use super::{Court, Inventory, Ruling, Verdict, ripe};
use crate::domain::brake::BrakeKind;
use crate::domain::id::EnvKey;
use crate::domain::mark::Mark;
use crate::domain::observed::{Residue, ResidueState};
use crate::domain::owned::{Refusal, prove_residue};

impl Inventory {
    pub(super) fn residue(&self) -> impl Iterator<Item = &Residue> {
        let beside = self.beside.iter().flat_map(|listing| &listing.items);
        beside.chain(self.goldens.iter().flat_map(|listing| &listing.items))
    }
}

impl Court<'_> {
    pub(super) fn verdict_on_residue(&self, residue: &Residue) -> Verdict {
        let subject = residue.subject.clone();
        let owner = residue.uid.as_ref().and_then(|uid| self.records.get(uid)).map(|record| record.key);
        let (ruling, why, mark) = match self.useless(residue) {
            Err((ruling, why)) => (ruling, why, None),
            Ok(unused) => {
                let before = self.marks.get(&subject).filter(|mark| mark.tags.is_none());
                let mark = if self.inventory.is_whole(&subject) {
                    let first = || Mark::begin(subject.clone(), None, self.now);
                    Some(before.map_or_else(first, |mark| mark.again(self.now)))
                } else {
                    before.map(|mark| (*mark).clone())
                };
                let (ruling, why) = self.future_of_residue(residue, unused, owner, mark.as_ref());
                (ruling, why, mark)
            }
        };
        Verdict { subject, name: residue.name.clone(), owner, ruling, why, mark }
    }

    /// Why nothing uses what is ours.
    fn useless<'r>(&self, residue: &'r Residue) -> Result<&'r str, (Ruling, String)> {
        let unused = match &residue.state {
            ResidueState::Used(by) if residue.install.as_ref() == Some(&self.policy.install) => {
                return Err((Ruling::Keep, by.clone()));
            }
            ResidueState::Used(why) | ResidueState::Unused(why) => why,
        };
        // Place and name are what no mark and no time can mend.
        let mark = ripe(residue.subject.clone(), None);
        match prove_residue(residue, &self.policy.install, &mark, &self.policy.allow, self.now) {
            Err(Refusal::Untagged { .. }) => {
                Err((Ruling::Foreign, format!("it carries no owner record ({unused}); never touched, have a look")))
            }
            Err(refusal @ (Refusal::OtherInstall { .. } | Refusal::Name { .. } | Refusal::Place { .. })) => {
                Err((Ruling::Foreign, format!("{refusal}; never touched, have a look")))
            }
            _ => Ok(unused),
        }
    }

    fn future_of_residue(
        &self,
        residue: &Residue,
        unused: &str,
        owner: Option<EnvKey>,
        mark: Option<&Mark>,
    ) -> (Ruling, String) {
        let mut holds = self.known.brakes.iter().filter(|brake| brake.is_on(self.now) && brake.kind == BrakeKind::Hold);
        if let Some(hold) = holds.find(|brake| owner.is_some_and(|key| brake.concerns(key))) {
            return (Ruling::Spare, format!("{unused}, but {hold}"));
        }
        let Some(mark) = mark.filter(|mark| self.inventory.is_whole(&mark.subject)) else {
            return (Ruling::Wait, format!("{unused}; the listing was not complete, which proves nothing"));
        };
        match prove_residue(residue, &self.policy.install, mark, &self.policy.allow, self.now) {
            Ok(_) => (Ruling::Due, format!("{unused}; marked since {}", mark.first_at)),
            Err(refusal) => (Ruling::Wait, format!("{unused}; {refusal}")),
        }
    }
}
