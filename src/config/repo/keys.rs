//! The keys of `.kagero.yml`.

use std::time::Duration;

use crate::config::rules;
use crate::config::shape::{Shape, Table, default, optional, required};

const fn choice(words: &'static [&'static str]) -> Shape {
    Shape::Choice { words, later: &[] }
}

const fn lasting(most: Duration) -> Shape {
    Shape::Lasting { least: Duration::from_secs(1), most }
}

static COMMAND: Shape = Shape::Text(&rules::COMMAND);
static NONE: Shape = Shape::Choice { words: &["none"], later: &[] };

/// The whole file.
pub static REPO: Table = Table {
    fields: &[
        default("version", Shape::Whole { least: 1, most: 1 }, "1", "The version of this format."),
        required(
            "services",
            Shape::Named { name: &rules::SERVICE, value: &Shape::Table(&SERVICE), most: 10 },
            "services: {web: {run: \"bin/server -p $PORT\", public: true}}",
            "What a preview consists of, by name: processes (`run`) and containers (`image` or `dockerfile`); with `compose`, \
             what is to be said of the compose file's services. The first public one owns the bare host name.",
        ),
        optional(
            "compose",
            Shape::Text(&rules::CHECKOUT_PATH),
            "every service says itself what it is",
            "A compose file of the repository: all its services run as containers, and `services` says which are public.",
        ),
        optional(
            "build",
            Shape::Either(&COMMAND, &BUILD),
            "nothing to build",
            "Makes a checkout runnable: a command, or `{run, timeout}`.",
        ),
        optional("database", Shape::Either(&NONE, &DATABASE), "no database", "The database of a preview, or `none`."),
        optional(
            "env",
            Shape::Named { name: &rules::VARIABLE, value: &Shape::Text(&rules::VALUE), most: 200 },
            "none",
            "Environment variables for build, migration and services.",
        ),
        optional(
            "secrets",
            Shape::List { item: &rules::VARIABLE, least: 0, most: 100 },
            "none",
            "Names of secrets of the operator's that the services get as environment variables.",
        ),
        optional("trigger", Shape::Table(&TRIGGER), "its defaults", "Which pull requests get a preview."),
        optional("lifetime", Shape::Table(&LIFETIME), "its defaults", "How long a preview lives."),
    ],
    later: &["checks", "paths", "paths_ignore", "notify", "access", "links", "resources"],
};

pub(super) static SERVICE: Table = Table {
    fields: &[
        optional(
            "run",
            Shape::Text(&rules::COMMAND),
            "a container",
            "For a process: the command, for `sh`. `PORT` is set where the service is public or has a health path.",
        ),
        optional(
            "image",
            Shape::Text(&rules::IMAGE),
            "built, or a process",
            "For a container: the image, by tag or digest. `{sha}` stands for the commit. It is pulled anew for each commit.",
        ),
        optional(
            "dockerfile",
            Shape::Text(&rules::CHECKOUT_PATH),
            "pulled, or a process",
            "For a container: the Dockerfile that its image is built by, relative to `context`.",
        ),
        optional(
            "context",
            Shape::Text(&rules::CHECKOUT_PATH),
            "the whole repository",
            "The folder that the build of `dockerfile` sees.",
        ),
        optional("target", Shape::Text(&rules::BUILD_STAGE), "the last one", "The stage of `dockerfile` to stop at."),
        optional(
            "command",
            Shape::List { item: &rules::ARGUMENT, least: 1, most: 100 },
            "what the image says",
            "For a container: what is started, word by word, as arguments of the image's entry point if it has one.",
        ),
        optional(
            "port",
            Shape::Whole { least: 1, most: 65_535 },
            "the only one that the image exposes",
            "For a container: the port that it listens on, inside, at all addresses. `PORT` is set to it.",
        ),
        optional(
            "user",
            Shape::Text(&rules::CONTAINER_USER),
            "what the image says",
            "For a container: the user inside. No user has any capability.",
        ),
        optional(
            "read_only",
            Shape::Flag,
            "false",
            "For a container: whether its files cannot be changed. `/tmp` can.",
        ),
        optional(
            "health",
            Shape::Text(&rules::HEALTH),
            "ready as soon as it runs",
            "A path that answers 2xx or 3xx once the service is ready.",
        ),
        default(
            "public",
            Shape::Flag,
            "false",
            "Whether visitors can reach it. At least one service has to be public.",
        ),
        optional(
            "overlap",
            Shape::Flag,
            "the same as public",
            "Whether the old and the new version may run side by side during a push.",
        ),
        default("start_timeout", lasting(Duration::from_mins(15)), "2m", "How long it may take to become ready."),
    ],
    later: &["replicas", "memory", "cpu", "depends_on", "stop_timeout"],
};

pub(super) static BUILD: Table = Table {
    fields: &[
        required("run", Shape::Text(&rules::COMMAND), "run: \"bin/setup\"", "The command, for `sh`."),
        default("timeout", lasting(Duration::from_hours(1)), "15m", "It is ended after that long."),
    ],
    later: &["cache"],
};

pub(super) static MIGRATE: Table = Table {
    fields: &[
        required("run", Shape::Text(&rules::COMMAND), "run: \"bin/migrate\"", "The command, for `sh`."),
        default("timeout", lasting(Duration::from_hours(1)), "10m", "It is ended after that long."),
    ],
    later: &[],
};

pub(super) static DATABASE: Table = Table {
    fields: &[
        required(
            "engine",
            Shape::Choice { words: &["postgres", "sqlite"], later: &["mysql", "mariadb"] },
            "engine: postgres",
            "The engine.",
        ),
        default(
            "lane",
            Shape::Choice { words: &["auto", "template", "rds", "rds-pitr", "aurora"], later: &["instance"] },
            "auto",
            "How the database is made. `template`: cloned from a golden one on the same server. `rds`: an instance of its own, restored from a golden snapshot. `rds-pitr`: the same, restored to the newest point in time of a golden instance. `aurora`: a cluster of its own, cloned from a golden one. `auto`: as the operator's seed is.",
        ),
        default("seed", Shape::Text(&rules::SEED), "golden", "The golden data, by the operator's name for it."),
        optional(
            "migrate",
            Shape::Either(&COMMAND, &MIGRATE),
            "the schema stays as the seed has it",
            "Brings the schema up to the commit: a command, or `{run, timeout}`. Runs before the services start, as the role that owns the schema.",
        ),
        default(
            "on_push",
            choice(&["keep", "reset"]),
            "keep",
            "What a push does to the data: keep it and migrate it, or clone the seed anew.",
        ),
    ],
    later: &["masks"],
};

pub(super) static TRIGGER: Table = Table {
    fields: &[
        default(
            "mode",
            choice(&["automatic", "on_label"]),
            "automatic",
            "Every pull request, or those with the opt-in label.",
        ),
        default("draft", choice(&["skip", "run"]), "skip", "What drafts get."),
        default(
            "forks",
            choice(&["approve", "never"]),
            "approve",
            "What pull requests from forks get: a preview of exactly the commit that someone with write access approved, or none.",
        ),
        default("bots", choice(&["run", "on_label", "never"]), "on_label", "What pull requests by bots get."),
        optional(
            "base_branches",
            Shape::List { item: &rules::BRANCH, least: 1, most: 50 },
            "all branches",
            "Only pull requests into these branches.",
        ),
    ],
    later: &["paths", "paths_ignore", "labels", "authors"],
};

pub(super) static LIFETIME: Table = Table {
    fields: &[default(
        "max_age",
        Shape::Lasting { least: Duration::from_secs(10), most: Duration::from_hours(90 * 24) },
        "14d",
        "A preview is destroyed that long after it was made, whatever happens.",
    )],
    later: &["idle_sleep", "idle_ttl"],
};
