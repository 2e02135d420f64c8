//! `kagero.toml`, valid: defaults, secrets, policy.

use std::path::Path;
use std::time::Duration;

use kagero::config::Server;
use kagero::config::server::{Compute, PostgresServer, RdsSource, SandboxRule, SeedFormat, SeedSource, Store};
use kagero::config::{RenderStyle, explain, load_server};
use kagero::domain::policy::Lane;
use kagero::domain::policy::{Engine, RepoSetting};
use secrecy::ExposeSecret as _;

use super::{folder, read_server};

const SMALLEST: &str = r#"
repositories = ["acme/*"]

[github]
app_id = 7
private_key = "file:key.pem"
webhook_secrets = ["env:HOOK"]

[seeds.golden]
engine = "postgres"
path = "golden.dump"
"#;

#[test]
fn a_file_of_ten_lines_is_enough() {
    let server = read_server(SMALLEST).unwrap();
    assert_eq!(server.install.as_str(), "kagero");
    assert_eq!(server.public_url, "http://127.0.0.1:8080");
    assert_eq!((server.gateway.link.scheme.as_str(), server.gateway.link.port), ("http", Some(8081)));
    assert_eq!(server.github.web_url, "https://github.com");
    assert_eq!(server.github.clone_base, "https://github.com");
    let Store::Sqlite { path } = &server.store else { panic!("{:?}", server.store) };
    assert!(path.is_absolute() && path.ends_with("state/kagero.db"), "{path:?}");
    let Compute::Local(local) = &server.compute else { panic!("{:?}", server.compute) };
    assert_eq!(local.sandbox, SandboxRule::Require);
    let postgres = server.postgres.as_ref().unwrap();
    assert!(matches!(postgres.server, PostgresServer::Private { user: None }));
    let seed = server.seeds.values().next().unwrap();
    let SeedSource::File(file) = &seed.source else { panic!("{seed:?}") };
    assert_eq!((seed.engine, file.format), (Engine::Postgres, SeedFormat::Auto));
    assert!(file.path.is_absolute());
    assert!(server.warnings.is_empty());

    let policy = server.policy();
    assert_eq!(policy.limits.environments, policy.limits.per_repository);
    assert_eq!(policy.repositories, ["acme/*"]);
    assert_eq!(policy.allow.accounts, [server.state_dir.to_str().unwrap()]);
    assert_eq!(policy.allow.networks, ["host"]);
    assert_eq!(policy.pace.comment, Duration::from_secs(30));
}

#[test]
fn links_follow_scheme_and_port() {
    let link = |more: &str| read_server(&format!("{more}\n{SMALLEST}")).unwrap().gateway.link;
    let https = link("public_url = \"https://kagero.example.com/\"");
    assert_eq!((https.scheme.as_str(), https.port), ("https", None));
    let odd = link("public_url = \"https://k.example.com\"\ngateway = {port = 8443}");
    assert_eq!(odd.port, Some(8443));
    let plain = link("gateway = {scheme = \"http\", port = 80}");
    assert_eq!((plain.scheme.as_str(), plain.port), ("http", None));
    let open = read_server(&format!("listen = {{http = \"0.0.0.0:9000\"}}\n{SMALLEST}")).unwrap();
    assert_eq!(open.public_url, "http://localhost:9000");
}

#[test]
fn another_github_brings_its_own_web_address() {
    let text = SMALLEST.replace("app_id = 7", "app_id = 7\napi_url = \"https://ghe.example.com/api/v3/\"");
    let github = read_server(&text).unwrap().github;
    assert_eq!(github.api_url, "https://ghe.example.com/api/v3");
    assert_eq!(github.clone_base, "https://ghe.example.com");
}

#[test]
fn secrets_are_read_and_never_shown() {
    let server = read_server(SMALLEST).unwrap();
    assert_eq!(server.github.webhook_secrets[0].value.expose_secret(), "hunter2-hook");
    assert!(!format!("{server:?}").contains("hunter2"));
    let rows = explain::server(&server);
    let row = rows.iter().find(|row| row.key == "github.webhook_secrets").unwrap();
    assert_eq!(row.value, "env:HOOK");
}

#[test]
fn a_secret_file_that_others_can_read_is_warned_about() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = folder();
    let file = folder.path().join("kagero.toml");
    std::fs::write(&file, SMALLEST.replace("env:HOOK", "file:hook")).unwrap();
    std::fs::write(folder.path().join("hook"), "hunter2\n").unwrap();
    let with_mode = |mode| {
        std::fs::set_permissions(folder.path().join("hook"), std::fs::Permissions::from_mode(mode)).unwrap();
        load_server(&file).unwrap()
    };
    let strict = with_mode(0o640);
    assert_eq!(strict.github.webhook_secrets[0].value.expose_secret(), "hunter2");
    assert_eq!(strict.warnings, Vec::<String>::new());
    let loose = with_mode(0o644);
    assert_eq!(loose.warnings.len(), 1);
    assert!(loose.warnings[0].contains("mode 644") && !loose.warnings[0].contains("hunter2"));
}

#[test]
fn a_server_of_ones_own_has_to_be_named_twice() {
    let with = |allow: &str| read_server(&format!("{SMALLEST}\n[database.postgres]\nurl = \"env:PG\"\n{allow}"));
    let errors = with("").unwrap_err();
    assert!(errors.render(RenderStyle::Plain).contains("not in `allow.database_servers`"));
    assert!(with("[allow]\ndatabase_servers = [\"db.production:5432\"]").is_err());
    let server = with("[allow]\ndatabase_servers = [\"db.staging:5432\"]").unwrap();
    assert_eq!(server.policy().allow.networks, ["host", "db.staging:5432"]);
    assert!(matches!(server.postgres.unwrap().server, PostgresServer::External { .. }));
}

#[test]
fn an_address_names_its_server_before_the_query_and_nowhere_else() {
    let with = |secret: &str| {
        let allow = "[allow]\ndatabase_servers = [\"db.staging:5432\"]";
        read_server(&format!("{SMALLEST}\n[database.postgres]\nurl = \"env:{secret}\"\n{allow}"))
    };
    assert!(with("PG_TLS").is_ok());
    let words = with("PG_ELSEWHERE").unwrap_err().render(RenderStyle::Plain);
    assert!(words.contains("its query names `host`") && words.contains("env:PG_ELSEWHERE"), "{words}");
    assert!(!words.contains("hunter2") && !words.contains("db.production"), "{words}");
}

#[test]
fn what_only_an_administrator_may_allow_can_be_named() {
    let file = format!(
        "{SMALLEST}extensions = [\"hstore\"]\n[database.postgres]\nurl = \"env:PG\"\nopen_databases = [\"wiki\"]\n\
         [allow]\ndatabase_servers = [\"db.staging:5432\"]"
    );
    let server = read_server(&file).unwrap();
    assert_eq!(server.postgres.unwrap().open_databases, ["wiki"]);
    let SeedSource::File(read) = &server.seeds.values().next().unwrap().source else { panic!("{:?}", server.seeds) };
    assert_eq!(read.extensions, ["hstore"]);
    let sqlite = file.replace("engine = \"postgres\"", "engine = \"sqlite\"");
    let words = read_server(&sqlite).unwrap_err().render(RenderStyle::Plain);
    assert!(words.contains("`seeds.golden.extensions` does not go with its engine"), "{words}");
}

#[test]
fn repositories_can_only_ask_for_what_is_set_up() {
    let server = read_server(SMALLEST).unwrap();
    let wanted = |text: &str| match kagero::config::combine(Some(text), Some(text), "main", "x") {
        RepoSetting::Valid(config) => server.cannot_serve(&config),
        other => panic!("{other:?}"),
    };
    let services = "services: {web: {run: x, public: true}}\n";
    assert_eq!(wanted(&format!("{services}database: {{engine: postgres}}")), Vec::<String>::new());
    let lacking = wanted(&format!("{services}database: {{engine: postgres, seed: huge}}\nsecrets: [STRIPE]"));
    assert_eq!(lacking.len(), 2, "{lacking:?}");
    assert!(wanted(&format!("{services}database: {{engine: sqlite}}"))[0].contains("is for postgres"));
}

#[test]
fn every_key_is_explained_with_its_origin() {
    let server = read_server(SMALLEST).unwrap();
    let lines: Vec<String> =
        explain::server(&server).iter().map(|row| format!("{} = {} [{}]", row.key, row.value, row.source)).collect();
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn relative_paths_begin_at_the_folder_of_the_file() {
    let folder = folder();
    let file = folder.path().join("kagero.toml");
    let text = SMALLEST.replace("\"env:HOOK\"", "\"file:key.pem\"");
    std::fs::write(&file, format!("state_dir = \"here\"\nstore = {{url = \"sqlite:///var/k.db\"}}\n{text}")).unwrap();
    let server = load_server(&file).unwrap();
    assert_eq!(server.state_dir, folder.path().join("here"));
    let Store::Sqlite { path } = &server.store else { panic!("{:?}", server.store) };
    assert_eq!(path, Path::new("/var/k.db"));
}

#[test]
fn a_store_on_postgresql_has_its_password_in_a_secret() {
    let with = |url: &str| read_server(&format!("{SMALLEST}\n[store]\nurl = \"{url}\"\n"));
    for (written, expected) in [
        (
            "postgres://kagero@db.staging/kagero?sslmode=verify-full",
            "postgres://kagero@db.staging/kagero?sslmode=verify-full",
        ),
        ("env:PG", "postgres://root:hunter2@db.staging/postgres"),
    ] {
        let server = with(written).unwrap();
        let Store::Postgres { url } = &server.store else { panic!("{:?}", server.store) };
        assert_eq!(url.expose_secret(), expected);
        assert!(!format!("{:?}", server.store).contains("hunter2"));
    }
    for (written, expected) in [
        ("postgres://kagero:hunter2@db/kagero", "a password is written"),
        ("postgres://kagero@db/kagero?host=elsewhere", "host"),
        ("env:HOOK", "not the address"),
    ] {
        let errors = format!("{:?}", with(written).unwrap_err());
        assert!(errors.contains(expected) && !errors.contains("hunter2"), "{written}: {errors}");
    }
}

/// The findings, as one text.
fn refused(text: &str) -> String {
    read_server(text).unwrap_err().render(RenderStyle::Plain)
}

#[test]
fn instances_are_launched_where_the_operator_has_said_and_nowhere_else() {
    let ec2 = "account = \"111111111111\"\nregion = \"eu-central-1\"\nvpc = \"vpc-0a1b\"\nami = \"ami-0a1b\"\n\
               instance_types = [\"t4g.small\", \"t4g.medium\"]\n";
    let text = format!("{SMALLEST}\n[compute]\nkind = \"ec2\"\n[compute.ec2]\n{ec2}");
    let server = read_server(&text).unwrap();
    let Compute::Ec2(compute) = &server.compute else { panic!("{:?}", server.compute) };
    assert_eq!((compute.volume, compute.agent.as_ref()), (20, None));
    assert_eq!(compute.production_words, ["prod", "production", "live"]);
    let allow = server.policy().allow;
    assert!(allow.accounts.contains(&"111111111111".to_owned()) && allow.networks.contains(&"vpc-0a1b".to_owned()));
    assert!(allow.regions.contains(&"eu-central-1".to_owned()));

    let without = refused(&format!("{SMALLEST}\n[compute]\nkind = \"ec2\"\n"));
    assert!(without.contains("there is no [compute.ec2]") && without.contains("vpc"), "{without}");
    for line in [
        "sandbox = \"best_effort\"",
        "path = [\"/opt/ruby/bin\"]",
        "read_only_paths = [\"/srv\"]",
        "container_engine = \"unix:///run/podman.sock\"",
    ] {
        let misplaced = refused(&format!("{SMALLEST}\n[compute]\nkind = \"ec2\"\n{line}\n[compute.ec2]\n{ec2}"));
        let key = line.split(' ').next().unwrap();
        let wanted = format!("`compute.{key}` has no meaning with `kind = \"ec2\"`");
        assert!(misplaced.contains(&wanted) && misplaced.contains("remove it"), "{misplaced}");
    }
    let unused = refused(&format!("{SMALLEST}\n[compute.ec2]\n{ec2}"));
    assert!(unused.contains("has no meaning without `kind = \"ec2\"`"), "{unused}");
    for (pace, allowed) in [("busy = \"1s\"", true), ("busy = \"900ms\"", false), ("grace = \"59s\"", false)] {
        let told = read_server(&format!("{text}[pace]\n{pace}\n")).map_err(|told| told.render(RenderStyle::Plain));
        assert!(
            told.as_ref().is_ok() == allowed && told.err().is_none_or(|told| told.contains("too short for machines")),
            "{pace}"
        );
    }
    for (half, other) in [
        ("agent_url = \"https://x.test/kagero\"", "agent_sha256"),
        (&*format!("agent_sha256 = \"{}\"", "ab".repeat(32)), "agent_url"),
    ] {
        let half = refused(&format!("{text}{half}\n"));
        assert!(half.contains(&format!("without `{other}`")), "{half}");
    }
}

#[test]
fn a_seed_is_a_file_or_on_rds() {
    let ec2 = "[compute]\nkind = \"ec2\"\n[compute.ec2]\naccount = \"111111111111\"\nregion = \"eu-central-1\"\n\
               vpc = \"vpc-0a1b\"\nami = \"ami-0a1b\"\ninstance_types = [\"t4g.small\"]\n";
    let golden = "[seeds.big]\nengine = \"postgres\"\nsnapshot = \"kagero-golden-shop-\"\n";
    let server = read_server(&format!("{SMALLEST}{ec2}{golden}database = \"shop\"\n")).unwrap();
    let big = |server: &Server| match &server.seeds["big".to_owned().try_into().as_ref().unwrap()].source {
        SeedSource::Rds(big) => big.clone(),
        other @ SeedSource::File(_) => panic!("{other:?}"),
    };
    let instance = golden.replace("snapshot = \"kagero-golden-shop-\"", "instance = \"kagero-golden-shop\"");
    let restored = big(&read_server(&format!("{SMALLEST}{ec2}{instance}database = \"shop\"\n")).unwrap());
    assert_eq!(restored.source, RdsSource::Instance("kagero-golden-shop".to_owned()));
    let cluster = golden.replace("snapshot = \"kagero-golden-shop-\"", "cluster = \"kagero-golden-shop\"");
    let cloned = big(&read_server(&format!("{SMALLEST}{ec2}{cluster}database = \"shop\"\n")).unwrap());
    assert_eq!(cloned.source, RdsSource::Cluster("kagero-golden-shop".to_owned()));
    assert_eq!((cloned.lane(), cloned.class.as_str()), (Lane::Aurora, "db.serverless"));
    let big = big(&server);
    assert_eq!(big.source, RdsSource::Snapshots("kagero-golden-shop-".to_owned()));
    assert_eq!((big.database.as_str(), big.lane(), restored.lane()), ("shop", Lane::Rds, Lane::RdsPitr));
    assert_eq!((big.class.as_str(), big.max_age), ("db.t4g.micro", Duration::from_hours(14 * 24)));

    for (text, finding) in [
        (format!("{golden}database = \"shop\"\n"), "needs machines on EC2"),
        (format!("{ec2}{golden}"), "without `database`"),
        (format!("{ec2}{golden}database = \"shop\"\npath = \"x\"\n"), "both `path` and `snapshot`"),
        (
            format!("{ec2}{golden}database = \"shop\"\ninstance = \"kagero-golden-shop\"\n"),
            "both `snapshot` and `instance`",
        ),
        (format!("{ec2}{cluster}"), "cluster` is there without `database`"),
        (
            format!("{ec2}{}", instance.replace("kagero-golden-shop", "production")),
            "the name of a golden instance or cluster",
        ),
        (format!("{ec2}{golden}database = \"shop\"\nformat = \"plain\"\n"), "`seeds.big.format` has no meaning here"),
        (
            format!("{ec2}{golden}database = \"shop\"\n").replace("engine = \"postgres\"", "engine = \"sqlite\""),
            "no sqlite",
        ),
        ("class = \"db.t4g.micro\"\n".to_owned(), "`seeds.golden.class` has no meaning here"),
        ("[seeds.none]\nengine = \"postgres\"\n".to_owned(), "`seeds.none` has no data"),
    ] {
        let told = refused(&format!("{SMALLEST}{text}"));
        assert!(told.contains(finding), "{finding}: {told}");
    }
}
