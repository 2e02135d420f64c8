//! The stacks of `templates/stacks`, each as it is, in a repository and on a machine where only the tool chain is a
//! stand-in: it does with the stand-in application what the real one does with a real one.
//!
//! Guarantees: a program that a stack calls in another way than its stand-in expects fails.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use kagero::config::repo::parse_repo;

use super::rig::{PATIENCE, Rig, Setup};
use crate::podman::Podman;
use crate::postgres;
use crate::wait::eventually;

const APP: &str = include_str!("stacks/app.py");
const REDIS: &str = include_str!("stacks/redis-server");

/// Of the repository: what Rails' own program does.
const RAILS: &str = r#"#!/bin/sh
case "$*" in
    assets:precompile) mkdir public ;;
    db:migrate) exec python3 app.py migrate ;;
    "server -b 127.0.0.1 -p $PORT") test -d public && exec python3 app.py web /up ;;
    *) exit 64 ;;
esac
"#;

const BUNDLE: &str = r#"#!/bin/sh
case "$*" in
    "config set --local path $KAGERO_SHARED/bundle") ;;
    install) mkdir -p "$KAGERO_SHARED/bundle" ;;
    "exec sidekiq") test -d "$KAGERO_SHARED/bundle" && exec python3 app.py worker ;;
    *) exit 64 ;;
esac
"#;

const GO: &str = r#"#!/bin/sh
test "$*" = "build -o bin/ ./cmd/..." || exit 64
mkdir bin
for command in cmd/*; do install "$command/main.go" "bin/${command#cmd/}"; done
"#;

/// Of the repository.
const GRADLEW: &str = r#"#!/bin/sh
case "$*" in
    "--no-daemon bootJar") mkdir -p build/libs && cp app.py build/libs/app.jar ;;
    "--no-daemon flywayMigrate")
        export DATABASE_URL="${FLYWAY_URL#jdbc:}" PGUSER="$FLYWAY_USER" PGPASSWORD="$FLYWAY_PASSWORD"
        exec python3 app.py migrate ;;
    *) exit 64 ;;
esac
"#;

const JAVA: &str = r#"#!/bin/sh
test "$SPRING_FLYWAY_ENABLED" = false || exit 64
export DATABASE_URL="${SPRING_DATASOURCE_URL#jdbc:}" PGUSER="$SPRING_DATASOURCE_USERNAME"
export PGPASSWORD="$SPRING_DATASOURCE_PASSWORD"
case "$*" in
    "-jar build/libs/app.jar --server.address=127.0.0.1 --server.port=$PORT")
        exec python3 build/libs/app.jar web /actuator/health ;;
    "-jar build/libs/app.jar --spring.profiles.active=worker --spring.main.web-application-type=none")
        exec python3 build/libs/app.jar worker ;;
    *) exit 64 ;;
esac
"#;

const NPM: &str = r#"#!/bin/sh
case "$*" in
    ci) test -f package-lock.json && mkdir node_modules ;;
    "run build")
        test -d node_modules && mkdir dist && echo '<h1>The site</h1>' > dist/index.html &&
            echo "{\"commit\": \"$KAGERO_COMMIT\"}" > dist/version ;;
    *) exit 64 ;;
esac
"#;

/// Of the repository: an image that needs no more than a shell and a web server.
const DOCKERFILE: &str = "FROM localhost/base:1\nWORKDIR /app\nCOPY bin bin\nCMD [\"bin/web\"]\n";

const WEB: &str = r#"#!/bin/sh
test "$LOG_LEVEL" = debug || exit 64
echo "{\"commit\": \"$KAGERO_COMMIT\"}" > /www/version
echo well > /www/healthz
exec httpd -f -p "$PORT" -h /www
"#;

/// A database that cannot be reached makes a preview fail.
const MIGRATE: &str = r#"#!/bin/sh
directory=$(echo "${DATABASE_URL##*host=}" | awk '{gsub(/%2F/, "/"); print}')
for socket in "$directory"/.s.PGSQL.*; do test -S "$socket" && exit 0; done
exit 64
"#;

/// What is tested below.
const TESTED: [&str; 5] = ["container.yml", "go.yml", "jvm.yml", "rails.yml", "static.yml"];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("templates/stacks")
}

fn template(name: &str) -> String {
    std::fs::read_to_string(folder().join(name)).unwrap()
}

/// A Kagero that previews a repository with this stack, on a machine with these programs.
async fn start(stack: &str, setup: Setup, files: &[(&str, &str)], programs: &[(&str, &str)]) -> Rig {
    let mut rig = Rig::prepare(setup.with_repository(&template(stack), files)).await;
    let tools = rig.dir().join("tools");
    std::fs::create_dir(&tools).unwrap();
    let psql = format!("#!/bin/sh\nexec '{}' \"$@\"\n", postgres::program("psql").display());
    for (name, text) in programs.iter().chain(&[("psql", psql.as_str())]) {
        let path = tools.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let require = "sandbox = \"require\"";
    rig.reconfigure(require, &format!("{require}\npath = [{:?}]", tools.display()));
    rig.launch().await;
    rig
}

/// Opens a pull request and waits until every service runs, and every public one answers at its own address.
async fn preview(rig: &mut Rig, stack: &str) -> u64 {
    let number = rig.open("Works as it is", vec![]).await;
    rig.until_ready(number).await;
    let services = parse_repo(stack, &template(stack)).unwrap().config.services;
    assert!(services.iter().any(|service| service.public));
    let head = rig.head(number).await;
    for service in services {
        let name = service.name.as_str();
        let said = rig.until_says(number, &format!("| {name} | ✅ ready |")).await;
        if service.public {
            let label = format!("pr-{number}-shop-{name}");
            assert!(
                said.contains(&format!("://{label}.")) || said.contains(&format!("://pr-{number}-shop.")),
                "{said}"
            );
            let answer = rig.visit_host(&label, "/version").await.unwrap();
            assert_eq!(answer.status(), 200, "{label}");
            assert!(answer.text().await.unwrap().contains(&head), "{label}");
        }
    }
    number
}

/// Waits until this is all that workers have done.
async fn until_done(rig: &Rig, number: u64, wanted: &[&str]) {
    eventually(format!("{wanted:?} is done"), PATIENCE, async || {
        let answer = rig.visit(number, "/done").await.map_err(|error| error.to_string())?;
        let done: Vec<String> = answer.json().await.map_err(|error| error.to_string())?;
        if done == wanted { Ok(()) } else { Err(format!("{done:?}")) }
    })
    .await;
}

#[test]
fn every_stack_is_tested() {
    let names = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(names.collect::<BTreeSet<_>>(), TESTED.map(str::to_owned).into());
}

#[tokio::test]
async fn rails_hands_its_jobs_to_sidekiq_through_a_redis_of_its_own() {
    let files = [("app.py", APP), ("bin/rails", RAILS)];
    let mut rig = start("rails.yml", Setup::postgres(), &files, &[("bundle", BUNDLE), ("redis-server", REDIS)]).await;
    let number = preview(&mut rig, "rails.yml").await;
    until_done(&rig, number, &[]).await;
    assert_eq!(rig.visit(number, "/enqueue").await.unwrap().status(), 200);
    let first = rig.head(number).await;
    until_done(&rig, number, &[&first]).await;
    // The next version runs beside this one for a while, with the data of this one.
    let second = rig.push(number, "Another version", vec![]).await;
    rig.until_ready(number).await;
    assert_eq!(rig.visit(number, "/enqueue").await.unwrap().status(), 200);
    let mut both = [first.as_str(), second.as_str()];
    both.sort_unstable();
    until_done(&rig, number, &both).await;
    rig.finish().await;
}

#[tokio::test]
async fn go_answers_on_a_migrated_database() {
    let api = "#!/bin/sh\nexec python3 app.py web /healthz\n";
    let migrate = "#!/bin/sh\ntest \"$*\" = up && exec python3 app.py migrate\n";
    let files = [("app.py", APP), ("cmd/api/main.go", api), ("cmd/migrate/main.go", migrate)];
    let mut rig = start("go.yml", Setup::postgres(), &files, &[("go", GO)]).await;
    let number = preview(&mut rig, "go.yml").await;
    until_done(&rig, number, &[]).await;
    rig.finish().await;
}

#[tokio::test]
async fn the_jvm_has_its_datasource_from_the_databases_address() {
    let files = [("app.py", APP), ("gradlew", GRADLEW)];
    let mut rig = start("jvm.yml", Setup::postgres(), &files, &[("java", JAVA)]).await;
    let number = preview(&mut rig, "jvm.yml").await;
    until_done(&rig, number, &["worker"]).await;
    rig.finish().await;
}

#[tokio::test]
async fn a_static_site_is_served_from_where_it_was_built() {
    let mut rig = start("static.yml", Setup::sqlite(), &[("package-lock.json", "{}\n")], &[("npm", NPM)]).await;
    let number = preview(&mut rig, "static.yml").await;
    let page = rig.visit(number, "/").await.unwrap();
    assert_eq!((page.status().as_u16(), page.text().await.unwrap().as_str()), (200, "<h1>The site</h1>\n"));
    assert_eq!(rig.databases().await, Vec::<String>::new());
    rig.finish().await;
}

#[tokio::test]
async fn containers_are_built_from_the_dockerfile_of_each_commit() {
    let podman = Podman::start().await;
    let worker = "#!/bin/sh\nexec sleep 3600\n";
    let files = [("Dockerfile", DOCKERFILE), ("bin/web", WEB), ("bin/migrate", MIGRATE), ("bin/worker", worker)];
    let setup = Setup::postgres().with_repository(&template("container.yml"), &files);
    let mut rig = Rig::prepare(setup).await;
    let require = "sandbox = \"require\"";
    rig.reconfigure(require, &format!("{require}\ncontainer_engine = {:?}", podman.engine()));
    rig.launch().await;
    let number = preview(&mut rig, "container.yml").await;
    let second = rig.push(number, "Another version", vec![]).await;
    rig.until_ready(number).await;
    let answer = rig.visit(number, "/version").await.unwrap().text().await.unwrap();
    assert!(answer.contains(&second), "{answer}");
    eventually("the old version's network goes", PATIENCE, async || {
        let left = podman.networks();
        if left.len() == 1 { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
    rig.finish().await;
    assert_eq!(podman.containers(), Vec::<String>::new());
    assert_eq!((podman.networks(), podman.images()), (Vec::new(), vec!["localhost/base:1".to_owned()]));
}
