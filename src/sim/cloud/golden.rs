//! Goldens: what the databases of environments are cloned from. They are no environment's, and of use as long as a
//! configured seed makes them.

use super::super::fate::Call;
use super::region::Region;
use super::{Cloud, SimDatabases, error, staging, trouble};
use crate::cloud::{CloudError, ErrorClass};
use crate::domain::id::{InstallId, ResidueId};
use crate::domain::mark::Subject;
use crate::domain::observed::{Listing, Residue, ResidueState};
use crate::domain::owned::{OwnedResidue, name_prefix};

/// One of them.
#[derive(Debug, Clone)]
pub(super) struct Golden {
    install: Option<InstallId>,
    used: bool,
}

impl Cloud {
    /// Puts one there; `None`: nothing says whose it is. Its name, which begins as ours do.
    pub fn add_golden(&self, ours: &InstallId, install: Option<&InstallId>, used: bool) -> String {
        let mut region = self.region();
        let name = format!("{}golden_{}", name_prefix(ours, '_'), region.fresh());
        region.goldens.insert(name.clone(), Golden { install: install.cloned(), used });
        name
    }

    /// A seed is configured that makes it, or none any more.
    pub fn use_golden(&self, name: &str, used: bool) {
        if let Some(golden) = self.region().goldens.get_mut(name) {
            golden.used = used;
        }
    }

    /// The names of all.
    pub fn goldens(&self) -> Vec<String> {
        self.region().goldens.keys().cloned().collect()
    }
}

impl Region {
    fn drop_golden(&mut self, name: &str, ours: &InstallId) {
        let Some(golden) = self.goldens.remove(name) else { return };
        if golden.used || golden.install.as_ref() != Some(ours) {
            self.breaches.push(format!("golden {name} was dropped, which is {golden:?}"));
        }
        self.note("drop-golden", name, None);
    }
}

impl SimDatabases {
    pub(super) async fn list_goldens(&self) -> Result<Listing<Residue>, CloudError> {
        let at = self.clock.now();
        let described = |(name, golden): (&String, &Golden)| {
            let id = ResidueId::parse(name.clone())
                .map_err(|why| error(ErrorClass::Bug, "name a golden", &why.to_string()))?;
            let state = if golden.used {
                ResidueState::Used("a configured seed makes it".to_owned())
            } else {
                ResidueState::Unused("no configured seed makes it".to_owned())
            };
            let (subject, install) = (Subject::Golden(id), golden.install.clone());
            Ok(Residue {
                subject,
                name: name.clone(),
                install,
                uid: None,
                key: None,
                state,
                location: staging(),
                read_at: at,
            })
        };
        let found = self.nerve.call(Call::ListGoldens, || {
            let mut region = self.cloud.region();
            let items = region.goldens.iter().map(described).collect::<Result<_, _>>()?;
            region.note("list-goldens", "", None);
            Ok(Listing { items, complete: true, at })
        });
        found.await.map_err(|kind| trouble("list the goldens", kind))?
    }

    pub(super) async fn drop_golden(&self, golden: &OwnedResidue) -> Result<(), CloudError> {
        let what = "drop a golden";
        if !golden.is_fresh(self.clock.now()) {
            return Err(error(ErrorClass::Retry, what, "it was read too long ago"));
        }
        let drop = || self.cloud.region().drop_golden(golden.name(), &self.install);
        self.nerve.call(Call::DropGolden, drop).await.map_err(|kind| trouble(what, kind))
    }
}
