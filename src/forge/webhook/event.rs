//! Payloads, read thinly: only what says where to look.
//!
//! Guarantees: unknown events, actions and fields are normal; a missing field is an error only if there is
//! no place to look without it. Nothing read here is believed: the caller reads GitHub again.
//! Must not know: what anybody does about an event.

use serde::Deserialize;

use crate::domain::id::{InstallationId, PrNumber, RepoId, RepoName};

/// The repository that an event happened in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its key.
    pub repo: RepoId,
    /// Its name at that time.
    pub name: RepoName,
    /// The installation that the event was sent for; webhooks that are not the App's have none.
    pub installation: Option<InstallationId>,
}

/// A delivery, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Something happened to a pull request.
    PullRequest {
        /// Where.
        place: Place,
        /// Which one.
        number: PrNumber,
        /// What.
        action: PullAction,
    },
    /// Something happened to a comment on an issue or on a pull request.
    IssueComment {
        /// Where.
        place: Place,
        /// Which issue or pull request.
        number: PrNumber,
        /// Whether it is a pull request.
        is_pull: bool,
        /// What.
        action: IssueCommentAction,
        /// The comment's id.
        comment: u64,
        /// Who wrote it; `None` if the account is gone.
        author: Option<String>,
    },
    /// An installation came, went or changed, or its repositories did.
    Installation {
        /// Which one.
        installation: Option<InstallationId>,
        /// What, in GitHub's words.
        action: String,
    },
    /// A repository was renamed, transferred, archived, deleted, …
    Repository {
        /// Which one.
        place: Place,
        /// What, in GitHub's words.
        action: String,
    },
    /// Commits, a branch or a tag were pushed.
    Push {
        /// Where.
        place: Place,
        /// In full: `refs/heads/main`.
        reference: String,
    },
    /// GitHub tries whether we are there.
    Ping,
    /// An event that we have not asked for, by name.
    Other(String),
}

macro_rules! actions {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)+
            /// One that we do not know; GitHub adds them without notice.
            Other(String),
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                match text.as_str() {
                    $($text => Self::$variant,)+
                    _ => Self::Other(text),
                }
            }
        }
    };
}

actions!(
    /// What happened to a pull request. Whichever of these it was, the pull request is read again.
    PullAction {
        /// Opened.
        Opened = "opened",
        /// Closed or merged.
        Closed = "closed",
        /// Opened again.
        Reopened = "reopened",
        /// Its head moved.
        Synchronize = "synchronize",
        /// Title, text or base changed.
        Edited = "edited",
        /// A label was set.
        Labeled = "labeled",
        /// A label was taken away.
        Unlabeled = "unlabeled",
        /// No longer a draft.
        ReadyForReview = "ready_for_review",
        /// A draft again.
        ConvertedToDraft = "converted_to_draft",
    }
);

actions!(
    /// What happened to a comment.
    IssueCommentAction {
        /// Written.
        Created = "created",
        /// Changed.
        Edited = "edited",
        /// Taken away.
        Deleted = "deleted",
    }
);

/// Where a delivery tells us to look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Touch {
    /// At one pull request.
    Pull(Place, PrNumber),
    /// At a repository's list of pull requests.
    Repository(Place),
    /// At the configuration on a branch that pull requests may be based on.
    Branch(Place, String),
    /// At the list of installations and repositories.
    Installations,
    /// Nowhere.
    Nothing,
}

/// A payload that says nothing.
#[derive(Debug, thiserror::Error)]
pub enum PayloadError {
    /// Not JSON, or without a field that is needed to find the place.
    #[error("the payload of {event} could not be read: GitHub may have changed its form")]
    Unreadable {
        /// The event.
        event: String,
        /// Where and what.
        source: serde_json::Error,
    },
    /// The repository's name is not one.
    #[error("the payload of {event} names a repository that cannot exist: the sender is not GitHub")]
    Name {
        /// The event.
        event: String,
        /// The name.
        source: crate::domain::id::InvalidName,
    },
}

impl Event {
    /// Reads a payload. Events that we do not know are [`Event::Other`], whatever their payload.
    pub fn read(event: &str, body: &[u8]) -> Result<Self, PayloadError> {
        Ok(match event {
            "pull_request" => {
                let raw: RawPullRequest = parse(event, body)?;
                Self::PullRequest {
                    place: place(event, &raw.repository, raw.installation.as_ref())?,
                    number: PrNumber(raw.pull_request.number),
                    action: raw.action.unwrap_or_default().into(),
                }
            }
            "issue_comment" => {
                let raw: RawIssueComment = parse(event, body)?;
                Self::IssueComment {
                    place: place(event, &raw.repository, raw.installation.as_ref())?,
                    number: PrNumber(raw.issue.number),
                    is_pull: raw.issue.pull_request.is_some(),
                    action: raw.action.unwrap_or_default().into(),
                    comment: raw.comment.id,
                    author: raw.comment.user.and_then(|user| user.login),
                }
            }
            "push" => {
                let raw: RawPush = parse(event, body)?;
                Self::Push {
                    place: place(event, &raw.repository, raw.installation.as_ref())?,
                    reference: raw.reference.unwrap_or_default(),
                }
            }
            "repository" => {
                let raw: RawRepositoryEvent = parse(event, body)?;
                Self::Repository {
                    place: place(event, &raw.repository, raw.installation.as_ref())?,
                    action: raw.action.unwrap_or_default(),
                }
            }
            "installation" | "installation_repositories" | "installation_target" => {
                let raw: RawInstallationEvent = parse(event, body)?;
                Self::Installation {
                    installation: raw.installation.map(|found| InstallationId(found.id)),
                    action: raw.action.unwrap_or_default(),
                }
            }
            "ping" => Self::Ping,
            other => Self::Other(other.to_owned()),
        })
    }

    /// Where to look because of it.
    pub fn touches(&self) -> Touch {
        match self {
            // What GitHub comes to say of pull requests in future is found by the resync.
            Self::PullRequest { action: PullAction::Other(_), .. } => Touch::Nothing,
            Self::PullRequest { place, number, .. } | Self::IssueComment { place, number, is_pull: true, .. } => {
                Touch::Pull(place.clone(), *number)
            }
            // Any branch can be some pull request's base, and `.kagero.yml` is read from there. Tags cannot.
            Self::Push { place, reference } => match reference.strip_prefix("refs/heads/") {
                Some(branch) => Touch::Branch(place.clone(), branch.to_owned()),
                None => Touch::Nothing,
            },
            Self::Repository { place, .. } => Touch::Repository(place.clone()),
            Self::Installation { .. } => Touch::Installations,
            Self::IssueComment { .. } | Self::Ping | Self::Other(_) => Touch::Nothing,
        }
    }
}

fn parse<'a, T: Deserialize<'a>>(event: &str, body: &'a [u8]) -> Result<T, PayloadError> {
    serde_json::from_slice(body).map_err(|source| PayloadError::Unreadable { event: event.to_owned(), source })
}

fn place(event: &str, repo: &RawRepository, installation: Option<&RawId>) -> Result<Place, PayloadError> {
    let name =
        RepoName::parse(&repo.full_name).map_err(|source| PayloadError::Name { event: event.to_owned(), source })?;
    Ok(Place { repo: RepoId(repo.id), name, installation: installation.map(|found| InstallationId(found.id)) })
}

#[derive(Deserialize)]
struct RawId {
    id: u64,
}

#[derive(Deserialize)]
struct RawRepository {
    id: u64,
    full_name: String,
}

#[derive(Deserialize)]
struct RawUser {
    login: Option<String>,
}

#[derive(Deserialize)]
struct RawPullRequest {
    action: Option<String>,
    pull_request: RawNumber,
    repository: RawRepository,
    installation: Option<RawId>,
}

#[derive(Deserialize)]
struct RawNumber {
    number: u64,
}

#[derive(Deserialize)]
struct RawIssueComment {
    action: Option<String>,
    issue: RawIssue,
    comment: RawComment,
    repository: RawRepository,
    installation: Option<RawId>,
}

#[derive(Deserialize)]
struct RawIssue {
    number: u64,
    /// Present on pull requests; what is in it does not matter.
    pull_request: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct RawComment {
    id: u64,
    user: Option<RawUser>,
}

#[derive(Deserialize)]
struct RawPush {
    #[serde(rename = "ref")]
    reference: Option<String>,
    repository: RawRepository,
    installation: Option<RawId>,
}

#[derive(Deserialize)]
struct RawRepositoryEvent {
    action: Option<String>,
    repository: RawRepository,
    installation: Option<RawId>,
}

#[derive(Deserialize)]
struct RawInstallationEvent {
    action: Option<String>,
    installation: Option<RawId>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn read(event: &str, body: &serde_json::Value) -> Event {
        Event::read(event, body.to_string().as_bytes()).unwrap()
    }

    fn shop() -> Place {
        Place { repo: RepoId(7), name: RepoName::parse("acme/shop").unwrap(), installation: Some(InstallationId(3)) }
    }

    #[test]
    fn a_pull_request_of_a_deleted_fork_with_an_unheard_of_action_is_read() {
        let event = read(
            "pull_request",
            &json!({
                "action": "stacked", "number": 12, "stack": {"base": null},
                "pull_request": {"number": 12, "body": null, "user": null, "head": {"repo": null}},
                "repository": {"id": 7, "full_name": "acme/shop"}, "installation": {"id": 3},
            }),
        );
        assert_eq!(
            event,
            Event::PullRequest { place: shop(), number: PrNumber(12), action: PullAction::Other("stacked".into()) }
        );
        assert_eq!(event.touches(), Touch::Nothing, "unknown actions are ignored");
    }

    #[test]
    fn comments_touch_pull_requests_but_not_issues() {
        let mut body = json!({
            "action": "created", "issue": {"number": 5, "pull_request": {"url": "…"}},
            "comment": {"id": 99, "body": null, "user": null},
            "repository": {"id": 7, "full_name": "acme/shop"}, "installation": {"id": 3},
        });
        assert_eq!(read("issue_comment", &body).touches(), Touch::Pull(shop(), PrNumber(5)));
        body["issue"] = json!({"number": 5});
        assert_eq!(read("issue_comment", &body).touches(), Touch::Nothing);
    }

    #[test]
    fn branches_touch_what_is_based_on_them_and_tags_do_not() {
        let push = |reference: &str| {
            read(
                "push",
                &json!({"ref": reference, "repository": {"id": 7, "full_name": "acme/shop"}, "installation": {"id": 3}}),
            )
        };
        assert_eq!(push("refs/heads/release/1").touches(), Touch::Branch(shop(), "release/1".to_owned()));
        assert_eq!(push("refs/tags/v1").touches(), Touch::Nothing);
    }

    #[test]
    fn unknown_events_are_not_even_parsed() {
        assert_eq!(Event::read("brand_new", b"\xff").unwrap(), Event::Other("brand_new".into()));
        assert_eq!(Event::read("ping", b"").unwrap(), Event::Ping);
    }

    #[test]
    fn what_names_no_place_is_an_error_that_names_the_event() {
        for body in ["", "[]", "{}", "{\"repository\":{\"id\":-1}}", "{\"action\":\"opened\""] {
            let error = Event::read("pull_request", body.as_bytes()).unwrap_err();
            assert!(error.to_string().contains("pull_request"), "{error}");
        }
        let hostile = json!({"pull_request": {"number": 1}, "repository": {"id": 7, "full_name": "acme/../../x"}});
        assert!(matches!(Event::read("pull_request", hostile.to_string().as_bytes()), Err(PayloadError::Name { .. })));
    }

    fn any_event() -> impl Strategy<Value = &'static str> {
        prop::sample::select(vec!["pull_request", "issue_comment", "push", "repository", "installation", "ping", "x"])
    }

    proptest! {
        #[test]
        fn garbage_never_panics(event in any_event(), body: Vec<u8>) {
            let _ = Event::read(event, &body).map(|event| event.touches());
        }

        #[test]
        fn a_truncated_payload_is_an_error_or_an_event_without_one(event in any_event(), cut in 0_usize..150) {
            let body = json!({
                "action": "created", "ref": "refs/heads/x", "issue": {"number": 5}, "comment": {"id": 9},
                "pull_request": {"number": 5}, "repository": {"id": 7, "full_name": "acme/shop"},
            })
            .to_string();
            let result = Event::read(event, &body.as_bytes()[..cut.min(body.len() - 1)]);
            prop_assert_eq!(result.is_ok(), matches!(event, "ping" | "x"));
        }
    }
}
