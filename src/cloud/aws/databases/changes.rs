//! What is done to a database that is there: it is stopped, started, deleted.
//!
//! Guarantees: each change looks at it once more, and does nothing to what does not say what the proof says. Deleting skips
//! the final snapshot, and touches no snapshot; an instance in a cluster that is not ours keeps both from being deleted.
//! Must not know: when a database is wanted.

use super::server::{Kind, Server, network_of};
use super::{Inner, id_of, identifier_of};
use crate::cloud::aws::error::{Verb, code, refused, told};
use crate::cloud::aws::pace::Bucket;
use crate::cloud::aws::pairs::of_rds;
use crate::cloud::aws::rules::status::Status;
use crate::cloud::lanes::INSTANCE_PREFIX;
use crate::cloud::{CloudError, ErrorClass};
use crate::domain::id::DatabaseId;
use crate::domain::owned::Owned;

impl Inner {
    /// What was proven to be ours, looked at once more; nothing if it is gone or going.
    async fn check(&self, what: &str, database: &Owned<DatabaseId>) -> Result<Option<Server>, CloudError> {
        self.is_believed(what, database)?;
        let identifier = identifier_of(database.name());
        let found = if is_cluster(database) {
            self.cluster(what, &identifier).await?
        } else {
            self.instance(what, &identifier).await?
        };
        self.as_proven(what, database, found)
    }

    fn is_believed(&self, what: &str, database: &Owned<DatabaseId>) -> Result<(), CloudError> {
        if database.is_fresh(self.clock.now()) {
            return Ok(());
        }
        let why = "the evidence that it is ours is more than a minute old; list the databases again";
        Err(refused(ErrorClass::Retry, what, why))
    }

    /// What a look has found, if it is there and what was proven.
    fn as_proven(
        &self,
        what: &str,
        database: &Owned<DatabaseId>,
        found: Option<Server>,
    ) -> Result<Option<Server>, CloudError> {
        let Some(found) = found.filter(|found| found.status != Status::Going) else { return Ok(None) };
        let is_it = id_of(&found.resource).ok().as_ref() == Some(database.id());
        if !is_it
            || found.tags.owner().as_ref() != Some(database.tags())
            || found.network.as_ref() != Some(&self.settings.vpc)
        {
            let why =
                "it does not say what the proof says: its tags, its network or its id have changed; look at it by hand";
            return Err(refused(ErrorClass::Denied, what, why));
        }
        Ok(Some(found))
    }

    pub(super) async fn stop(&self, database: &Owned<DatabaseId>) -> Result<(), CloudError> {
        let what = format!("stop {}", identifier_of(database.name()));
        let Some(found) = self.check(&what, database).await? else { return Ok(()) };
        if found.status == Status::Stopped {
            return Ok(());
        }
        self.pace.take(Bucket::ChangeDatabases, &what)?;
        let (rds, identifier) = (&self.aws.make.rds, &found.identifier);
        match found.kind {
            Kind::Instance => done(&what, rds.stop_db_instance().db_instance_identifier(identifier).send().await),
            Kind::Cluster(_) => done(&what, rds.stop_db_cluster().db_cluster_identifier(identifier).send().await),
        }
    }

    /// One that was stopped is started; one that is on its way is left alone. Whoever calls has a turn at changing.
    pub(super) async fn bring_up(&self, what: &str, server: &Server) -> Result<(), CloudError> {
        if server.status != Status::Stopped {
            return Ok(());
        }
        let (rds, identifier) = (&self.aws.make.rds, &server.identifier);
        let what = format!("{what}: start {identifier}");
        match server.kind {
            Kind::Instance => done(&what, rds.start_db_instance().db_instance_identifier(identifier).send().await),
            Kind::Cluster(_) => done(&what, rds.start_db_cluster().db_cluster_identifier(identifier).send().await),
        }
    }

    pub(super) async fn delete(&self, database: &Owned<DatabaseId>) -> Result<(), CloudError> {
        let what = format!("delete {}", identifier_of(database.name()));
        let Some(found) = self.check(&what, database).await? else { return Ok(()) };
        is_unprotected(&what, &found)?;
        let rds = &self.aws.remove.rds;
        if let Kind::Cluster(members) = &found.kind {
            // All of them are looked at before one is deleted. Whoever has begun waits for its turns: begun anew, it would
            // take those of the others.
            let mut ours = Vec::new();
            for member in members {
                ours.extend(self.check_member(&what, member, database).await?);
            }
            for member in ours {
                self.pace.wait(Bucket::ChangeDatabases).await;
                let request = rds.delete_db_instance().db_instance_identifier(member).skip_final_snapshot(true);
                gone(&what, request.send().await)?;
            }
            // It goes with its last instance.
            self.pace.wait(Bucket::ChangeDatabases).await;
            let request = rds.delete_db_cluster().db_cluster_identifier(&found.identifier);
            return gone(&what, request.skip_final_snapshot(true).delete_automated_backups(true).send().await);
        }
        self.pace.take(Bucket::ChangeDatabases, &what)?;
        self.end(&what, &found).await
    }

    /// What came of each, after one look at all instances; clusters after one of their own. Whoever takes several away waits
    /// for each one's turn, since a sweep comes only once an hour.
    pub(super) async fn delete_all(&self, databases: &[Owned<DatabaseId>]) -> Vec<Result<(), CloudError>> {
        let alone = databases.iter().filter(|database| !is_cluster(database));
        let identifiers: Vec<String> = alone.map(|database| identifier_of(database.name())).collect();
        let found = self.instances(&format!("delete {} databases", databases.len()), identifiers).await;
        let mut done = Vec::with_capacity(databases.len());
        for database in databases {
            done.push(match &found {
                _ if is_cluster(database) => self.delete(database).await,
                Ok(found) => self.delete_found(database, found).await,
                Err(error) => Err(error.clone()),
            });
        }
        done
    }

    /// Deletes an instance that may be among those.
    async fn delete_found(&self, database: &Owned<DatabaseId>, found: &[Server]) -> Result<(), CloudError> {
        let identifier = identifier_of(database.name());
        let what = format!("delete {identifier}");
        let found = found.iter().find(|server| server.identifier == identifier).cloned();
        let Some(found) = self.as_proven(&what, database, found)? else { return Ok(()) };
        is_unprotected(&what, &found)?;
        self.pace.wait(Bucket::ChangeDatabases).await;
        // Its turn may have been long in coming.
        self.is_believed(&what, database)?;
        self.end(&what, &found).await
    }

    /// Ends an instance that is ours. Whoever calls has a turn at changing.
    async fn end(&self, what: &str, found: &Server) -> Result<(), CloudError> {
        let request = self.aws.remove.rds.delete_db_instance().db_instance_identifier(&found.identifier);
        gone(what, request.skip_final_snapshot(true).delete_automated_backups(true).send().await)
    }

    /// An instance in a cluster that is as provably ours as that; nothing if it is gone or going.
    async fn check_member<'a>(
        &self,
        what: &str,
        member: &'a str,
        of: &Owned<DatabaseId>,
    ) -> Result<Option<&'a str>, CloudError> {
        self.pace.wait(Bucket::LookAtDatabases).await;
        let Some(found) = self.raw_instance(what, member).await? else { return Ok(None) };
        if Status::of(found.db_instance_status().unwrap_or_default()) == Status::Going {
            return Ok(None);
        }
        let why = if found.deletion_protection() == Some(true) {
            "is protected"
        } else if of_rds(found.tag_list()).owner().as_ref() != Some(of.tags()) {
            "does not carry this environment's tags"
        } else if network_of(&found).as_ref() != Some(&self.settings.vpc) {
            "is in another network"
        } else {
            return Ok(Some(member));
        };
        Err(refused(ErrorClass::Denied, what, format!("the instance {member} in it {why}; look at it by hand")))
    }
}

fn is_cluster(database: &Owned<DatabaseId>) -> bool {
    Server::is_cluster(database.id().as_str().strip_prefix(INSTANCE_PREFIX).unwrap_or_default())
}

fn is_unprotected(what: &str, found: &Server) -> Result<(), CloudError> {
    if !found.is_protected {
        return Ok(());
    }
    let why = "somebody has switched deletion protection on: switch it off by hand, Kagero does not";
    Err(refused(ErrorClass::Denied, what, why))
}

type Sent<T, E> = Result<T, aws_sdk_rds::error::SdkError<E, aws_sdk_rds::config::http::HttpResponse>>;

fn done<T, E>(what: &str, sent: Sent<T, E>) -> Result<(), CloudError>
where
    E: aws_sdk_rds::error::ProvideErrorMetadata + std::error::Error + 'static,
{
    sent.map(drop).map_err(|error| told(Verb::Change, what, &error))
}

/// What is gone already is success.
fn gone<T, E>(what: &str, sent: Sent<T, E>) -> Result<(), CloudError>
where
    E: aws_sdk_rds::error::ProvideErrorMetadata + std::error::Error + 'static,
{
    let missing = ["DBInstanceNotFound", "DBClusterNotFound"];
    match sent {
        Ok(_) => Ok(()),
        Err(error) if code(&error).is_some_and(|code| missing.iter().any(|known| code.starts_with(known))) => Ok(()),
        Err(error) => Err(told(Verb::Remove, what, &error)),
    }
}
