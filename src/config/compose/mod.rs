//! A compose file, as far as Kagero takes one over: what its services are made of, and the order to start them in.
//!
//! Taken over are `image`, `build` (`context`, `dockerfile`, `target`, `args`), `command`, `entrypoint`, `environment`, `ports`
//! and `expose` (for the port inside), `depends_on` (`service_started` and `service_healthy`, both as healthy), `user`,
//! `read_only`, `restart` (whatever ends is started again). `version`, `name` and keys that begin with `x-` mean nothing in
//! compose itself. Everything else is refused by its name.
//!
//! Guarantees: nothing that is accepted is ignored; what would reach beyond a container is refused as such; services come in
//! an order in which each one stands behind those that it depends on.
//! Must not know: how containers are run.

mod refusals;
mod service;
mod words;

use crate::domain::container::Container;
use crate::domain::id::{CommitSha, ServiceName};

use super::problem::{ConfigErrors, Problem, Problems};
use super::tree::{Entry, Extent, Kind, Language, parse};

/// So many containers are still one preview.
const MOST_SERVICES: usize = 20;

/// Reads a compose file for a commit. `title` is how messages call it.
pub fn parse_compose(
    title: &str,
    text: &str,
    commit: &CommitSha,
) -> Result<Vec<(ServiceName, Container)>, ConfigErrors> {
    let mut problems = Problems::default();
    let (node, extent) = parse(Language::Yaml, text, &mut problems);
    let mut services = Vec::new();
    match &node.kind {
        Kind::Map(entries) => {
            for entry in entries {
                match entry.key.as_str() {
                    "services" => services = read_services(entry, commit, &mut problems),
                    "version" | "name" => {}
                    key if key.starts_with("x-") => {}
                    _ => problems.push(refusals::of_file(entry)),
                }
            }
            if extent == Extent::Whole && services.is_empty() && problems.is_empty() {
                let problem = Problem::new(0..0, "the file has no services", "nothing would run");
                problems.push(problem.help("add a service with `image` or `build` under `services`"));
            }
        }
        Kind::Unreadable => {}
        _ => problems.push(Problem::new(node.span.clone(), "a compose file is a table with `services`", "")),
    }
    let ordered = in_order(services, &mut problems);
    problems.into_errors(title, text)?;
    Ok(ordered)
}

/// A service, and where it stands.
struct Read<'n> {
    name: ServiceName,
    entry: &'n Entry,
    container: Container,
}

fn read_services<'n>(entry: &'n Entry, commit: &CommitSha, problems: &mut Problems) -> Vec<Read<'n>> {
    let Kind::Map(entries) = &entry.value.kind else {
        let problem = Problem::new(entry.key_span.clone(), "`services` has to be a table of services", "");
        problems.push(problem);
        return Vec::new();
    };
    if entries.len() > MOST_SERVICES {
        let message = format!("`services` has {} entries, more than the {MOST_SERVICES} allowed", entries.len());
        problems.push(Problem::new(entry.key_span.clone(), message, ""));
    }
    let mut read = Vec::new();
    for entry in entries {
        let name = ServiceName::parse(entry.key.as_str());
        if name.is_err() {
            let message = format!("`{}` cannot be the name of a service", entry.key);
            let help = "expected 1 to 20 lower-case letters, digits or hyphens, a letter first: it becomes a part of a \
                        preview's address";
            problems.push(Problem::new(entry.key_span.clone(), message, "not accepted").help(help));
        }
        let container = service::Reader { commit, problems }.service(entry);
        if let (Ok(name), Some(container)) = (name, container) {
            read.push(Read { name, entry, container });
        }
    }
    read
}

/// Each one behind those that it depends on, otherwise as in the file.
fn in_order(mut left: Vec<Read<'_>>, problems: &mut Problems) -> Vec<(ServiceName, Container)> {
    let names: Vec<ServiceName> = left.iter().map(|read| read.name.clone()).collect();
    for read in &left {
        if let Some(unknown) = read.container.depends_on.iter().find(|name| !names.contains(name)) {
            let message = format!("`{}` depends on `{unknown}`, which the file does not have", read.name);
            problems.push(Problem::new(read.entry.key_span.clone(), message, "").help("name a service of this file"));
            return Vec::new();
        }
    }
    let mut ordered: Vec<(ServiceName, Container)> = Vec::new();
    while !left.is_empty() {
        let free =
            |read: &Read<'_>| read.container.depends_on.iter().all(|name| ordered.iter().any(|(done, _)| done == name));
        let Some(at) = left.iter().position(free) else {
            let around: Vec<String> = left.iter().map(|read| format!("`{}`", read.name)).collect();
            let message = format!("{} depend on each other in a circle", around.join(", "));
            problems.push(Problem::new(left[0].entry.key_span.clone(), message, "").help("break the circle"));
            return Vec::new();
        };
        let next = left.remove(at);
        ordered.push((next.name, next.container));
    }
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RenderStyle;
    use crate::domain::container::Image;

    fn commit() -> CommitSha {
        CommitSha::parse("ab".repeat(20)).unwrap()
    }

    fn read(text: &str) -> Vec<(ServiceName, Container)> {
        parse_compose("compose.yaml", text, &commit())
            .unwrap_or_else(|errors| panic!("{}", errors.render(RenderStyle::Plain)))
    }

    fn refused(text: &str) -> String {
        match parse_compose("compose.yaml", text, &commit()) {
            Ok(read) => panic!("accepted: {text}: {read:?}"),
            Err(errors) => errors.render(RenderStyle::Plain),
        }
    }

    #[test]
    fn what_a_preview_needs_is_taken_over() {
        let services = read(
            r#"
name: shop
version: "3.9"
x-note: {anything: [goes]}
services:
  web:
    build: {context: ./app, dockerfile: docker/Dockerfile, target: release, args: {MODE: full, LEVEL: 3}}
    command: bin/server -b 0.0.0.0 "two words" $$HOME
    environment: [MODE=staging, "EMPTY=", "URL=http://api:9000/?a=b"]
    ports: ["127.0.0.1:80:3000/tcp", "9999"]
    depends_on: {api: {condition: service_healthy}, cache: {condition: service_started}}
    restart: unless-stopped
  api:
    image: ghcr.io/acme/api:${KAGERO_COMMIT}
    entrypoint: ["/bin/api", "--verbose"]
    environment: {WORKERS: 4, DEBUG: false, NAME: "x"}
    expose: [9000]
    depends_on: [cache]
    user: "1000:1000"
    read_only: true
  cache: {image: "redis:7", expose: ["6379"]}
"#,
        );
        let names: Vec<&str> = services.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["cache", "api", "web"]);
        let [(_, cache), (_, api), (_, web)] = &services[..] else { panic!("{services:?}") };
        assert_eq!(cache.port, Some(6379));
        let Image::Pulled(image) = &api.image else { panic!("{api:?}") };
        assert_eq!(image.to_string(), format!("ghcr.io/acme/api:{}", commit()));
        assert_eq!(api.entrypoint.as_deref().unwrap(), ["/bin/api", "--verbose"]);
        assert_eq!((api.env["WORKERS"].as_str(), api.env["DEBUG"].as_str()), ("4", "false"));
        assert_eq!((api.port, api.user.as_deref(), api.read_only), (Some(9000), Some("1000:1000"), true));
        let Image::Built(build) = &web.image else { panic!("{web:?}") };
        assert_eq!((build.context.as_str(), build.dockerfile.as_str()), ("app", "docker/Dockerfile"));
        assert_eq!((build.target.as_deref(), build.args["LEVEL"].as_str()), (Some("release"), "3"));
        assert_eq!(web.command.as_deref().unwrap(), ["bin/server", "-b", "0.0.0.0", "two words", "$HOME"]);
        assert_eq!((web.env["EMPTY"].as_str(), web.env["URL"].as_str()), ("", "http://api:9000/?a=b"));
        assert_eq!(web.port, Some(3000));
        let mut depends: Vec<&str> = web.depends_on.iter().map(ServiceName::as_str).collect();
        depends.sort_unstable();
        assert_eq!(depends, ["api", "cache"]);
    }

    #[test]
    fn what_would_reach_beyond_a_container_is_refused_by_name() {
        for (key, value) in [
            ("privileged", "true"),
            ("volumes", "['/:/host']"),
            ("volumes_from", "[other]"),
            ("network_mode", "host"),
            ("networks", "[other]"),
            ("devices", "['/dev/kvm']"),
            ("cap_add", "[SYS_ADMIN]"),
            ("pid", "host"),
            ("ipc", "host"),
            ("uts", "host"),
            ("userns_mode", "host"),
            ("cgroup_parent", "/"),
            ("security_opt", "['seccomp:unconfined']"),
            ("extends", "{file: ../other.yml, service: x}"),
            ("env_file", "../../secrets.env"),
            ("sysctls", "{net.ipv4.ip_forward: '1'}"),
            ("extra_hosts", "['metadata:169.254.169.254']"),
            ("secrets", "[key]"),
            ("healthcheck", "{test: [CMD, 'true']}"),
            ("unheard_of", "1"),
        ] {
            let text = refused(&format!("services:\n  web:\n    image: a/b:1\n    {key}: {value}\n"));
            assert!(text.contains(&format!("services.web.{key}")), "{key}: {text}");
            assert!(text.contains("compose.yaml:4:5") && text.contains("help:"), "{key}: {text}");
        }
        for key in ["volumes", "networks", "secrets", "configs", "include"] {
            let text = refused(&format!("services: {{web: {{image: 'a:1'}}}}\n{key}: {{}}\n"));
            assert!(text.contains(&format!("`{key}`")) && text.contains("compose.yaml:2:1"), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_its_place() {
        for (service, words) in [
            ("{}", "neither `image` nor `build`"),
            ("{image: a}", "a tag or a digest"),
            ("{image: 'a:${TAG}'}", "variables are not filled in"),
            ("{image: 'a:1', build: .}", "both"),
            ("{build: ../other}", "within the repository"),
            ("{build: 'https://github.com/x/y.git'}", "within the repository"),
            ("{build: {context: ., network: host}}", "services.web.build.network"),
            ("{build: {context: ., ssh: [default]}}", "services.web.build.ssh"),
            ("{image: 'a:1', command: 'a \"b'}", "quotation mark"),
            ("{image: 'a:1', command: 7}", "a command"),
            ("{image: 'a:1', environment: {A: }}", "no value"),
            ("{image: 'a:1', environment: [A]}", "no value"),
            ("{image: 'a:1', environment: {KAGERO_X: '1'}}", "Kagero's to set"),
            ("{image: 'a:1', ports: ['3000-3005']}", "a single port"),
            ("{image: 'a:1', ports: ['53:53/udp']}", "a single port"),
            ("{image: 'a:1', ports: [70000]}", "a single port"),
            ("{image: 'a:1', depends_on: [web]}", "circle"),
            ("{image: 'a:1', depends_on: [other]}", "does not have"),
            ("{image: 'a:1', depends_on: {web: {condition: service_completed_successfully}}}", "condition"),
            ("{image: 'a:1', restart: 'no'}", "restart"),
            ("{image: 'a:1', user: 'a b'}", "a user"),
            ("{image: 'a:1', read_only: 'yes'}", "true or false"),
            ("[]", "a table"),
        ] {
            let text = refused(&format!("services:\n  web: {service}\n"));
            assert!(text.contains(words) && text.contains("compose.yaml:2:"), "{service}: {text}");
        }
        assert!(refused("services: {Web_1: {image: 'a:1'}}\n").contains("cannot be the name of a service"));
        assert!(refused("services: {}\n").contains("no services"));
        assert!(refused("[]\n").contains("a table with `services`"));
        assert!(refused("services: {a: {image: 'a:1'}\n").contains("not valid YAML"));
        let many: Vec<String> = (0..21).map(|at| format!("  s{at}: {{image: 'a:1'}}\n")).collect();
        assert!(refused(&format!("services:\n{}", many.concat())).contains("more than the 20 allowed"));
    }

    #[test]
    fn no_text_makes_the_reader_panic() {
        let text = "services:\n  web:\n    build: {context: a, args: {A: 1}}\n    ports: [\"1:2\"]\n";
        for at in 0..text.len() {
            for with in ["", "{", ":", "\u{0}", "é", "&a ", "*a", "\"", "- ", "$"] {
                let mutated = format!("{}{with}{}", &text[..at], &text[at + 1..]);
                let _ = parse_compose("compose.yaml", &mutated, &commit());
            }
        }
    }
}
