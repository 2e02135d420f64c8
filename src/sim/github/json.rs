//! Things as GitHub writes them: the JSON of answers and webhook payloads.
//!
//! Guarantees: the fields that GitHub's description requires are there, with its types.
//! Must not know: HTTP, who asks.

use serde_json::{Map, Value, json};

use super::deliver::Event;
use super::world::{
    App, Comment, Deployment, DeploymentStatus, EVENTS, HeadRepo, Installation, PERMISSIONS, Pull, PullState,
    Repository, User,
};
use crate::domain::time::Timestamp;

/// Forms addresses.
#[derive(Debug, Clone)]
pub(super) struct Links {
    /// Of pages: `http://127.0.0.1:PORT`.
    pub web: String,
    /// Of the API, as on GitHub Enterprise Server: `http://127.0.0.1:PORT/api/v3`.
    pub api: String,
    /// Of clones: `file:///…`.
    pub clone: String,
}

/// `2026-11-22T10:00:00Z`.
pub(super) fn instant(at: Timestamp) -> String {
    jiff::Timestamp::from_millisecond(at.0).map(|at| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()).unwrap_or_default()
}

fn instant_or_null(at: Option<Timestamp>) -> Value {
    at.map_or(Value::Null, |at| instant(at).into())
}

fn node(kind: &str, id: u64) -> String {
    format!("{kind}_{id:016x}")
}

/// Adds `<name>_url: <base><suffix>` for each pair.
fn add_links(object: &mut Value, base: &str, pairs: &[(&str, &str)]) {
    if let Some(map) = object.as_object_mut() {
        map.extend(pairs.iter().map(|(name, suffix)| (format!("{name}_url"), Value::from(format!("{base}{suffix}")))));
    }
}

pub(super) fn user(links: &Links, user: &User) -> Value {
    let base = format!("{}/users/{}", links.api, user.login);
    let mut value = json!({
        "login": user.login,
        "id": user.id,
        "node_id": node("U", user.id),
        "avatar_url": format!("{}/avatars/{}", links.web, user.id),
        "gravatar_id": "",
        "url": base,
        "html_url": format!("{}/{}", links.web, user.login),
        "type": user.kind.as_str(),
        "user_view_type": "public",
        "site_admin": false,
    });
    add_links(
        &mut value,
        &base,
        &[
            ("followers", "/followers"),
            ("following", "/following{/other_user}"),
            ("gists", "/gists{/gist_id}"),
            ("starred", "/starred{/owner}{/repo}"),
            ("subscriptions", "/subscriptions"),
            ("organizations", "/orgs"),
            ("repos", "/repos"),
            ("events", "/events{/privacy}"),
            ("received_events", "/received_events"),
        ],
    );
    value
}

const REPOSITORY_LINKS: [(&str, &str); 37] = [
    ("archive", "/{archive_format}{/ref}"),
    ("assignees", "/assignees{/user}"),
    ("blobs", "/git/blobs{/sha}"),
    ("branches", "/branches{/branch}"),
    ("collaborators", "/collaborators{/collaborator}"),
    ("comments", "/comments{/number}"),
    ("commits", "/commits{/sha}"),
    ("compare", "/compare/{base}...{head}"),
    ("contents", "/contents/{+path}"),
    ("contributors", "/contributors"),
    ("deployments", "/deployments"),
    ("downloads", "/downloads"),
    ("events", "/events"),
    ("forks", "/forks"),
    ("git_commits", "/git/commits{/sha}"),
    ("git_refs", "/git/refs{/sha}"),
    ("git_tags", "/git/tags{/sha}"),
    ("hooks", "/hooks"),
    ("issue_comment", "/issues/comments{/number}"),
    ("issue_events", "/issues/events{/number}"),
    ("issues", "/issues{/number}"),
    ("keys", "/keys{/key_id}"),
    ("labels", "/labels{/name}"),
    ("languages", "/languages"),
    ("merges", "/merges"),
    ("milestones", "/milestones{/number}"),
    ("notifications", "/notifications{?since,all,participating}"),
    ("pulls", "/pulls{/number}"),
    ("releases", "/releases{/id}"),
    ("stargazers", "/stargazers"),
    ("statuses", "/statuses/{sha}"),
    ("subscribers", "/subscribers"),
    ("subscription", "/subscription"),
    ("tags", "/tags"),
    ("teams", "/teams"),
    ("trees", "/git/trees{/sha}"),
    ("svn", ""),
];

/// The names under which a repository or its fork goes.
struct RepoNames<'a> {
    id: u64,
    owner: &'a User,
    name: &'a str,
    fork: bool,
}

pub(super) fn repository(links: &Links, repo: &Repository) -> Value {
    let open = repo.pulls.values().filter(|pull| pull.is_open()).count();
    named_repository(links, repo, &RepoNames { id: repo.id, owner: &repo.owner, name: &repo.name, fork: false }, open)
}

fn named_repository(links: &Links, repo: &Repository, names: &RepoNames<'_>, open: usize) -> Value {
    let full_name = format!("{}/{}", names.owner.login, names.name);
    let base = format!("{}/repos/{full_name}", links.api);
    let mut value = json!({
        "id": names.id,
        "node_id": node("R", names.id),
        "name": names.name,
        "full_name": full_name,
        "private": false,
        "visibility": "public",
        "owner": user(links, names.owner),
        "html_url": format!("{}/{full_name}", links.web),
        "description": null,
        "fork": names.fork,
        "url": base,
        "created_at": instant(repo.created_at),
        "updated_at": instant(repo.created_at),
        "pushed_at": instant(repo.created_at),
        "git_url": format!("{}/{full_name}.git", links.clone),
        "ssh_url": format!("{}/{full_name}.git", links.clone),
        "clone_url": format!("{}/{full_name}.git", links.clone),
        "mirror_url": null,
        "homepage": null,
    });
    let counts = json!({
        "size": 64,
        "stargazers_count": 0,
        "watchers_count": 0,
        "watchers": 0,
        "language": null,
        "has_issues": true,
        "has_projects": false,
        "has_downloads": true,
        "has_wiki": false,
        "has_pages": false,
        "has_discussions": false,
        "forks_count": 0,
        "forks": 0,
        "archived": false,
        "disabled": false,
        "open_issues_count": open,
        "open_issues": open,
        "license": null,
        "allow_forking": true,
        "is_template": false,
        "web_commit_signoff_required": false,
        "topics": [],
        "default_branch": "main",
    });
    merge(&mut value, counts);
    add_links(&mut value, &base, &REPOSITORY_LINKS);
    value
}

pub(super) fn label(links: &Links, repo: &Repository, name: &str) -> Value {
    let colour = repo.labels.get(name).map_or("ededed", String::as_str);
    json!({
        "id": fnv(name),
        "node_id": node("LA", fnv(name)),
        "url": format!("{}/repos/{}/labels/{name}", links.api, repo.full_name()),
        "name": name,
        "description": "",
        "color": colour,
        "default": false,
    })
}

/// A stable number for a name.
fn fnv(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
        >> 16
}

/// A pull request as lists have it.
pub(super) fn pull(links: &Links, repo: &Repository, pull: &Pull) -> Value {
    let base = format!("{}/repos/{}", links.api, repo.full_name());
    let url = format!("{base}/pulls/{}", pull.number);
    let issue = format!("{base}/issues/{}", pull.number);
    let html = format!("{}/{}/pull/{}", links.web, repo.full_name(), pull.number);
    let (merged_at, merge_sha) = match &pull.state {
        PullState::Merged { at, sha, .. } => (Some(*at), Some(sha.clone())),
        PullState::Open | PullState::Closed => (None, None),
    };
    let link = |href: &str| json!({"href": href});
    let mut value = json!({
        "id": pull.id,
        "node_id": node("PR", pull.id),
        "url": url,
        "html_url": html,
        "diff_url": format!("{html}.diff"),
        "patch_url": format!("{html}.patch"),
        "issue_url": issue,
        "commits_url": format!("{url}/commits"),
        "review_comments_url": format!("{url}/comments"),
        "review_comment_url": format!("{base}/pulls/comments{{/number}}"),
        "comments_url": format!("{issue}/comments"),
        "statuses_url": format!("{base}/statuses/{}", pull.head.sha),
        "number": pull.number,
        "state": if pull.is_open() { "open" } else { "closed" },
        "locked": false,
        "active_lock_reason": null,
        "title": pull.title,
        "user": user(links, &pull.author),
        "body": pull.body,
        "labels": pull.labels.iter().map(|name| label(links, repo, name)).collect::<Vec<_>>(),
        "milestone": null,
        "created_at": instant(pull.created_at),
        "updated_at": instant(pull.updated_at),
        "closed_at": instant_or_null(pull.closed_at),
        "merged_at": instant_or_null(merged_at),
        "merge_commit_sha": merge_sha,
        "assignee": null,
        "assignees": [],
        "requested_reviewers": [],
        "requested_teams": [],
        "draft": pull.draft,
        "author_association": "CONTRIBUTOR",
        "auto_merge": null,
    });
    let ends = json!({
        "head": head(links, repo, pull),
        "base": {
            "label": format!("{}:{}", repo.owner.login, pull.base_ref),
            "ref": pull.base_ref,
            "sha": pull.base_sha,
            "user": user(links, &repo.owner),
            "repo": repository(links, repo),
        },
        "_links": {
            "self": link(&url),
            "html": link(&html),
            "issue": link(&issue),
            "comments": link(&format!("{issue}/comments")),
            "review_comments": link(&format!("{url}/comments")),
            "review_comment": link(&format!("{base}/pulls/comments{{/number}}")),
            "commits": link(&format!("{url}/commits")),
            "statuses": link(&format!("{base}/statuses/{}", pull.head.sha)),
        },
    });
    merge(&mut value, ends);
    value
}

fn head(links: &Links, repo: &Repository, pull: &Pull) -> Value {
    let (owner, of) = match &pull.head.repo {
        HeadRepo::Same => (Some(&repo.owner), repository(links, repo)),
        HeadRepo::Fork { id, owner } => {
            let names = RepoNames { id: *id, owner, name: &repo.name, fork: true };
            (Some(owner), named_repository(links, repo, &names, 0))
        }
        HeadRepo::Deleted => (None, Value::Null),
    };
    json!({
        "label": format!("{}:{}", owner.map_or("unknown", |owner| &owner.login), pull.head.branch),
        "ref": pull.head.branch,
        "sha": pull.head.sha,
        "user": owner.map(|owner| user(links, owner)),
        "repo": of,
    })
}

/// A pull request as `GET /pulls/{n}` and webhooks have it.
pub(super) fn full_pull(links: &Links, repo: &Repository, one: &Pull) -> Value {
    let mut value = pull(links, repo, one);
    let merged_by = match &one.state {
        PullState::Merged { by, .. } => user(links, by),
        PullState::Open | PullState::Closed => Value::Null,
    };
    let comments = repo.comments.iter().filter(|comment| comment.number == one.number).count();
    let more = json!({
        "merged": matches!(one.state, PullState::Merged { .. }),
        "mergeable": if one.is_open() { Value::Bool(true) } else { Value::Null },
        "rebaseable": one.is_open(),
        "mergeable_state": if !one.is_open() { "unknown" } else if one.draft { "draft" } else { "clean" },
        "merged_by": merged_by,
        "comments": comments,
        "review_comments": 0,
        "maintainer_can_modify": false,
        "commits": one.commits.len(),
        "additions": one.size.additions,
        "deletions": one.size.deletions,
        "changed_files": one.size.files,
    });
    merge(&mut value, more);
    value
}

/// Adds the fields of one object to another.
pub(super) fn merge(into: &mut Value, more: Value) {
    if let (Some(map), Value::Object(more)) = (into.as_object_mut(), more) {
        map.extend(more);
    }
}

pub(super) fn comment(links: &Links, app: &App, repo: &Repository, comment: &Comment) -> Value {
    let base = format!("{}/repos/{}", links.api, repo.full_name());
    let html = format!("{}/{}/pull/{}", links.web, repo.full_name(), comment.number);
    json!({
        "id": comment.id,
        "node_id": node("IC", comment.id),
        "url": format!("{base}/issues/comments/{}", comment.id),
        "html_url": format!("{html}#comment-{}", comment.id),
        "issue_url": format!("{base}/issues/{}", comment.number),
        "user": user(links, &comment.author),
        "created_at": instant(comment.created_at),
        "updated_at": instant(comment.updated_at),
        "author_association": "CONTRIBUTOR",
        "body": comment.body,
        "reactions": reactions(&format!("{base}/issues/comments/{}/reactions", comment.id)),
        "performed_via_github_app": if comment.via_app { self::app(links, app, &comment.author) } else { Value::Null },
    })
}

fn reactions(url: &str) -> Value {
    let mut map = Map::new();
    map.insert("url".into(), url.into());
    for kind in ["total_count", "+1", "-1", "laugh", "hooray", "confused", "heart", "rocket", "eyes"] {
        map.insert(kind.into(), 0.into());
    }
    Value::Object(map)
}

/// An issue as the payload of `issue_comment` has it, for a pull request.
pub(super) fn issue(links: &Links, repo: &Repository, one: &Pull) -> Value {
    let mut value = pull(links, repo, one);
    let base = format!("{}/repos/{}", links.api, repo.full_name());
    let url = format!("{base}/issues/{}", one.number);
    let html = value["html_url"].clone();
    if let Some(map) = value.as_object_mut() {
        map.retain(|key, _| {
            !["head", "base", "_links", "merged_at", "merge_commit_sha", "statuses_url"].contains(&key.as_str())
        });
        map.insert("pull_request".into(), json!({"url": format!("{base}/pulls/{}", one.number), "html_url": html}));
        map.insert("url".into(), url.clone().into());
        map.insert("repository_url".into(), base.into());
        map.insert("events_url".into(), format!("{url}/events").into());
        map.insert("labels_url".into(), format!("{url}/labels{{/name}}").into());
        map.insert("comments".into(), repo.comments.iter().filter(|c| c.number == one.number).count().into());
    }
    value
}

pub(super) fn app(links: &Links, app: &App, owner: &User) -> Value {
    json!({
        "id": app.id,
        "slug": app.slug,
        "node_id": node("A", app.id),
        "client_id": format!("Iv23li{:014}", app.id),
        "owner": user(links, owner),
        "name": app.name,
        "description": null,
        "external_url": links.web,
        "html_url": format!("{}/apps/{}", links.web, app.slug),
        "created_at": "2026-01-01T00:00:00Z",
        "updated_at": "2026-01-01T00:00:00Z",
        "permissions": permissions(),
        "events": EVENTS,
        "installations_count": 1,
    })
}

pub(super) fn permissions() -> Value {
    PERMISSIONS
        .iter()
        .map(|(name, access)| ((*name).to_owned(), Value::from(access.as_str())))
        .collect::<Map<_, _>>()
        .into()
}

pub(super) fn installation(links: &Links, app: &App, installation: &Installation) -> Value {
    json!({
        "id": installation.id,
        "account": user(links, &installation.account),
        "access_tokens_url": format!("{}/app/installations/{}/access_tokens", links.api, installation.id),
        "repositories_url": format!("{}/installation/repositories", links.api),
        "html_url": format!("{}/settings/installations/{}", links.web, installation.id),
        "app_id": app.id,
        "target_id": installation.account.id,
        "target_type": installation.account.kind.as_str(),
        "permissions": permissions(),
        "events": EVENTS,
        "created_at": instant(installation.created_at),
        "updated_at": instant(installation.created_at),
        "single_file_name": null,
        "has_multiple_single_files": false,
        "single_file_paths": [],
        "app_slug": app.slug,
        "repository_selection": "all",
        "suspended_at": instant_or_null(installation.suspended_at),
        "suspended_by": null,
    })
}

pub(super) fn deployment(links: &Links, repo: &Repository, one: &Deployment) -> Value {
    let base = format!("{}/repos/{}", links.api, repo.full_name());
    json!({
        "url": format!("{base}/deployments/{}", one.id),
        "id": one.id,
        "node_id": node("DE", one.id),
        "sha": one.sha,
        "ref": one.reference,
        "task": one.task,
        "payload": one.payload,
        "original_environment": one.environment,
        "environment": one.environment,
        "description": one.description,
        "creator": user(links, &one.creator),
        "created_at": instant(one.created_at),
        "updated_at": instant(one.updated_at),
        "statuses_url": format!("{base}/deployments/{}/statuses", one.id),
        "repository_url": base,
        "transient_environment": one.transient,
        "production_environment": one.production,
        "performed_via_github_app": null,
    })
}

pub(super) fn deployment_status(links: &Links, repo: &Repository, of: &Deployment, one: &DeploymentStatus) -> Value {
    let base = format!("{}/repos/{}", links.api, repo.full_name());
    json!({
        "url": format!("{base}/deployments/{}/statuses/{}", of.id, one.id),
        "id": one.id,
        "node_id": node("DES", one.id),
        "state": one.state,
        "creator": user(links, &one.creator),
        "description": one.description,
        "environment": of.environment,
        "target_url": one.log_url,
        "created_at": instant(one.created_at),
        "updated_at": instant(one.created_at),
        "deployment_url": format!("{base}/deployments/{}", of.id),
        "repository_url": base,
        "environment_url": one.environment_url,
        "log_url": one.log_url,
        "performed_via_github_app": null,
    })
}

/// An event about a repository, with what every payload carries.
pub(super) fn event(
    links: &Links,
    repo: &Repository,
    name: &'static str,
    action: &'static str,
    actor: &User,
    mut payload: Value,
) -> Event {
    let common = json!({
        "action": action,
        "repository": repository(links, repo),
        "organization": {"login": repo.owner.login, "id": repo.owner.id, "node_id": node("O", repo.owner.id)},
        "sender": user(links, actor),
        "installation": {"id": repo.installation, "node_id": node("I", repo.installation)},
    });
    merge(&mut payload, common);
    Event { name, action, installation: Some(repo.installation), repository: Some(repo.id), payload }
}
