//! How far a database is inside, and what makes it ready: whoever lists finds what is due, and begins it.
//!
//! A clone of a cluster comes without an instance and with its source's password: both are asked for here, one after the
//! other, before anything is done inside.
//!
//! Guarantees: only what is provably this installation's is entered. Nothing is ready before it was settled inside
//! ([`restored`]). Whatever is begun here is found again by name, and begun again it changes nothing.
//! Must not know: when a database is wanted.

use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use tokio_util::task::AbortOnDropHandle;

use super::clone::member_of;
use super::server::{Kind, Password, Server};
use super::{Inner, identifier_of, lock};
use crate::cloud::aws::error::{Verb, refused, told};
use crate::cloud::aws::rules::status::Status;
use crate::cloud::aws::rules::tags::SEED;
use crate::cloud::postgres::restored::{self, Administrator, Wish};
use crate::cloud::{CloudError, ErrorClass};
use crate::domain::id::SeedName;
use crate::domain::observed::{DatabaseState, Tags};
use crate::domain::owned::name_prefix;
use crate::seed::name::DatabaseName;
use crate::seed::role::RoleLimits;

/// Settling takes no longer; then it is tried again.
const SETTLING: Duration = Duration::from_mins(10);

/// How far a database is inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Settling {
    /// Something is being done.
    GoesOn,
    /// All of it is done.
    Done,
    /// It cannot be done.
    Failed(String),
}

/// What came of one turn.
enum Turn {
    /// Something was asked for that takes its time.
    Begun,
    /// Nothing is left to do.
    Done,
}

impl Inner {
    /// Whether it is what its tags say, and where it may be: nothing else is entered.
    fn may_be_settled(&self, server: &Server, name: &str, tags: &Tags) -> bool {
        let begins = format!("{}{}_g{}", name_prefix(&self.settings.install, '_'), tags.uid, tags.generation);
        tags.install == self.settings.install
            && server.network.as_ref() == Some(&self.settings.vpc)
            && name.strip_prefix(&begins).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
    }

    /// How far it is; what is due is begun.
    pub(super) fn state(
        self: &Arc<Self>,
        server: &Server,
        members: &[(String, Status)],
        name: &str,
        tags: Option<&Tags>,
    ) -> DatabaseState {
        let failed = |why: &str| DatabaseState::Failed(format!("{}: {why}", server.identifier));
        match &server.status {
            Status::Going => return DatabaseState::Dropping,
            Status::Busy => return DatabaseState::Preparing,
            Status::Stopped => return DatabaseState::Stopped,
            Status::Broken(why) => return failed(why),
            Status::Up => {}
        }
        // A cluster answers as far as its instance does, whatever else somebody has put into it.
        let inside = match &server.kind {
            Kind::Instance => Some(&Status::Up),
            Kind::Cluster(names) => names.iter().find(|name| **name == member_of(&server.identifier)).map(|name| {
                members.iter().find(|(known, _)| known == name).map_or(&Status::Busy, |(_, status)| status)
            }),
        };
        match inside {
            Some(Status::Going) => return DatabaseState::Dropping,
            Some(Status::Stopped) => return DatabaseState::Stopped,
            Some(Status::Broken(why)) => return failed(why),
            Some(Status::Busy) if server.password != Password::Inherited => return DatabaseState::Preparing,
            Some(Status::Busy | Status::Up) | None => {}
        }
        let known = lock(&self.settled).get(&server.resource).cloned();
        match known {
            Some(Settling::Done) => DatabaseState::Ready,
            Some(Settling::GoesOn) => DatabaseState::Preparing,
            Some(Settling::Failed(why)) => DatabaseState::Failed(why),
            None => {
                if let Some(tags) = tags.filter(|tags| self.may_be_settled(server, name, tags)) {
                    self.begin_to_settle(server, name, tags);
                }
                DatabaseState::Preparing
            }
        }
    }

    fn begin_to_settle(self: &Arc<Self>, server: &Server, name: &str, tags: &Tags) {
        let resource = server.resource.clone();
        lock(&self.settled).insert(resource.clone(), Settling::GoesOn);
        let (inner, server, tags, name) = (Arc::clone(self), server.clone(), tags.clone(), name.to_owned());
        tokio::spawn(async move {
            let settling = {
                let (inner, name) = (Arc::clone(&inner), name.clone());
                tokio::spawn(async move { Box::pin(inner.settle(&server, &name, &tags)).await })
            };
            // In a task of its own, so that a panic is not taken for going on; and not beyond its time.
            let settling = AbortOnDropHandle::new(settling);
            let done = tokio::time::timeout(SETTLING, settling).await;
            let done = done
                .map_err(|_| "it has taken too long".to_owned())
                .and_then(|done| done.map_err(|error| error.to_string()));
            let done = done.unwrap_or_else(|why| Err(refused(ErrorClass::Retry, "settle a database", why)));
            let mut settled = lock(&inner.settled);
            // What is only begun, or has to wait, the next listing goes on with.
            match done {
                Ok(Turn::Done) => drop(settled.insert(resource, Settling::Done)),
                Ok(Turn::Begun) => drop(settled.remove(&resource)),
                Err(error) if !is_final(error.class) => {
                    tracing::info!(database.name = name, error = %error, "a restored database cannot be settled yet");
                    settled.remove(&resource);
                }
                Err(error) => {
                    tracing::warn!(database.name = name, error = %error, "a restored database could not be settled");
                    settled.insert(resource, Settling::Failed(error.to_string()));
                }
            }
        });
    }

    async fn settle(&self, server: &Server, name: &str, tags: &Tags) -> Result<Turn, CloudError> {
        let what = format!("settle {}", identifier_of(name));
        let retry = |why: &str| refused(ErrorClass::Retry, &what, why);
        let seed = server.tags.get(SEED).and_then(|seed| SeedName::parse(seed).ok());
        let seed = seed
            .ok_or_else(|| refused(ErrorClass::Denied, &what, format!("it has no tag {SEED}; look at it by hand")))?;
        let golden = self.golden(&what, &seed)?;
        if let Kind::Cluster(members) = &server.kind {
            if !members.contains(&member_of(&server.identifier)) {
                self.put_instance_into(&what, server, golden, tags).await?;
                return Ok(Turn::Begun);
            }
            if server.password == Password::Inherited {
                self.change_password(&what, server).await?;
                return Ok(Turn::Begun);
            }
        }
        let name = DatabaseName::parse(&self.settings.install, name)
            .map_err(|error| refused(ErrorClass::Bug, &what, error.to_string()))?;
        let at = server.endpoint.clone().ok_or_else(|| retry("it has no address yet"))?;
        let user = server.user.clone().ok_or_else(|| retry("it does not say who administers it"))?;
        let admin = Administrator { user, password: self.password(&what, server).await? };
        let wish = Wish {
            name: &name,
            database: &golden.database,
            tags,
            secret: &self.settings.secret,
            limits: RoleLimits::default(),
            tls: &self.settings.tls,
        };
        restored::settle(&at, admin, &wish).await.map(|()| Turn::Done)
    }

    /// The administrator's password, which RDS keeps in Secrets Manager.
    async fn password(&self, what: &str, server: &Server) -> Result<SecretString, CloudError> {
        #[derive(serde::Deserialize)]
        struct Kept {
            password: SecretString,
        }
        let Password::Kept(arn) = &server.password else {
            return Err(refused(ErrorClass::Retry, what, "RDS has not made its administrator's password yet"));
        };
        let kept = self.aws.make.secrets.get_secret_value().secret_id(arn).send().await;
        let kept =
            kept.map_err(|error| told(Verb::Read, format!("{what}: read its administrator's password"), &error))?;
        let kept: Result<Kept, _> = serde_json::from_str(kept.secret_string().unwrap_or_default());
        // The text is a secret, and so is what an error would quote of it.
        kept.map(|kept| kept.password)
            .map_err(|_| refused(ErrorClass::Denied, what, "its secret is not as RDS writes it"))
    }
}

/// Whether trying again changes nothing.
fn is_final(class: ErrorClass) -> bool {
    matches!(class, ErrorClass::Denied | ErrorClass::Bug)
}
