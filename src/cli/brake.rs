//! `kagero freeze`, `thaw`, `pause`, `resume`, `hold`, `unhold`: what is to stop, why, and until when.

use std::path::Path;
use std::time::Duration;

use clap::Args;
use reqwest::Method;

use super::api::Api;
use super::env::find;
use super::{Exit, note};
use crate::clock::{Clock as _, SystemClock};
use crate::config::shape::parse_lasting;
use crate::domain::brake::{Brake, BrakeKind};
use crate::domain::id::EnvKey;
use crate::domain::time::Timestamp;
use crate::http::brakes::Brakes;

/// Why, and until when.
#[derive(Debug, Args)]
pub struct Terms {
    /// Why; it is shown wherever the brake is.
    #[arg(long)]
    reason: String,
    /// For how long, such as 90m, 24h or 7d.
    #[arg(long = "for", value_parser = lasting, conflicts_with = "until")]
    lasting: Option<Duration>,
    /// Until then, such as 2026-12-24T18:00:00Z.
    #[arg(long, value_parser = instant)]
    until: Option<Timestamp>,
}

/// Of one environment.
#[derive(Debug, Args)]
pub struct HoldArguments {
    /// `owner/repo#12`, `repo#12` or `12`.
    name: String,
    #[command(flatten)]
    terms: Terms,
}

/// Of everything, or of one environment.
#[derive(Debug, Args)]
pub struct PauseArguments {
    /// `owner/repo#12`, `repo#12` or `12`; without it: everything.
    name: Option<String>,
    #[command(flatten)]
    terms: Terms,
}

fn lasting(text: &str) -> Result<Duration, String> {
    parse_lasting(text).ok_or_else(|| "a whole number with s, m, h or d is expected, such as 24h".to_owned())
}

fn instant(text: &str) -> Result<Timestamp, String> {
    let at: jiff::Timestamp = text.parse().map_err(|error: jiff::Error| error.to_string())?;
    Ok(Timestamp(at.as_millisecond()))
}

impl Terms {
    /// How long from now; a day, where nothing was said and something may be assumed.
    fn lasting(&self, kind: BrakeKind) -> anyhow::Result<Duration> {
        match (self.lasting, self.until, kind) {
            (Some(lasting), ..) => Ok(lasting),
            (None, Some(until), _) => Ok(until.since(SystemClock.now())),
            (None, None, BrakeKind::Freeze | BrakeKind::Pause) => Ok(Duration::from_hours(24)),
            (None, None, BrakeKind::Hold) => {
                Err(Exit::Usage.because("a hold has to end: say --for 48h or --until 2026-12-24T18:00:00Z".to_owned()))
            }
        }
    }
}

/// Sets one of everything.
pub async fn freeze(config: &Path, terms: &Terms) -> anyhow::Result<Exit> {
    set(&Api::of(config)?, BrakeKind::Freeze, None, terms).await
}

/// Holds an environment.
pub async fn hold(config: &Path, arguments: &HoldArguments) -> anyhow::Result<Exit> {
    let api = Api::of(config)?;
    let key = find(&api, &arguments.name).await?.key;
    set(&api, BrakeKind::Hold, Some(key), &arguments.terms).await
}

/// Pauses everything, or an environment.
pub async fn pause(config: &Path, arguments: &PauseArguments) -> anyhow::Result<Exit> {
    let api = Api::of(config)?;
    let key = match &arguments.name {
        Some(name) => Some(find(&api, name).await?.key),
        None => None,
    };
    set(&api, BrakeKind::Pause, key, &arguments.terms).await
}

/// Takes a brake off.
pub async fn lift(config: &Path, kind: BrakeKind, name: Option<&str>) -> anyhow::Result<Exit> {
    let api = Api::of(config)?;
    let key = match name {
        Some(name) => Some(find(&api, name).await?.key),
        None => None,
    };
    let query = query(&Brakes::about(key));
    api.send(Method::DELETE, &format!("/api/brakes/{}?{query}", kind.word())).await?;
    note(&format!("{}: done", kind.end()));
    Ok(Exit::Ok)
}

async fn set(api: &Api, kind: BrakeKind, key: Option<EnvKey>, terms: &Terms) -> anyhow::Result<Exit> {
    let seconds = terms.lasting(kind)?.as_secs();
    let wanted = Brakes { reason: terms.reason.clone(), seconds, ..Brakes::about(key) };
    let path = format!("/api/brakes/{}?{}", kind.word(), query(&wanted));
    let brake: Brake = api.send(Method::POST, &path).await?.json().await?;
    note(&brake.to_string());
    Ok(Exit::Ok)
}

fn query(wanted: &Brakes) -> String {
    let mut pairs = url::form_urlencoded::Serializer::new(String::new());
    if let (Some(repo), Some(pr)) = (wanted.repo, wanted.pr) {
        pairs.append_pair("repo", &repo.to_string()).append_pair("pr", &pr.to_string());
    }
    if wanted.seconds > 0 {
        pairs.append_pair("reason", &wanted.reason).append_pair("seconds", &wanted.seconds.to_string());
    }
    pairs.finish()
}
