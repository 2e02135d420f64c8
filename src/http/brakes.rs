//! Brakes over the API: set and taken off, each with its row in the journal.
//!
//! Guarantees: every brake has a reason and an end.
//! Must not know: what a brake stops.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};

use super::api::{Problem, failed, unknown};
use crate::controller::Desk;
use crate::domain::brake::{Brake, BrakeKind, SetBy};
use crate::domain::id::{EnvKey, PrNumber, RepoId};

/// The longest that a brake lasts: whoever needs it longer looks at it again.
pub const LONGEST: Duration = Duration::from_hours(24 * 30);

/// What a brake is about.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Brakes {
    /// The repository; without it: everything.
    pub repo: Option<u64>,
    /// The pull request.
    pub pr: Option<u64>,
    /// Why.
    #[serde(default)]
    pub reason: String,
    /// For how many seconds.
    #[serde(default)]
    pub seconds: u64,
}

impl Brakes {
    /// About this environment, or about everything.
    pub fn about(key: Option<EnvKey>) -> Self {
        Self { repo: key.map(|key| key.repo.0), pr: key.map(|key| key.pr.0), ..Self::default() }
    }

    fn key(&self) -> Option<EnvKey> {
        self.repo.zip(self.pr).map(|(repo, pr)| EnvKey { repo: RepoId(repo), pr: PrNumber(pr) })
    }
}

fn refused(why: &str) -> Response {
    (StatusCode::BAD_REQUEST, Json(Problem { error: why.to_owned() })).into_response()
}

/// The kind, if it goes with what it is to be about.
fn kind(word: &str, key: Option<EnvKey>) -> Result<BrakeKind, &'static str> {
    match (BrakeKind::parse(word), key) {
        (None, _) => Err("a brake is freeze, pause or hold"),
        (Some(BrakeKind::Freeze), Some(_)) => Err("a freeze is of everything; an environment is held"),
        (Some(BrakeKind::Hold), None) => Err("a hold is of one environment; everything is frozen"),
        (Some(kind), _) => Ok(kind),
    }
}

/// Sets one.
pub async fn set(State(desk): State<Desk>, Path(word): Path<String>, Query(wanted): Query<Brakes>) -> Response {
    let key = wanted.key();
    let kind = match kind(&word, key) {
        Ok(kind) => kind,
        Err(why) => return refused(why),
    };
    let lasting = Duration::from_secs(wanted.seconds);
    if lasting.is_zero() || lasting > LONGEST {
        return refused("a brake has to end, within 30 days: say --for or --until");
    }
    if wanted.reason.trim().is_empty() {
        return refused("a brake has a reason: say --reason");
    }
    let store = &desk.world().store;
    if let Some(key) = key {
        match store.pull(key).await {
            Ok(Some(_)) => {}
            Ok(None) => return unknown(key),
            Err(error) => return failed(&error),
        }
    }
    let at = desk.world().clock.now();
    let brake = Brake { kind, key, reason: wanted.reason, by: SetBy::Operator, at, until: at.plus(lasting) };
    if let Err(error) = store.set_brake(&brake).await {
        return failed(&error);
    }
    tracing::warn!(brake = %brake, env.key = ?key, "an operator has set a brake");
    wake(&desk, key).await;
    Json(brake).into_response()
}

/// Takes one off.
pub async fn lift(State(desk): State<Desk>, Path(word): Path<String>, Query(wanted): Query<Brakes>) -> Response {
    let key = wanted.key();
    let kind = match kind(&word, key) {
        Ok(kind) => kind,
        Err(why) => return refused(why),
    };
    match desk.world().store.lift_brake(kind, key, desk.world().clock.now()).await {
        Ok(true) => {
            tracing::warn!(kind = kind.word(), env.key = ?key, "an operator has taken a brake off");
            wake(&desk, key).await;
            StatusCode::NO_CONTENT.into_response()
        }
        Ok(false) => {
            let error = format!("no {} is on there; `kagero env list` shows those that are", kind.word());
            (StatusCode::NOT_FOUND, Json(Problem { error })).into_response()
        }
        Err(error) => failed(&error),
    }
}

/// Whatever it is about looks again.
async fn wake(desk: &Desk, key: Option<EnvKey>) {
    match key {
        Some(key) => desk.wake(key),
        // Those that cannot be read now look again by themselves before long.
        None => desk.keys().await.unwrap_or_default().into_iter().for_each(|key| desk.wake(key)),
    }
}
