//! Goldens on a server: which of them configured seeds make, and the end of the others.
//!
//! Guarantees (I7): a golden is dropped only if its owner's comment and its own, and where it is complete the marker inside,
//! say that it is a golden of this installation, no configured seed makes it, and the server is of the allow-list.
//! Must not know: how long nobody has used it.

use std::collections::BTreeMap;

use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use crate::cloud::CloudError;
use crate::domain::id::SeedName;
use crate::domain::observed::{Residue, ResidueState};
use crate::domain::owned::OwnedResidue;
use crate::seed::database;
use crate::seed::marker::Marker;
use crate::seed::name::{GoldenName, golden_role};

use super::super::{fault, golden};
use super::list::{Found, find_databases, find_one};
use super::lock::Busy;
use super::prepare::read_inner_marker;
use super::{ID_PREFIX, Inner, lock};
use crate::cloud::postgres::session;

/// What the name of a golden ends with while it is loaded.
const LOADING: &str = "_loading";

impl Inner {
    pub(super) async fn list_goldens(&self) -> Result<Vec<Residue>, CloudError> {
        let what = "list the goldens";
        let read_at = self.clock.now();
        let wanted = self.wanted_goldens(what).await?;
        let mut admin = self.server.administer().await?;
        let busy = Busy::read(&mut admin, what).await?;
        let prefix = format!("{}_", golden_role(self.server.install()));
        let found = find_databases(&mut admin, what, &prefix).await?;
        let mut goldens = Vec::with_capacity(found.len());
        for Found { name, owner_comment, .. } in found {
            let born = owner_comment.as_deref().and_then(Marker::from_text);
            let install = (born == Some(self.birth_marker())).then(|| self.server.install().clone());
            let state = match wanted.get(&name) {
                None if busy.has(complete(&name)) => ResidueState::Used("it is being loaded".to_owned()),
                seed => golden::use_of(seed),
            };
            let (id, seen) = (format!("{ID_PREFIX}{name}"), (self.server.location(), read_at));
            goldens.extend(golden::residue(id, name, install, state, seen));
        }
        Ok(goldens)
    }

    /// Names that configured seeds give, with the seed. One that cannot be read fails: its golden has an unknown name.
    async fn wanted_goldens(&self, what: &str) -> Result<BTreeMap<String, SeedName>, CloudError> {
        let mut wanted = BTreeMap::new();
        for golden in self.goldens.values() {
            let digest = self.digests.of(golden).await.map_err(|error| fault::seed(what, &error))?;
            let name = GoldenName::derive(self.server.install(), &golden.name, &digest);
            wanted.extend([name.complete, name.loading].map(|name| (name, golden.name.clone())));
        }
        Ok(wanted)
    }

    pub(super) async fn drop_golden(&self, what: &str, golden: &OwnedResidue) -> Result<(), CloudError> {
        let name = golden.name();
        if golden.id().id() != format!("{ID_PREFIX}{name}")
            || golden.tags() != self.server.install()
            || !name.starts_with(&format!("{}_", golden_role(self.server.install())))
        {
            return Err(fault::bug(what, "the proof is of something else"));
        }
        self.allowed(what)?;
        if self.wanted_goldens(what).await?.contains_key(name) {
            return Err(fault::retry(what, "a configured seed makes it again"));
        }
        let mut admin = self.server.administer().await?;
        lock::take(&mut admin, what, complete(name)).await?;
        let dropped = self.drop_golden_alone(&mut admin, what, name).await;
        lock::release(&mut admin, what, complete(name)).await?;
        dropped
    }

    async fn drop_golden_alone(&self, admin: &mut PgConnection, what: &str, name: &str) -> Result<(), CloudError> {
        let Some(found) = find_one(admin, what, name).await? else { return Ok(()) };
        if found.born() != Some(self.birth_marker()) {
            return Err(refused(what, "its owner role does not carry the marker of our goldens"));
        }
        // What is half-made has no marker inside yet, and was never cloned from.
        if !name.ends_with(LOADING) {
            if found.stage().is_none() {
                return Err(refused(what, "its comment is not one of a golden of ours"));
            }
            session::run(admin, what, database::open(name)).await?;
            let mut inside = self.server.enter(name).await?;
            let marker = read_inner_marker(&mut inside, what).await;
            let closed = inside.close().await;
            session::run(admin, what, database::close(name)).await?;
            closed.map_err(|error| fault::sql(what, &error))?;
            let ours = self.server.install();
            if !matches!(marker?, Some(Marker::Golden { install, seed: Some(_) }) if install == *ours) {
                return Err(refused(what, "the marker inside is missing or another's"));
            }
            if find_one(admin, what, name).await?.is_none_or(|now| now.oid != found.oid) {
                return Err(fault::retry(what, "another database has taken its name meanwhile"));
            }
            session::run(admin, what, database::no_template(name)).await?;
        }
        session::run(admin, what, database::drop(name)).await
    }
}

/// The name that it has, or will have.
fn complete(name: &str) -> &str {
    name.strip_suffix(LOADING).unwrap_or(name)
}

fn refused(what: &str, why: &str) -> CloudError {
    fault::denied(what, format!("refused: {why}. If it has to go, remove it by hand"))
}
