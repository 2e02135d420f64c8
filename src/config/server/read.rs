//! From what was written to what is usable.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

use crate::config::check::check;
use crate::config::explain;
use crate::config::problem::{ConfigErrors, Problem, Problems, Span};
use crate::config::secret::{self, Secret, Surroundings};
use crate::config::tree::{Language, parse};
use crate::config::view::{View, Written, text_of};
use crate::domain::id::{InstallId, SeedName};
use crate::domain::policy::{Engine, Labels, Limits, LinkBase, Pace, RemovalLimits};
use crate::domain::server_address::ServerAddress;

use super::keys::{self, SERVER};
use super::{
    Compute, Ec2Compute, Front, Gateway, GitHub, Listen, LocalCompute, Postgres, PostgresServer, Rds, RdsSource,
    SandboxRule, Seed, SeedFile, SeedFormat, SeedRds, SeedSource, Server, Store, Sweep, SweepMode,
};

/// What instances restored from a snapshot run as, where the operator names nothing.
const DATABASE_CLASS: &str = "db.t4g.micro";
/// What instances in clusters run as: Aurora knows no class that is smaller.
const CLUSTER_CLASS: &str = "db.serverless";

/// What `[compute]` says of processes on this host only, the value that machines have anyway, and how it is on them.
const ON_THIS_HOST: [(&str, Option<&str>, &str); 4] = [
    ("sandbox", Some("require"), "agents on machines run nothing without one"),
    ("read_only_paths", None, "what is to be read has to be in the image, in the system's own folders"),
    ("path", None, "programs have to be in the image, in the system's PATH"),
    ("container_engine", None, "agents find the engine of their image in the usual places"),
];

/// With machines on EC2: between two looks while something is being made or taken away.
const AWS_BUSY: std::time::Duration = std::time::Duration::from_secs(2);

/// The least of it: each look takes calls from the share of the account's limits that changes need too.
const AWS_LEAST_BUSY: std::time::Duration = std::time::Duration::from_secs(1);

/// With machines on EC2: what was asked for may be invisible for so long ("Eventual consistency in the Amazon EC2 API").
const AWS_GRACE: std::time::Duration = std::time::Duration::from_mins(5);

/// The least of it.
const AWS_LEAST_GRACE: std::time::Duration = std::time::Duration::from_mins(1);

/// The oldest snapshot that may be used, where the operator says nothing.
const SNAPSHOT_AGE: std::time::Duration = std::time::Duration::from_hours(14 * 24);

/// Words that stand for production, where the operator names none.
const PRODUCTION_WORDS: [&str; 3] = ["prod", "production", "live"];

/// Reads the text of a `kagero.toml`. `name` is how messages call it.
pub fn parse_server(name: &str, text: &str, around: Surroundings<'_>) -> Result<Server, ConfigErrors> {
    let mut problems = Problems::default();
    let (node, extent) = parse(Language::Toml, text, &mut problems);
    check(&node, &SERVER, Language::Toml, extent, &mut problems);
    let mut reader = Reader { around, problems, warnings: Vec::new() };
    let view = View::new(&node, &SERVER);
    let server = reader.server(view);
    let Reader { mut problems, warnings, .. } = reader;
    match server {
        Some(mut server) if problems.is_empty() => {
            server.warnings = warnings;
            server.explained = explain::rows(view, "kagero.toml");
            Ok(server)
        }
        _ => {
            if problems.is_empty() {
                problems.push(Problem::new(
                    0..0,
                    "a value was accepted that cannot be used; this is a mistake in Kagero",
                    "",
                ));
            }
            problems.into_errors(name, text).and(Err(ConfigErrors::unreadable(name, "unusable".to_owned(), "")))
        }
    }
}

struct Reader<'e> {
    around: Surroundings<'e>,
    problems: Problems,
    warnings: Vec<String>,
}

impl Reader<'_> {
    /// Every part is read before the first that failed ends it, so that all findings come at once.
    fn server(&mut self, view: View<'_>) -> Option<Server> {
        let install = view.text("name").and_then(|name| InstallId::parse(name.text).ok());
        let listen = listen(view.table("listen", &keys::LISTEN));
        let public_url = view
            .text("public_url")
            .map_or_else(|| listen.map(|listen| local_url(listen.http)), |url| Some(base(url.text)));
        let gateway = gateway(view.table("gateway", &keys::GATEWAY), listen, public_url.as_deref());
        let state_dir = view.text("state_dir").map(|path| self.around.path(path.text));
        let store = self.store(view.table("store", &keys::STORE), state_dir.as_ref());
        let github = self.github(view.table("github", &keys::GITHUB));
        let compute = self.compute(view.table("compute", &keys::COMPUTE));
        let on_aws = view.table("compute", &keys::COMPUTE).text("kind").is_some_and(|kind| kind.text == "ec2");
        let seeds = self.seeds(view, on_aws);
        let database_servers: Vec<String> = view
            .table("allow", &keys::ALLOW)
            .list("database_servers")
            .iter()
            .map(|host| host.text.to_owned())
            .collect();
        let postgres = self.postgres(view, &seeds, &database_servers);
        let labels = self.labels(view.table("labels", &keys::LABELS));
        let secrets = self.secrets(view);
        let limits_view = view.table("limits", &keys::LIMITS);
        let pace = self.pace(view.table("pace", &keys::PACE), on_aws);
        Some(Server {
            install: install?,
            listen: listen?,
            public_url: public_url?,
            gateway: gateway?,
            store: store?,
            state_dir: state_dir?,
            github: github?,
            compute: compute?,
            postgres,
            rds: rds(view.table("database", &keys::DATABASE).table("rds", &keys::RDS)),
            seeds,
            limits: limits(limits_view)?,
            pace: pace?,
            sweep: sweep(view.table("sweep", &keys::SWEEP))?,
            labels: labels?,
            repositories: view.list("repositories").iter().map(|name| name.text.to_owned()).collect(),
            secrets,
            database_servers,
            warnings: Vec::new(),
            explained: Vec::new(),
        })
    }

    fn compute(&mut self, view: View<'_>) -> Option<Compute> {
        let written = view.written("ec2");
        match (view.text("kind")?.text, written) {
            ("ec2", None) => {
                let problem =
                    Problem::new(view.span("kind"), "`compute.kind` is ec2, but there is no [compute.ec2]", "");
                self.problems.push(problem.help("add it with account, region, vpc, ami and instance_types"));
                None
            }
            ("ec2", Some(_)) => {
                let misplaced = self.without_meaning_on_ec2(view);
                let compute = self.ec2(view.table("ec2", &keys::EC2))?;
                (!misplaced).then_some(Compute::Ec2(compute))
            }
            (_, Some(entry)) => {
                let message = "`compute.ec2` has no meaning without `kind = \"ec2\"`";
                self.problems.push(
                    Problem::new(entry.key_span.clone(), message, "")
                        .help("add `kind = \"ec2\"` to [compute], or remove it"),
                );
                None
            }
            (_, None) => local_compute(view).map(Compute::Local),
        }
    }

    /// What is said of processes on this host, where there are none. Whether anything is.
    fn without_meaning_on_ec2(&mut self, view: View<'_>) -> bool {
        let mut found = false;
        for (key, anyway, help) in ON_THIS_HOST.iter().filter(|(key, ..)| view.written(key).is_some()) {
            if anyway.is_some_and(|anyway| view.text(key).is_some_and(|written| written.text == anyway)) {
                continue;
            }
            let message = format!("`compute.{key}` has no meaning with `kind = \"ec2\"`");
            self.problems.push(Problem::new(view.span(key), message, "").help(format!("remove it: {help}")));
            found = true;
        }
        found
    }

    fn ec2(&mut self, view: View<'_>) -> Option<Ec2Compute> {
        let text = |key| view.text(key).map(|written| written.text.to_owned());
        let agent = match (text("agent_url"), text("agent_sha256")) {
            (Some(url), Some(sha256)) => Some((url, sha256)),
            (None, None) => None,
            (url, _) => {
                let (there, missing) =
                    if url.is_some() { ("agent_url", "agent_sha256") } else { ("agent_sha256", "agent_url") };
                let message = format!("`compute.ec2.{there}` is there without `{missing}`");
                let help = "a program is fetched only with its digest: give both, or none";
                self.problems.push(Problem::new(view.span(there), message, "").help(help));
                return None;
            }
        };
        let texts = |key| view.list(key).iter().map(|item| item.text.to_owned()).collect::<Vec<_>>();
        Some(Ec2Compute {
            account: text("account")?,
            region: text("region")?,
            vpc: text("vpc")?,
            ami: text("ami")?,
            instance_types: texts("instance_types"),
            volume: view.whole("volume")?,
            profile: text("profile"),
            agent,
            separate_roles: view.text("roles")?.text == "separate",
            production_words: match texts("production_words") {
                none if none.is_empty() => PRODUCTION_WORDS.map(str::to_owned).to_vec(),
                words => words,
            },
        })
    }

    /// On AWS what was asked for may be invisible for minutes, and looking is not for nothing.
    fn pace(&mut self, view: View<'_>, on_aws: bool) -> Option<Pace> {
        let (mut busy, mut grace) = (view.lasting("busy")?, view.lasting("grace")?);
        if on_aws && view.written("busy").is_none() {
            busy = AWS_BUSY;
        }
        if on_aws && view.written("grace").is_none() {
            grace = AWS_GRACE;
        }
        if on_aws && busy < AWS_LEAST_BUSY {
            let problem = Problem::new(view.span("busy"), "`pace.busy` is too short for machines on EC2", "");
            let help = "looks would take the calls that changes need: use 2s, and at least 1s";
            self.problems.push(problem.help(help));
        }
        if on_aws && grace < AWS_LEAST_GRACE {
            let problem = Problem::new(view.span("grace"), "`pace.grace` is too short for machines on EC2", "");
            let help = "EC2 may not show what was asked for for some minutes: use 5m, and at least 1m";
            self.problems.push(problem.help(help));
        }
        Some(Pace { busy, idle: view.lasting("idle")?, comment: view.lasting("comment")?, grace })
    }

    fn store(&mut self, view: View<'_>, state_dir: Option<&PathBuf>) -> Option<Store> {
        let Some(url) = view.text("url") else {
            return (view.written("url").is_none())
                .then(|| state_dir.map(|dir| Store::Sqlite { path: dir.join("kagero.db") }))?;
        };
        if let Some(path) = url.text.strip_prefix("sqlite:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return Some(Store::Sqlite { path: self.around.path(path) });
        }
        let address = if ["file:", "env:"].iter().any(|scheme| url.text.starts_with(scheme)) {
            self.secret(&url)?.value
        } else {
            self.problems.mask(url.span.clone());
            SecretString::from(url.text)
        };
        let (message, help) = match ServerAddress::parse(address.expose_secret()) {
            Ok(server) if server.password.is_some() && url.text == address.expose_secret() => (
                "a password is written into `store.url`",
                "put the whole address into a file or an environment variable, and name that: file:<path> or env:<NAME>"
                    .to_owned(),
            ),
            Ok(_) => return Some(Store::Postgres { url: address }),
            Err(error) => ("`store.url` is not the address of a PostgreSQL database", error.to_string()),
        };
        self.problems.push(Problem::new(url.span, message, "").help(help));
        None
    }

    fn github(&mut self, view: View<'_>) -> Option<GitHub> {
        let private_key = view.text("private_key").and_then(|key| self.secret(&key));
        if let Some(key) = &private_key
            && !key.value.expose_secret().contains("-----BEGIN")
        {
            let problem =
                Problem::new(view.span("private_key"), "`github.private_key` does not hold a private key", "");
            self.problems
                .push(problem.help("download the key from the App's settings: a file that begins with -----BEGIN"));
        }
        let webhook_secrets: Vec<Secret> =
            view.list("webhook_secrets").iter().filter_map(|written| self.secret(written)).collect();
        let api_url = base(view.text("api_url")?.text);
        let web_url = match view.text("web_url") {
            Some(url) => base(url.text),
            None if api_url == "https://api.github.com" => "https://github.com".to_owned(),
            None => Url::parse(&api_url).ok()?.origin().ascii_serialization(),
        };
        let clone_base = view.text("clone_base").map_or_else(|| web_url.clone(), |url| base(url.text));
        Some(GitHub {
            app_id: view.whole("app_id")?,
            private_key: private_key?,
            api_url,
            web_url,
            clone_base,
            webhook_secrets,
        })
    }

    fn seeds(&mut self, view: View<'_>, on_aws: bool) -> BTreeMap<SeedName, Seed> {
        let mut seeds = BTreeMap::new();
        for entry in view.named("seeds") {
            let seed = View::new(&entry.value, &keys::SEED);
            let engine = seed.text("engine").and_then(|engine| engine_of(engine.text));
            let source = self.seed_source(&entry.key, seed, engine, on_aws);
            if let (Some(engine), Some(source), Ok(name)) = (engine, source, SeedName::parse(entry.key.as_str())) {
                seeds.insert(name, Seed { engine, source });
            }
        }
        seeds
    }

    fn seed_source(&mut self, name: &str, seed: View<'_>, engine: Option<Engine>, on_aws: bool) -> Option<SeedSource> {
        let mut refuse = |key: &str, message: String, help: &str| {
            self.problems.push(Problem::new(seed.span(key), message, "").help(help));
        };
        let places: Vec<&str> =
            ["path", "snapshot", "instance", "cluster"].into_iter().filter(|key| seed.written(key).is_some()).collect();
        let place = match places[..] {
            [place] => place,
            [] => {
                let help = "add `path`, or `snapshot`, `instance` or `cluster` for golden data on RDS";
                refuse("engine", format!("`seeds.{name}` has no data"), help);
                return None;
            }
            [first, second, ..] => {
                let message = format!("`seeds.{name}` has both `{first}` and `{second}`");
                refuse(second, message, "remove one of the two");
                return None;
            }
        };
        let misplaced: &[&str] =
            if place == "path" { &["database", "class", "max_age"] } else { &["format", "extensions"] };
        for key in misplaced.iter().filter(|key| seed.written(key).is_some()) {
            refuse(key, format!("`seeds.{name}.{key}` has no meaning here"), "remove it");
        }
        if place == "path" {
            return self.seed_file(name, seed, engine?).map(SeedSource::File);
        }
        if !on_aws {
            let help = "instances on RDS are reached from machines on EC2: set `compute.kind = \"ec2\"`, or use a dump";
            refuse(place, format!("`seeds.{name}.{place}` needs machines on EC2"), help);
        }
        if engine == Some(Engine::Sqlite) {
            refuse("engine", format!("`seeds.{name}` is on RDS, which has no sqlite"), "use engine postgres");
        }
        let Some(database) = seed.text("database") else {
            let message = format!("`seeds.{name}.{place}` is there without `database`");
            refuse(place, message, "name the database in it that applications use");
            return None;
        };
        let named = seed.text(place)?.text.to_owned();
        let (source, usual) = match place {
            "snapshot" => (RdsSource::Snapshots(named), DATABASE_CLASS),
            "instance" => (RdsSource::Instance(named), DATABASE_CLASS),
            _ => (RdsSource::Cluster(named), CLUSTER_CLASS),
        };
        Some(SeedSource::Rds(SeedRds {
            source,
            database: database.text.to_owned(),
            class: seed.text("class").map_or(usual, |class| class.text).to_owned(),
            max_age: if seed.written("max_age").is_some() { seed.lasting("max_age")? } else { SNAPSHOT_AGE },
        }))
    }

    fn seed_file(&mut self, name: &str, seed: View<'_>, engine: Engine) -> Option<SeedFile> {
        let format = seed.text("format").and_then(|format| format_of(format.text))?;
        let fits = match format {
            SeedFormat::Auto | SeedFormat::Plain => true,
            SeedFormat::Custom | SeedFormat::Directory => engine == Engine::Postgres,
            SeedFormat::Sqlite => engine == Engine::Sqlite,
        };
        if !fits {
            let message = format!("`seeds.{name}.format` does not go with its engine");
            let help = "engine sqlite takes sqlite or plain; engine postgres takes plain, custom or directory";
            self.problems.push(Problem::new(seed.span("format"), message, "").help(help));
        }
        let extensions = texts(seed, "extensions");
        if engine == Engine::Sqlite && !extensions.is_empty() {
            let message = format!("`seeds.{name}.extensions` does not go with its engine");
            self.problems
                .push(Problem::new(seed.span("extensions"), message, "").help("only engine postgres has extensions"));
        }
        Some(SeedFile { path: self.around.path(seed.text("path")?.text), format, extensions })
    }

    fn postgres(&mut self, view: View<'_>, seeds: &BTreeMap<SeedName, Seed>, allowed: &[String]) -> Option<Postgres> {
        let view = view.table("database", &keys::DATABASE);
        let written = view.written("postgres").is_some();
        let is_cloned = |seed: &Seed| seed.engine == Engine::Postgres && matches!(seed.source, SeedSource::File(_));
        if !written && !seeds.values().any(is_cloned) {
            return None;
        }
        let view = view.table("postgres", &keys::POSTGRES);
        let user = view.text("user").map(|user| user.text.to_owned());
        let server = match view.text("url") {
            None => PostgresServer::Private { user },
            Some(url) => {
                for key in ["server", "user"] {
                    if let Some(entry) = view.written(key) {
                        let message = format!("`database.postgres.{key}` has no meaning together with `url`");
                        self.problems
                            .push(Problem::new(entry.key_span.clone(), message, "").help("remove one of the two"));
                    }
                }
                let secret = self.secret(&url)?;
                self.external(&url.span, &secret, allowed);
                PostgresServer::External { url: secret }
            }
        };
        let bin_dir = view.text("bin_dir").map(|dir| PathBuf::from(dir.text));
        Some(Postgres { server, bin_dir, open_databases: texts(view, "open_databases") })
    }

    fn external(&mut self, span: &Span, secret: &Secret, allowed: &[String]) {
        let address = match ServerAddress::parse(secret.value.expose_secret()) {
            Ok(address) => address,
            Err(error) => {
                let message = format!("the secret {} is not the address of a PostgreSQL server", secret.reference);
                self.problems.push(Problem::new(span.clone(), message, "").help(error.to_string()));
                return;
            }
        };
        let server = address.authority();
        if !allowed.contains(&server) {
            let message = format!("the server of {} is not in `allow.database_servers`", secret.reference);
            let help = "databases are dropped there: name the server as host:port in [allow], to be sure that it is the right one";
            self.problems.push(Problem::new(span.clone(), message, "").help(help));
        }
    }

    fn labels(&mut self, view: View<'_>) -> Option<Labels> {
        let (on, off) = (view.text("on")?, view.text("off")?);
        // GitHub does not tell labels apart by case.
        if on.text.to_lowercase() == off.text.to_lowercase() {
            let span = if view.written("off").is_some() { off.span } else { on.span };
            self.problems.push(
                Problem::new(span, "`labels.on` and `labels.off` are the same label", "")
                    .help("give them different names"),
            );
        }
        Some(Labels { on: on.text.to_owned(), off: off.text.to_owned() })
    }

    fn secrets(&mut self, view: View<'_>) -> BTreeMap<String, Secret> {
        let written = view.named("secrets").iter();
        written.filter_map(|entry| Some((entry.key.clone(), self.secret(&text_of(&entry.value)?)?))).collect()
    }

    fn secret(&mut self, written: &Written<'_>) -> Option<Secret> {
        // What is no reference has been reported by the check, and must not be looked at further.
        secret::Reference::parse(written.text)?;
        match secret::resolve(written.text, self.around) {
            Ok((secret, warning)) => {
                self.warnings.extend(warning);
                Some(secret)
            }
            Err(error) => {
                self.problems.push(Problem::new(written.span.clone(), error.to_string(), "").help(error.help()));
                None
            }
        }
    }
}

fn texts(view: View<'_>, key: &str) -> Vec<String> {
    view.list(key).iter().map(|item| item.text.to_owned()).collect()
}

fn listen(view: View<'_>) -> Option<Listen> {
    Some(Listen { http: view.text("http")?.text.parse().ok()?, gateway: view.text("gateway")?.text.parse().ok()? })
}

fn gateway(view: View<'_>, listen: Option<Listen>, public_url: Option<&str>) -> Option<Gateway> {
    let public_scheme = if public_url?.starts_with("https:") { "https" } else { "http" };
    let scheme = view.text("scheme").map_or(public_scheme, |scheme| scheme.text).to_owned();
    let usual = if scheme == "https" { 443 } else { 80 };
    let port = match view.whole::<u16>("port") {
        Some(port) => port,
        None if scheme == "https" => usual,
        None => listen?.gateway.port(),
    };
    let port = (port != usual).then_some(port);
    let front = match view.text("front")?.text {
        "load_balancer" => Front::LoadBalancer,
        _ => Front::Direct,
    };
    Some(Gateway { domain: view.text("domain")?.text.to_owned(), link: LinkBase { scheme, port }, front })
}

fn local_compute(view: View<'_>) -> Option<LocalCompute> {
    let paths = |key| view.list(key).iter().map(|path| PathBuf::from(path.text)).collect();
    let sandbox = match view.text("sandbox")?.text {
        "require" => SandboxRule::Require,
        "best_effort" => SandboxRule::BestEffort,
        _ => return None,
    };
    let container_engine = view.text("container_engine").map(|socket| socket.text.to_owned());
    Some(LocalCompute { read_only_paths: paths("read_only_paths"), path: paths("path"), sandbox, container_engine })
}

fn rds(view: View<'_>) -> Rds {
    Rds {
        root_certificate: view.text("root_certificate").map(|path| PathBuf::from(path.text)),
        key: view.text("key").map(|key| key.text.to_owned()),
    }
}

fn limits(view: View<'_>) -> Option<Limits> {
    let environments = view.whole("environments")?;
    let per_repository = view.whole("per_repository").unwrap_or(environments);
    Some(Limits { environments, per_repository, builds: view.whole("builds")?, attempts: view.whole("attempts")? })
}

fn sweep(view: View<'_>) -> Option<Sweep> {
    let mode = match view.text("mode")?.text {
        "apply" => SweepMode::Apply,
        "report" => SweepMode::Report,
        "off" => SweepMode::Off,
        _ => return None,
    };
    let removals = RemovalLimits { count: view.whole("count")?, share: view.whole("share")? };
    Some(Sweep { mode, every: view.lasting("every")?, removals })
}

fn engine_of(text: &str) -> Option<Engine> {
    match text {
        "postgres" => Some(Engine::Postgres),
        "sqlite" => Some(Engine::Sqlite),
        _ => None,
    }
}

fn format_of(text: &str) -> Option<SeedFormat> {
    match text {
        "auto" => Some(SeedFormat::Auto),
        "plain" => Some(SeedFormat::Plain),
        "custom" => Some(SeedFormat::Custom),
        "directory" => Some(SeedFormat::Directory),
        "sqlite" => Some(SeedFormat::Sqlite),
        _ => None,
    }
}

/// What this host calls itself, where nothing else was said.
fn local_url(at: SocketAddr) -> String {
    if at.ip().is_unspecified() { format!("http://localhost:{}", at.port()) } else { format!("http://{at}") }
}

/// An address to append paths to.
fn base(url: &str) -> String {
    url.trim_end_matches('/').to_owned()
}
