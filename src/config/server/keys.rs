//! The keys of `kagero.toml`.

use std::time::Duration;

use crate::config::rules;
use crate::config::shape::{Field, Shape, Table, default, optional, required};

const fn whole(least: i64, most: i64) -> Shape {
    Shape::Whole { least, most }
}

const fn lasting(least: Duration, most: Duration) -> Shape {
    Shape::Lasting { least, most }
}

const fn choice(words: &'static [&'static str]) -> Shape {
    Shape::Choice { words, later: &[] }
}

/// A table that may be left out as a whole.
const fn group(key: &'static str, table: &'static Table, without: &'static str, about: &'static str) -> Field {
    optional(key, Shape::Table(table), without, about)
}

/// The whole file.
pub static SERVER: Table = Table {
    fields: &[
        default(
            "name",
            Shape::Text(&rules::INSTALL),
            "kagero",
            "The installation's name. Every resource carries it: two installations on one host or in one account must not share it.",
        ),
        required(
            "repositories",
            Shape::List { item: &rules::REPOSITORY, least: 1, most: 1_000 },
            "repositories = [\"acme/*\"]",
            "Repositories that may have environments at all.",
        ),
        optional(
            "public_url",
            Shape::Text(&rules::WEB_URL),
            "http:// and listen.http",
            "Where people and GitHub reach the controller.",
        ),
        default(
            "state_dir",
            Shape::Text(&rules::PATH),
            "state",
            "Where machines, databases and clones live on this host.",
        ),
        group("listen", &LISTEN, "its defaults", "Where Kagero listens."),
        group("gateway", &GATEWAY, "its defaults", "Where previews are reached: `https://pr-12-shop.<domain>`."),
        group("store", &STORE, "its defaults", "Where records are kept."),
        required(
            "github",
            Shape::Table(&GITHUB),
            "[github] with app_id, private_key and webhook_secrets",
            "The GitHub App.",
        ),
        group("compute", &COMPUTE, "its defaults", "What environments run on."),
        group("database", &DATABASE, "its defaults", "Database servers."),
        optional(
            "seeds",
            Shape::Named { name: &rules::SEED, value: &Shape::Table(&SEED), most: 200 },
            "no databases",
            "Golden data that databases are cloned from, by name.",
        ),
        group("limits", &LIMITS, "its defaults", "How much may exist at once."),
        group("pace", &PACE, "its defaults", "How often what is looked at."),
        group("sweep", &SWEEP, "its defaults", "How what belongs to no environment is looked for and taken away."),
        group("labels", &LABELS, "its defaults", "Labels with a meaning."),
        optional(
            "secrets",
            Shape::Named { name: &rules::VARIABLE, value: &Shape::Text(&rules::SECRET), most: 200 },
            "none",
            "Secrets for environments, by the name of the variable. A repository gets those that the `.kagero.yml` on its base branch names; any repository of `repositories` can name any of them.",
        ),
        group("allow", &ALLOW, "this host only", "Where things may be destroyed, besides this host."),
    ],
    later: &["notify", "lanes", "lifetime", "access", "budget"],
};

pub(super) static LISTEN: Table = Table {
    fields: &[
        default("http", Shape::Text(&rules::ADDRESS), "127.0.0.1:8080", "Webhooks, dashboard and API."),
        default("gateway", Shape::Text(&rules::ADDRESS), "127.0.0.1:8081", "Previews."),
    ],
    later: &[],
};

pub(super) static GATEWAY: Table = Table {
    fields: &[
        default(
            "domain",
            Shape::Text(&rules::DOMAIN),
            "preview.localhost",
            "Every name below it has to lead to the gateway (a wildcard DNS record).",
        ),
        optional("scheme", choice(&["http", "https"]), "that of public_url", "How links to previews begin."),
        optional(
            "port",
            whole(1, 65_535),
            "the port of listen.gateway for http, none for https",
            "The port in links to previews.",
        ),
        default(
            "front",
            choice(&["direct", "load_balancer"]),
            "direct",
            "What visitors reach first. Behind a load balancer that appends the client's address to X-Forwarded-For, and \
             with no other way in, applications are told that address.",
        ),
    ],
    later: &[],
};

pub(super) static STORE: Table = Table {
    fields: &[optional(
        "url",
        Shape::Text(&rules::STORE),
        "sqlite:<state_dir>/kagero.db",
        "A file, for one controller; or a database on a PostgreSQL server, which replicas share where machines are not on \
         their own hosts. An address with a password is a secret: `env:<NAME>` or `file:<path>`.",
    )],
    later: &[],
};

pub(super) static GITHUB: Table = Table {
    fields: &[
        required("app_id", whole(1, i64::MAX), "app_id = 123456", "The App's number."),
        required(
            "private_key",
            Shape::Text(&rules::SECRET),
            "private_key = \"file:github-app.pem\"",
            "The App's private key.",
        ),
        required(
            "webhook_secrets",
            Shape::List { item: &rules::SECRET, least: 1, most: 5 },
            "webhook_secrets = [\"env:WEBHOOK_SECRET\"]",
            "Secrets that deliveries may be signed with, the current one first. Two while one is being replaced.",
        ),
        default(
            "api_url",
            Shape::Text(&rules::WEB_URL),
            "https://api.github.com",
            "The REST API; `https://<host>/api/v3` for GitHub Enterprise Server.",
        ),
        optional(
            "web_url",
            Shape::Text(&rules::WEB_URL),
            "https://github.com, or the host of another api_url",
            "Where people read pull requests.",
        ),
        optional(
            "clone_base",
            Shape::Text(&rules::CLONE_URL),
            "web_url",
            "Repositories are cloned from `<clone_base>/<owner>/<name>.git`.",
        ),
    ],
    later: &["oauth"],
};

pub(super) static COMPUTE: Table = Table {
    fields: &[
        default(
            "kind",
            choice(&["local", "ec2"]),
            "local",
            "`local`: processes on this host. `ec2`: instances in a staging network on AWS, which `[compute.ec2]` names.",
        ),
        default(
            "sandbox",
            choice(&["require", "best_effort"]),
            "require",
            "What to do where the host offers no sandbox: run nothing, or run with less isolation and say so. Machines on EC2 have no choice: `require`.",
        ),
        optional(
            "read_only_paths",
            Shape::List { item: &rules::ABSOLUTE_PATH, least: 0, most: 100 },
            "only the system's own folders",
            "Further paths that processes of pull requests may read; `local` only.",
        ),
        optional(
            "path",
            Shape::List { item: &rules::ABSOLUTE_PATH, least: 0, most: 50 },
            "the system's PATH",
            "Folders put before `PATH`; they are readable too; `local` only.",
        ),
        optional(
            "container_engine",
            Shape::Text(&rules::ENGINE_SOCKET),
            "`DOCKER_HOST`, else the usual sockets of Docker and Podman",
            "The socket of the engine that services run in which are containers; `local` only.",
        ),
        group("ec2", &EC2, "not used", "Where instances are launched, with `kind = \"ec2\"`."),
    ],
    later: &[],
};

pub(super) static EC2: Table = Table {
    fields: &[
        required(
            "account",
            Shape::Text(&rules::ACCOUNT),
            "account = \"111111111111\"",
            "The only account that anything is done in. With credentials of another one Kagero does not start.",
        ),
        required("region", Shape::Text(&rules::REGION), "region = \"eu-central-1\"", "The Region."),
        required(
            "vpc",
            Shape::Text(&rules::VPC),
            "vpc = \"vpc-0a1b2c3d\"",
            "The staging network that infra/network.yaml has made for this installation.",
        ),
        required(
            "ami",
            Shape::Text(&rules::AMI),
            "ami = \"ami-0a1b2c3d\"",
            "The image that machines boot from: systemd, git, bubblewrap, nftables and curl are needed in it.",
        ),
        required(
            "instance_types",
            Shape::List { item: &rules::INSTANCE_TYPE, least: 1, most: 10 },
            "instance_types = [\"t4g.small\"]",
            "Instance types, the preferred one first: the others are tried where there is no room for it.",
        ),
        default("volume", whole(8, 1_000), "20", "GiB of a machine's volume. It is always encrypted."),
        optional(
            "profile",
            Shape::Text(&rules::PROFILE),
            "none",
            "The machines' instance profile. It should allow nothing: what a pull request runs may get at it.",
        ),
        optional(
            "agent_url",
            Shape::Text(&rules::PROGRAM_URL),
            "the one in the image, /usr/local/bin/kagero",
            "Where machines fetch this program from, without credentials.",
        ),
        optional("agent_sha256", Shape::Text(&rules::SHA256), "not fetched", "Its digest; needed with `agent_url`."),
        default(
            "roles",
            choice(&["separate", "together"]),
            "separate",
            "`separate`: the roles kagero-<name>-reader, -provisioner and -reaper of infra/identity.yaml are taken on, so that \
             what makes cannot remove. `together`: everything is done with the credentials that Kagero is started with.",
        ),
        optional(
            "production_words",
            Shape::List { item: &rules::WORD, least: 1, most: 20 },
            "prod, production and live",
            "Words that stand for production in an account's alias and in tags. Where one of them stands, Kagero does not start.",
        ),
    ],
    later: &[],
};

pub(super) static DATABASE: Table = Table {
    fields: &[
        group(
            "postgres",
            &POSTGRES,
            "a private server, if a seed is for postgres",
            "The PostgreSQL server that databases are cloned on.",
        ),
        group("rds", &RDS, "its defaults", "How instances on RDS are made, for seeds that are snapshots."),
    ],
    later: &["mysql", "aurora"],
};

pub(super) static RDS: Table = Table {
    fields: &[
        optional(
            "root_certificate",
            Shape::Text(&rules::ABSOLUTE_PATH),
            "encrypted, but not verified",
            "The authorities that have signed RDS's certificates (global-bundle.pem), on this host and at the same place in the machines' image. Servers are verified with it.",
        ),
        optional(
            "key",
            Shape::Text(&rules::KMS_KEY),
            "the account's own key",
            "The key that RDS encrypts administrators' passwords with: `KeyArn` of infra/identity.yaml.",
        ),
    ],
    later: &[],
};

pub(super) static POSTGRES: Table = Table {
    fields: &[
        optional(
            "server",
            choice(&["private"]),
            "private, unless url is set",
            "`private`: one that Kagero starts and stops, under `state_dir`.",
        ),
        optional(
            "url",
            Shape::Text(&rules::SECRET),
            "a private server",
            "The address of a server that is there, as a secret, with a role that may create databases and roles. The server has to be named in `allow.database_servers` too.",
        ),
        optional(
            "bin_dir",
            Shape::Text(&rules::ABSOLUTE_PATH),
            "where the system keeps them",
            "Where `postgres`, `initdb`, `pg_restore` and `psql` are.",
        ),
        optional(
            "user",
            Shape::Text(&rules::USER),
            "the account of Kagero, or postgres if that is root",
            "The account that the private server runs as.",
        ),
        optional(
            "open_databases",
            Shape::List { item: &rules::IDENTIFIER, least: 0, most: 100 },
            "none",
            "Databases on the server of `url` that every role may enter and that may stay so. Without it such a server is refused: pull requests could read there.",
        ),
    ],
    later: &[],
};

pub(super) static SEED: Table = Table {
    fields: &[
        required("engine", choice(&["postgres", "sqlite"]), "engine = \"postgres\"", "What the data is for."),
        optional(
            "path",
            Shape::Text(&rules::PATH),
            "on RDS",
            "The dump or database file. Databases are cloned from it on a shared server (lane `template`).",
        ),
        default(
            "format",
            choice(&["auto", "plain", "custom", "directory", "sqlite"]),
            "auto",
            "How it is written; `auto` finds out by looking.",
        ),
        optional(
            "extensions",
            Shape::List { item: &rules::IDENTIFIER, least: 0, most: 50 },
            "none",
            "PostgreSQL's extensions that the data needs and that only an administrator may make: made before it is loaded.",
        ),
        optional(
            "snapshot",
            Shape::Text(&rules::SNAPSHOT),
            "a file",
            "What the names of golden snapshots on RDS begin with, in place of `path`. Each environment gets an instance of its own, restored from the newest that infra/golden.yaml has masked and verified (lane `rds`).",
        ),
        optional(
            "instance",
            Shape::Text(&rules::GOLDEN_STANDING),
            "a file",
            "A golden instance on RDS that stands and is backed up, in place of `path`: masked, verified and tagged as snapshots are. Each environment gets an instance of its own, restored to the newest point in time of it (lane `rds-pitr`).",
        ),
        optional(
            "cluster",
            Shape::Text(&rules::GOLDEN_STANDING),
            "a file",
            "A golden cluster of Aurora PostgreSQL, in place of `path`: masked, verified and tagged as instances are. Each environment gets a cluster of its own, a clone that shares the pages that nobody has written to, with one instance (lane `aurora`).",
        ),
        optional(
            "database",
            Shape::Text(&rules::IDENTIFIER),
            "not used",
            "The database that applications use; needed with `snapshot`, `instance` and `cluster`.",
        ),
        optional(
            "class",
            Shape::Text(&rules::DATABASE_CLASS),
            "db.t4g.micro; db.serverless with `cluster`",
            "What restored instances run as; `db.serverless` takes between half an Aurora capacity unit and four.",
        ),
        optional(
            "max_age",
            lasting(Duration::from_hours(1), Duration::from_hours(24 * 365)),
            "14d",
            "The oldest data that may be used: a snapshot's, or the newest point in time of an instance or a cluster.",
        ),
    ],
    later: &["masks", "verify"],
};

pub(super) static LIMITS: Table = Table {
    fields: &[
        default(
            "environments",
            whole(1, 10_000),
            "20",
            "Environments that may hold resources at once; further ones queue.",
        ),
        optional("per_repository", whole(1, 10_000), "the same as environments", "The same for one repository."),
        default(
            "attempts",
            whole(1, 20),
            "3",
            "Attempts at one machine, one database or one commit before it is shown as failed.",
        ),
        default("builds", whole(1, 64), "2", "Commits that are built at once."),
    ],
    later: &[],
};

pub(super) static PACE: Table = Table {
    fields: &[
        default(
            "busy",
            lasting(Duration::from_millis(50), Duration::from_mins(5)),
            "100ms",
            "Between two looks while something is being made or taken away; 2s with machines on EC2, and at least 1s.",
        ),
        default(
            "idle",
            lasting(Duration::from_millis(200), Duration::from_hours(1)),
            "15s",
            "Between two looks while everything is as it should be; longer with more than 300 environments for each second of it.",
        ),
        default(
            "comment",
            lasting(Duration::ZERO, Duration::from_mins(10)),
            "30s",
            "The shortest time between two changes of one comment.",
        ),
        default(
            "grace",
            lasting(Duration::ZERO, Duration::from_hours(1)),
            "0s",
            "After asking for something, not finding it for that long proves nothing. On this host nothing is invisible; with machines on EC2 it is 5m, and at least 1m.",
        ),
    ],
    later: &[],
};

pub(super) static SWEEP: Table = Table {
    fields: &[
        default(
            "mode",
            choice(&["apply", "report", "off"]),
            "apply",
            "What `kagero serve` does by itself: `apply` marks orphans and takes away those that carry a mark for a day; `report` only tells of them; `off` leaves it to `kagero sweep`.",
        ),
        default("every", lasting(Duration::from_mins(5), Duration::from_hours(24)), "1h", "Between two sweeps."),
        default(
            "count",
            whole(1, 10_000),
            "5",
            "So many removals within an hour are never too many. Closing pull requests does not count.",
        ),
        default(
            "share",
            whole(1, 100),
            "20",
            "So much of everything, in percent, is not too much. What goes beyond both freezes removals until somebody has looked.",
        ),
    ],
    later: &[],
};

pub(super) static LABELS: Table = Table {
    fields: &[
        default(
            "on",
            Shape::Text(&rules::LABEL),
            "preview",
            "Opts a pull request in, where `trigger.mode` or `trigger.bots` is `on_label`.",
        ),
        default("off", Shape::Text(&rules::LABEL), "preview:off", "Opts a pull request out; wins over everything."),
    ],
    later: &["keep", "public"],
};

pub(super) static ALLOW: Table = Table {
    fields: &[optional(
        "database_servers",
        Shape::List { item: &rules::HOST_PORT, least: 1, most: 20 },
        "none",
        "Servers that databases may be dropped on, as `host:port`. Needed for `database.postgres.url`.",
    )],
    later: &["accounts", "regions", "vpcs"],
};
