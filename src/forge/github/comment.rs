//! Comments on pull requests.
//!
//! Guarantees: only comments that this App wrote are called ours, whatever their text says.
//! Must not know: what the comments say.

use http::Method;
use serde_json::json;

use super::call::{Ask, Identity};
use super::page::PAGE_SIZE;
use super::wire::{App, BEGINNING, Comment, Id};
use super::{ForgeError, Github, RepoRef};
use crate::domain::id::PrNumber;
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
        if marker.chars().count() > BEGINNING {
            let why = format!("the marker is longer than the {BEGINNING} characters that are compared: shorten it");
            return Err(ask.error(ForgeErrorKind::Rejected, why));
        }
        let comments: Vec<Comment> = self.calls.all::<Vec<_>>(ask).await?;
        let mut ours = Vec::new();
        for comment in comments {
            let marked = comment.body.as_deref().is_some_and(|body| body.starts_with(marker));
            if marked && self.is_ours(&comment).await? {
                ours.push(comment.id);
            }
        }
        ours.sort_unstable();
        Ok(ours)
    }

    async fn is_ours(&self, comment: &Comment) -> Result<bool, ForgeError> {
        if let Some(app) = &comment.performed_via_github_app {
            return Ok(app.id == self.config.app_id);
        }
        let Some(author) = comment.user.as_ref().filter(|user| user.kind.as_deref() == Some("Bot")) else {
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
