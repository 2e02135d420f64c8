//! Comments on pull requests.
//!
//! Guarantees: only comments that this App wrote are called ours, whatever their text says.
//! Must not know: what the comments say.

use http::Method;
use serde_json::json;

use super::call::{Ask, Identity};
use super::page::PAGE_SIZE;
use super::wire::{App, BEGINNING, Comment, Id, User};
use super::{ForgeError, Github, RepoRef, path};
use crate::domain::id::PrNumber;
use crate::domain::time::Timestamp;
use crate::domain::words;
use crate::forge::ForgeErrorKind;

const LONGEST_BODY: usize = 65_536;

impl Github {
    pub(super) async fn find_comments(
        &self,
        repo: &RepoRef,
        number: PrNumber,
        marker: &str,
    ) -> Result<Vec<u64>, ForgeError> {
        let what = format!("listing the comments of {}#{}", repo.name, number.0);
        let ask = Self::ask(repo, &format!("issues/{}/comments?per_page={PAGE_SIZE}", number.0), what)?;
        short_enough(&ask, marker)?;
        let comments: Vec<Comment> = self.calls.all::<Vec<_>>(ask).await?;
        let mut ours = Vec::new();
        for comment in comments {
            if self.is_our_comment(&comment, marker).await? {
                ours.push(comment.id);
            }
        }
        ours.sort_unstable();
        Ok(ours)
    }

    pub(super) async fn list_our_comments(
        &self,
        repo: &RepoRef,
        beginning: &str,
        since: Timestamp,
    ) -> Result<Vec<words::Comment>, ForgeError> {
        let (since, size) = (moment(since), PAGE_SIZE.to_string());
        let query = [("since", since.as_str()), ("per_page", &size)];
        let what = format!("listing the comments of {} since {since}", repo.name);
        let ask = Self::ask(repo, &path::with("issues/comments", &query), what)?;
        short_enough(&ask, beginning)?;
        let comments: Vec<Comment> = self.calls.all::<Vec<_>>(ask.clone()).await?;
        let mut ours = Vec::new();
        for comment in comments {
            if self.is_our_comment(&comment, beginning).await? {
                ours.push(spoken(comment, &ask)?);
            }
        }
        Ok(ours)
    }

    pub(super) async fn read_our_comment(
        &self,
        repo: &RepoRef,
        id: u64,
        beginning: &str,
    ) -> Result<Option<words::Comment>, ForgeError> {
        let what = format!("reading comment {id} of {}", repo.name);
        let ask = Self::ask(repo, &format!("issues/comments/{id}"), what)?;
        short_enough(&ask, beginning)?;
        let comment: Comment = match self.calls.read(&ask, |_| true).await {
            Ok(reading) => reading.value,
            Err(error) if error.kind == ForgeErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let ours = comment.id == id && self.is_our_comment(&comment, beginning).await?;
        if ours { spoken(comment, &ask).map(Some) } else { Ok(None) }
    }

    async fn is_our_comment(&self, comment: &Comment, beginning: &str) -> Result<bool, ForgeError> {
        let marked = comment.body.as_deref().is_some_and(|body| body.starts_with(beginning));
        Ok(marked && self.is_ours(comment.performed_via_github_app.as_ref(), comment.user.as_ref()).await?)
    }

    /// Whether this App did it.
    pub(super) async fn is_ours(&self, app: Option<&Id>, author: Option<&User>) -> Result<bool, ForgeError> {
        if let Some(app) = app {
            return Ok(app.id == self.config.app_id);
        }
        let Some(author) = author.filter(|user| user.kind.as_deref() == Some("Bot")) else {
            return Ok(false);
        };
        Ok(author.login == *self.login().await?)
    }

    async fn login(&self) -> Result<&String, ForgeError> {
        let ask = || async {
            let ask = Ask::get(Identity::App, "/app".to_owned(), "asking for the App's own name".to_owned());
            let app: App = self.calls.read(&ask, |_| true).await?.value;
            Ok(format!("{}[bot]", app.slug))
        };
        self.login.get_or_try_init(ask).await
    }

    pub(super) async fn post_comment(&self, repo: &RepoRef, number: PrNumber, body: &str) -> Result<u64, ForgeError> {
        let what = format!("commenting on {}#{}", repo.name, number.0);
        let ask = Self::body(repo, Method::POST, &format!("issues/{}/comments", number.0), body, what)?;
        self.calls.write::<Id>(&ask).await.map(|made| made.id)
    }

    pub(super) async fn patch_comment(&self, repo: &RepoRef, comment: u64, body: &str) -> Result<(), ForgeError> {
        let what = format!("changing comment {comment} of {}", repo.name);
        let ask = Self::body(repo, Method::PATCH, &format!("issues/comments/{comment}"), body, what)?;
        self.calls.tell(&ask).await
    }

    pub(super) async fn remove_comment(&self, repo: &RepoRef, comment: u64) -> Result<(), ForgeError> {
        let what = format!("deleting comment {comment} of {}", repo.name);
        let mut ask = Self::ask(repo, &format!("issues/comments/{comment}"), what)?;
        ask.method = Method::DELETE;
        match self.calls.tell(&ask).await {
            Err(error) if error.kind == ForgeErrorKind::NotFound => Ok(()),
            outcome => outcome,
        }
    }

    fn body(repo: &RepoRef, method: Method, rest: &str, body: &str, what: String) -> Result<Ask, ForgeError> {
        let length = body.chars().count();
        if length > LONGEST_BODY {
            let why = format!("the text has {length} characters, GitHub takes {LONGEST_BODY}: shorten the template");
            return Err(ForgeError { kind: ForgeErrorKind::Rejected, what, why });
        }
        let ask = Self::ask(repo, rest, what)?;
        Ok(Ask { method, body: Some(json!({"body": body})), ..ask })
    }
}

fn short_enough(ask: &Ask, beginning: &str) -> Result<(), ForgeError> {
    if beginning.chars().count() > BEGINNING {
        let why = format!("the marker is longer than the {BEGINNING} characters that are compared: shorten it");
        return Err(ask.error(ForgeErrorKind::Rejected, why));
    }
    Ok(())
}

fn spoken(comment: Comment, ask: &Ask) -> Result<words::Comment, ForgeError> {
    let number = comment.issue_url.as_deref().and_then(|url| url.rsplit('/').next()).and_then(|end| end.parse().ok());
    let (Some(number), Some(updated_at)) = (number, comment.updated_at) else {
        let why = format!("comment {} does not say where it stands or when it was changed", comment.id);
        return Err(ask.error(ForgeErrorKind::Garbled, why));
    };
    Ok(words::Comment {
        id: comment.id,
        pr: PrNumber(number),
        text: comment.body.unwrap_or_default(),
        updated_at: Timestamp(updated_at.as_millisecond()),
    })
}

/// `2026-11-22T10:00:00Z`, as GitHub writes it.
fn moment(at: Timestamp) -> String {
    let at = jiff::Timestamp::from_millisecond(at.0).unwrap_or_default();
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
