//! What we read of GitHub's answers: a few fields each, nothing of what we do not use.
//!
//! Guarantees: unknown fields and unknown words in free-form fields are never errors, and every type can be
//! written back: the cache of answers keeps answers in this form, a fortieth of their size.
//! Must not know: what the fields are used for.

use serde::{Deserialize, Deserializer, Serialize};

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Id {
    pub id: u64,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct App {
    pub slug: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Installation {
    pub id: u64,
    pub suspended_at: Option<String>,
}

/// Never cached, and without `Debug`: it is a secret.
#[derive(Deserialize)]
pub(super) struct AccessToken {
    pub token: String,
    pub expires_at: Option<jiff::Timestamp>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Repositories {
    pub total_count: usize,
    pub repositories: Vec<Repository>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Repository {
    pub id: u64,
    pub full_name: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Pull {
    pub number: u64,
    pub state: String,
    pub merged_at: Option<String>,
    pub updated_at: Option<jiff::Timestamp>,
    pub title: String,
    #[serde(default)]
    pub draft: bool,
    /// `null` if the account is gone.
    pub user: Option<User>,
    #[serde(default)]
    pub labels: Vec<Label>,
    pub head: Head,
    pub base: Base,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct User {
    pub login: String,
    #[serde(rename = "type")]
    pub kind: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Label {
    pub name: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Head {
    #[serde(rename = "ref")]
    pub branch: String,
    pub sha: String,
    /// `null` if the fork is gone.
    pub repo: Option<Id>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Base {
    #[serde(rename = "ref")]
    pub branch: String,
    pub repo: Repository,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Contents {
    Entry {
        #[serde(rename = "type")]
        kind: String,
        size: Option<u64>,
        encoding: Option<String>,
        content: Option<String>,
    },
    Directory(Vec<Entry>),
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Entry {
    pub name: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Comment {
    pub id: u64,
    /// Only its beginning, so that long discussions do not fill the memory.
    #[serde(default, deserialize_with = "beginning")]
    pub body: Option<String>,
    pub user: Option<User>,
    /// Missing on older Enterprise Servers.
    pub performed_via_github_app: Option<Id>,
    /// What it stands on.
    pub issue_url: Option<String>,
    pub updated_at: Option<jiff::Timestamp>,
}

/// How much of a comment's text is kept.
pub(super) const BEGINNING: usize = 300;

fn beginning<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    Ok(text.map(|text| text.chars().take(BEGINNING).collect()))
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Deployment {
    pub id: u64,
    pub payload: Option<serde_json::Value>,
    pub performed_via_github_app: Option<Id>,
    pub creator: Option<User>,
    pub environment: Option<String>,
    pub sha: Option<String>,
    pub created_at: Option<jiff::Timestamp>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Status {
    pub state: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Delivery {
    pub id: u64,
    pub guid: String,
    pub delivered_at: jiff::Timestamp,
    pub status: Option<String>,
    pub status_code: Option<u16>,
}
