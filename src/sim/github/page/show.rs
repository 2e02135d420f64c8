//! What the pages show.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::response::Html;
use minijinja::value::Serde;
use minijinja::{Value, context};
use serde::Serialize;

use super::{PageError, Pages, diff, markdown};
use crate::domain::time::Timestamp;
use crate::sim::github::operate::Operator;
use crate::sim::github::snapshot::deployments_of;
use crate::sim::github::world::{Deployment, EventKind, HeadRepo, Pull, PullState, Repository, User, UserKind};

/// A list's row, and the head of a page.
#[derive(Serialize)]
struct PullHead {
    number: u64,
    title: String,
    author: Person,
    state: &'static str,
    labels: Vec<Label>,
    opened: When,
    comments: usize,
    deployment: Option<DeploymentBox>,
    branch: String,
    base: String,
    commits: usize,
}

#[derive(Serialize)]
struct Label {
    name: String,
    colour: String,
    set: bool,
}

#[derive(Serialize)]
struct Person {
    login: String,
    bot: bool,
    initial: String,
    /// Which of six colours stands for the login.
    hue: u32,
}

#[derive(Serialize)]
struct When {
    ms: i64,
    text: String,
}

#[derive(Serialize)]
struct DeploymentBox {
    id: u64,
    environment: String,
    sha: String,
    state: String,
    word: &'static str,
    description: String,
    url: String,
    log: String,
    when: When,
}

/// One thing on the timeline.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Item {
    Comment { id: u64, author: Person, when: When, html: Value, edited: bool },
    Event { actor: String, when: When, what: EventKind },
    Deployed { actor: String, when: When, deployment: DeploymentBox },
}

impl Item {
    fn at(&self) -> i64 {
        match self {
            Self::Comment { when, .. } | Self::Event { when, .. } | Self::Deployed { when, .. } => when.ms,
        }
    }
}

impl From<Timestamp> for When {
    fn from(at: Timestamp) -> Self {
        Self { ms: at.0, text: at.to_string() }
    }
}

impl From<&User> for Person {
    fn from(user: &User) -> Self {
        let initial = user.login.chars().next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
        Self { login: user.login.clone(), bot: user.kind == UserKind::Bot, initial, hue: hue(&user.login) }
    }
}

fn hue(login: &str) -> u32 {
    login.bytes().map(u32::from).sum::<u32>() % 6
}

impl DeploymentBox {
    fn of(deployment: &Deployment) -> Self {
        let last = deployment.statuses.last();
        let state = last.map_or("pending", |status| status.state.as_str());
        // The link of an earlier status stands until the deployment ends.
        let link = |pick: fn(&crate::sim::github::world::DeploymentStatus) -> &str| {
            let given = deployment.statuses.iter().rev().map(pick).find(|url| web_address(url));
            given.unwrap_or_default().to_owned()
        };
        Self {
            id: deployment.id,
            environment: deployment.environment.clone(),
            sha: deployment.sha.clone(),
            state: state.to_owned(),
            word: word(state),
            description: last.map(|status| status.description.clone()).unwrap_or_default(),
            url: if state == "success" { link(|status| &status.environment_url) } else { String::new() },
            log: link(|status| &status.log_url),
            when: last.map_or(deployment.created_at, |status| status.created_at).into(),
        }
    }
}

fn web_address(url: &str) -> bool {
    url.starts_with("http://") || url.starts_with("https://")
}

fn word(state: &str) -> &'static str {
    match state {
        "success" => "Active",
        "in_progress" => "In progress",
        "failure" => "Failed",
        "error" => "Error",
        "inactive" => "Inactive",
        "queued" => "Queued",
        _ => "Pending",
    }
}

impl PullHead {
    fn of(repo: &Repository, pull: &Pull) -> Self {
        let labels = repo.labels.keys().chain(pull.labels.iter().filter(|name| !repo.labels.contains_key(*name)));
        let label = |name: &String| Label {
            name: name.clone(),
            colour: repo.labels.get(name).cloned().unwrap_or_else(|| "8b949e".to_owned()),
            set: pull.labels.contains(name),
        };
        let branch = match &pull.head.repo {
            HeadRepo::Same => pull.head.branch.clone(),
            HeadRepo::Fork { owner, .. } => format!("{}:{}", owner.login, pull.head.branch),
            HeadRepo::Deleted => "unknown repository".to_owned(),
        };
        Self {
            number: pull.number,
            title: pull.title.clone(),
            author: (&pull.author).into(),
            state: match pull.state {
                PullState::Open if pull.draft => "draft",
                PullState::Open => "open",
                PullState::Closed => "closed",
                PullState::Merged { .. } => "merged",
            },
            labels: labels.map(label).collect(),
            opened: pull.created_at.into(),
            comments: repo.comments.iter().filter(|comment| comment.number == pull.number).count(),
            deployment: deployments_of(repo, pull).last().map(DeploymentBox::of),
            branch,
            base: pull.base_ref.clone(),
            commits: pull.commits.len(),
        }
    }
}

/// The list of pull requests.
pub(super) async fn pulls(
    State(pages): State<Arc<Pages>>,
    Path((owner, name)): Path<(String, String)>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Result<Html<String>, PageError> {
    let version = pages.shared.version();
    let world = pages.shared.world.lock().await;
    let operator = Operator::new(&pages.shared, &owner, &name);
    let repo = operator.repository(&world)?;
    let closed = query.get("state").is_some_and(|state| state == "closed");
    let rows: Vec<_> = repo
        .pulls
        .values()
        .rev()
        .filter(|pull| pull.is_open() != closed)
        .map(|pull| PullHead::of(repo, pull))
        .collect();
    let open = repo.pulls.values().filter(|pull| pull.is_open()).count();
    let prepared: Vec<_> =
        repo.prepared.iter().map(|one| context! { key => &one.key, title => &one.title, hint => &one.hint }).collect();
    pages.render(
        "pulls.html",
        context! {
            version => version,
            repo => repo.full_name(),
            viewer => &pages.shared.config.viewer,
            dashboard => pages.shared.config.dashboard.as_deref(),
            clone => format!("{}/{}.git", pages.shared.links.clone, repo.full_name()),
            pulls => Value::from(Serde(rows)),
            open => open,
            closed => repo.pulls.len() - open,
            showing => if closed { "closed" } else { "open" },
            prepared => prepared,
        },
    )
}

/// One pull request.
pub(super) async fn pull(
    State(pages): State<Arc<Pages>>,
    Path((owner, name, number)): Path<(String, String, u64)>,
) -> Result<Html<String>, PageError> {
    let version = pages.shared.version();
    let mut world = pages.shared.world.lock().await;
    let me = Person::from(&world.user(&pages.shared.config.viewer));
    let operator = Operator::new(&pages.shared, &owner, &name);
    let repo = operator.repository(&world)?;
    let pull = operator.find(repo, number)?;
    let last = pull.commits.last();
    let patch = match last {
        Some(commit) => diff::parse(&repo.git.patch(&commit.sha).await?),
        None => Vec::new(),
    };
    let deployments: Vec<_> = deployments_of(repo, pull).map(DeploymentBox::of).collect();
    let prepared = pull.prepared.as_ref().and_then(|(key, pushes)| {
        let change = repo.prepared.iter().find(|change| change.key == *key)?;
        Some(change.commit(*pushes)?.message.clone())
    });
    let next = prepared.or_else(|| Some(repo.prepared.first()?.commit(0)?.message.clone()));
    pages.render(
        "pull.html",
        context! {
            version => version,
            repo => repo.full_name(),
            viewer => &pages.shared.config.viewer,
            me => Value::from(Serde(me)),
            dashboard => pages.shared.config.dashboard.as_deref(),
            pull => Value::from(Serde(PullHead::of(repo, pull))),
            body => Value::from_safe_string(markdown::render(&pull.body)),
            timeline => Value::from(Serde(timeline(repo, pull))),
            deployments => Value::from(Serde(deployments)),
            last_commit => Value::from(Serde(last)),
            files => Value::from(Serde(patch)),
            additions => pull.size.additions,
            deletions => pull.size.deletions,
            next => next,
        },
    )
}

fn timeline(repo: &Repository, pull: &Pull) -> Vec<Item> {
    let events = pull.timeline.iter().map(|event| Item::Event {
        actor: event.actor.clone(),
        when: event.at.into(),
        what: event.kind.clone(),
    });
    let comments = repo.comments.iter().filter(|comment| comment.number == pull.number).map(|comment| Item::Comment {
        id: comment.id,
        author: (&comment.author).into(),
        when: comment.created_at.into(),
        html: Value::from_safe_string(markdown::render(&comment.body)),
        edited: comment.edits > 0,
    });
    let deployed = deployments_of(repo, pull).map(|deployment| Item::Deployed {
        actor: deployment.creator.login.clone(),
        when: deployment.created_at.into(),
        deployment: DeploymentBox::of(deployment),
    });
    let mut items: Vec<_> = events.chain(comments).chain(deployed).collect();
    items.sort_by_key(Item::at);
    items
}
