//! Takes an environment's database away, once it is proven to be that.
//!
//! Guarantees (I7): dropped is only what was born as this environment's, carries its marker inside (or is a
//! clone that was not claimed yet), and stands on a server of the allow-list; roles go only if their own
//! comment says the same. Already gone is success.
//! Must not know: why it has to go.

use crate::cloud::CloudError;
use crate::domain::observed::Tags;
use crate::domain::owned::name_prefix;
use crate::seed::database;
use crate::seed::marker::{Marker, Sign, Stage};
use crate::seed::name::DatabaseName;
use crate::seed::role;

use super::super::fault;
use super::list::find_one;
use super::prepare::{may_be_claimed, read_inner_marker};
use super::{Inner, lock};
use crate::cloud::postgres::{roles, session};

impl Inner {
    /// Drops a database and its roles.
    pub(super) async fn take_away(&self, name: &DatabaseName, tags: &Tags) -> Result<(), CloudError> {
        let what = format!("drop database {name}");
        self.allowed(&what)?;
        // Seat before lock, as in preparing: the other order could wait in a circle.
        let _seat = self.seats.acquire().await.map_err(|error| fault::bug(&what, error.to_string()))?;
        let mut admin = self.server.administer().await?;
        lock::take(&mut admin, &what, name.as_str()).await?;
        let mine = Marker::Environment { tags: tags.clone(), database: name.as_str().to_owned() };
        if let Some(found) = find_one(&mut admin, &what, name.as_str()).await? {
            if found.born().as_ref() != Some(&mine) {
                return Err(refused(&what, "its owner role does not carry this environment's marker"));
            }
            if !found.allows_connections {
                session::run(&mut admin, &what, database::open(name.as_str())).await?;
            }
            let mut inside = self.server.enter(name.as_str()).await?;
            let marker = read_inner_marker(&mut inside, &what).await;
            let closed = sqlx::Connection::close(inside).await;
            let proven = may_be_claimed(marker.as_ref().ok().and_then(Option::as_ref), &mine, self.server.install());
            if !proven && !found.allows_connections {
                session::run(&mut admin, &what, database::close(name.as_str())).await?;
            }
            marker?;
            closed.map_err(|error| fault::sql(&what, &error))?;
            if !proven {
                return Err(refused(&what, "the marker inside is missing or another's"));
            }
            let same = find_one(&mut admin, &what, name.as_str()).await?.is_some_and(|now| now.oid == found.oid);
            if !same {
                return Err(fault::retry(&what, "another database has taken its name meanwhile"));
            }
            let sign = Sign { stage: Stage::Dropping, owner: mine.clone() };
            session::run(&mut admin, &what, database::begin_drop(name.as_str(), &sign)).await?;
            session::run(&mut admin, &what, database::drop(name.as_str())).await?;
        }
        let there = roles::find(&mut admin, &what, &name_prefix(self.server.install(), '_')).await?;
        let roles = name.roles();
        let left: Vec<&str> = roles
            .all()
            .into_iter()
            .filter(|role| {
                let comment = there.get(*role).and_then(Option::as_deref);
                comment.and_then(Marker::from_text).as_ref() == Some(&mine)
            })
            .collect();
        if left.is_empty() {
            return Ok(());
        }
        session::run(&mut admin, &what, role::drop_all(left)).await
    }
}

fn refused(what: &str, why: &str) -> CloudError {
    fault::denied(what, format!("refused: {why}. If it has to go, remove it by hand"))
}
