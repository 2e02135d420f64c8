//! Verdicts on what is neither machine nor database: processes and directories that a machine has left, goldens, words on
//! GitHub.
//!
//! Guarantees: the same as of the whole sweep; what is of use is kept, whatever mark stands on it.
//! Must not know: how a provider finds out what uses a thing.

use super::{Court, Inventory, Reason, Ruling, Verdict, ripe};
use crate::domain::brake::BrakeKind;
use crate::domain::guard::Guard;
use crate::domain::id::EnvKey;
use crate::domain::mark::{Mark, Subject};
use crate::domain::observed::{Residue, ResidueState};
use crate::domain::owned::{OwnedResidue, Refusal, prove_residue, prove_words};

impl Inventory {
    pub(super) fn residue(&self) -> impl Iterator<Item = &Residue> {
        let beside = self.beside.iter().flat_map(|listing| &listing.items);
        beside.chain(self.goldens.iter().flat_map(|listing| &listing.items)).chain(self.words())
    }
}

impl Court<'_> {
    pub(super) fn verdict_on_residue(&self, residue: &Residue) -> Verdict {
        let subject = residue.subject.clone();
        let record = residue.uid.as_ref().and_then(|uid| self.records.get(uid));
        let owner = residue.key.or(record.map(|record| record.key));
        let (Reason { ruling, why, guard }, mark) = match self.useless(residue) {
            Err(reason) => (reason, None),
            Ok(unused) => {
                let before = self.marks.get(&subject).filter(|mark| mark.tags.is_none());
                let mark = if self.inventory.is_whole(&subject) {
                    let first = || Mark::begin(subject.clone(), None, self.now);
                    Some(before.map_or_else(first, |mark| mark.again(self.now)))
                } else {
                    before.map(|mark| (*mark).clone())
                };
                (self.future_of_residue(residue, unused, owner, mark.as_ref()), mark)
            }
        };
        Verdict { subject, name: residue.name.clone(), owner, ruling, why, guard, mark }
    }

    /// Why nothing uses what is ours.
    fn useless<'r>(&self, residue: &'r Residue) -> Result<&'r str, Reason> {
        let foreign =
            |guard, why: String| Reason::because(Ruling::Foreign, guard, format!("{why}; never touched, have a look"));
        let unused = match &residue.state {
            ResidueState::Used(by) if residue.install.as_ref() == Some(&self.policy.install) => {
                return Err(Reason::because(Ruling::Keep, Guard::InUse, by.clone()));
            }
            ResidueState::Used(why) | ResidueState::Unused(why) => why,
        };
        // Place and name are what no mark and no time can mend.
        let mark = ripe(residue.subject.clone(), None);
        match self.prove(residue, &mark) {
            Err(Refusal::Untagged { .. }) => {
                Err(foreign(Guard::Untagged, format!("it carries no owner record ({unused})")))
            }
            Err(
                refusal @ (Refusal::OtherInstall { .. }
                | Refusal::OtherEnvironment { .. }
                | Refusal::Name { .. }
                | Refusal::Place { .. }),
            ) => Err(foreign(refusal.guard(), refusal.to_string())),
            _ => Ok(unused),
        }
    }

    fn prove(&self, residue: &Residue, mark: &Mark) -> Result<OwnedResidue, Refusal> {
        match residue.subject {
            Subject::Comment(_) | Subject::Deployment(_) => prove_words(residue, mark, self.policy, self.now),
            _ => prove_residue(residue, &self.policy.install, mark, &self.policy.allow, self.now),
        }
    }

    fn future_of_residue(&self, residue: &Residue, unused: &str, owner: Option<EnvKey>, mark: Option<&Mark>) -> Reason {
        let wait = |guard, why: &str| Reason::because(Ruling::Wait, guard, format!("{unused}; {why}"));
        let mut holds = self.known.brakes.iter().filter(|brake| brake.is_on(self.now) && brake.kind == BrakeKind::Hold);
        if let Some(hold) = holds.find(|brake| owner.is_some_and(|key| brake.concerns(key))) {
            return Reason::because(Ruling::Spare, hold.guard(), format!("{unused}, but {hold}"));
        }
        let Some(mark) = mark.filter(|mark| self.inventory.is_whole(&mark.subject)) else {
            return wait(Guard::PartialSweep, "the listing was not complete, which proves nothing");
        };
        if let Some(spared) = self.spared_by_pull(residue) {
            return spared;
        }
        match self.prove(residue, mark) {
            Ok(_) => Reason::because(Ruling::Due, None, format!("{unused}; marked since {}", mark.first_at)),
            Err(refusal) => wait(refusal.guard(), &refusal.to_string()),
        }
    }
}
