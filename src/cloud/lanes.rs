//! All lanes that databases are made in: which one follows from the seed, and later from the database's id.
//!
//! Guarantees: a listing is complete only if every lane's is.
//! Must not know: how a lane works.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;

use super::local::databases::LocalDatabases;
use super::{CloudError, DatabaseAccess, DatabaseBirth, Databases};
use crate::domain::desired::DatabaseSpec;
use crate::domain::id::{DatabaseId, SeedName};
use crate::domain::observed::{Database, Listing, Residue};
use crate::domain::owned::{Owned, OwnedResidue};

/// What the ids of instances begin with.
pub const INSTANCE_PREFIX: &str = "rds:";

/// Databases that are instances of their own.
#[derive(Clone)]
pub struct Instances {
    /// Their provider.
    pub databases: Arc<dyn Databases>,
    /// The seeds that are golden snapshots.
    pub seeds: BTreeSet<SeedName>,
}

/// All lanes.
#[derive(Clone)]
pub struct Lanes {
    local: LocalDatabases,
    instances: Option<Instances>,
}

impl Lanes {
    /// Takes the lanes together; instances only where there are any.
    pub fn new(local: LocalDatabases, instances: Option<Instances>) -> Self {
        Self { local, instances }
    }

    fn of_seed(&self, seed: &SeedName) -> &dyn Databases {
        match &self.instances {
            Some(instances) if instances.seeds.contains(seed) => instances.databases.as_ref(),
            _ => &self.local,
        }
    }

    fn of_id(&self, id: &str) -> &dyn Databases {
        match &self.instances {
            Some(instances) if id.starts_with(INSTANCE_PREFIX) => instances.databases.as_ref(),
            _ => &self.local,
        }
    }
}

fn is_instance(database: &Owned<DatabaseId>) -> bool {
    database.id().as_str().starts_with(INSTANCE_PREFIX)
}

#[async_trait]
impl Databases for Lanes {
    async fn list(&self) -> Result<Listing<Database>, CloudError> {
        let mut all = self.local.list().await?;
        if let Some(instances) = &self.instances {
            let more = instances.databases.list().await?;
            all.items.extend(more.items);
            all.complete &= more.complete;
        }
        Ok(all)
    }

    async fn prepare(&self, birth: DatabaseBirth<'_>) -> Result<DatabaseId, CloudError> {
        self.of_seed(&birth.database.seed).prepare(birth).await
    }

    async fn stop(&self, database: &Owned<DatabaseId>) -> Result<(), CloudError> {
        self.of_id(database.id().as_str()).stop(database).await
    }

    async fn delete(&self, database: &Owned<DatabaseId>) -> Result<(), CloudError> {
        self.of_id(database.id().as_str()).delete(database).await
    }

    async fn delete_all(&self, databases: &[Owned<DatabaseId>]) -> Vec<Result<(), CloudError>> {
        let mut done = Vec::with_capacity(databases.len());
        // Neighbours in one lane go together.
        for some in databases.chunk_by(|one, other| is_instance(one) == is_instance(other)) {
            let Some(first) = some.first() else { continue };
            done.extend(self.of_id(first.id().as_str()).delete_all(some).await);
        }
        done
    }

    async fn residue(&self) -> Result<Listing<Residue>, CloudError> {
        self.local.residue().await
    }

    async fn clear_away(&self, golden: &OwnedResidue) -> Result<(), CloudError> {
        self.local.clear_away(golden).await
    }

    async fn access(&self, database: &DatabaseSpec) -> Result<DatabaseAccess, CloudError> {
        self.of_seed(&database.seed).access(database).await
    }
}
