//! What a compose file may not say, and what to do instead.

use crate::config::problem::Problem;
use crate::config::tree::Entry;

/// Keys by which a container could reach the machine or other previews.
const BEYOND: [&str; 24] = [
    "blkio_config",
    "cap_add",
    "cgroup",
    "cgroup_parent",
    "device_cgroup_rules",
    "devices",
    "dns",
    "extends",
    "extra_hosts",
    "gpus",
    "group_add",
    "ipc",
    "network_mode",
    "networks",
    "oom_kill_disable",
    "pid",
    "privileged",
    "runtime",
    "security_opt",
    "sysctls",
    "userns_mode",
    "uts",
    "volumes",
    "volumes_from",
];

/// A key of the file that is not taken over.
pub(super) fn of_file(entry: &Entry) -> Problem {
    let key = &entry.key;
    let help = match key.as_str() {
        "volumes" => {
            "containers of a preview have no volumes: data belongs into the database of .kagero.yml, files into the image"
        }
        "networks" => "every version of a preview has one network of its own: remove it",
        "secrets" | "configs" => "name secrets in `secrets` of .kagero.yml; they come as environment variables",
        "include" => "write the services into this file",
        _ => "taken over are: services",
    };
    Problem::new(entry.key_span.clone(), format!("`{key}` of a compose file is not supported"), "not supported")
        .help(help)
}

/// A key of a service that is not taken over.
pub(super) fn of_service(service: &str, entry: &Entry) -> Problem {
    let key = entry.key.as_str();
    let whole = format!("services.{service}.{key}");
    let problem = if BEYOND.contains(&key) {
        let message = format!("`{whole}` would reach beyond the container, and is refused");
        Problem::new(entry.key_span.clone(), message, "breaks isolation")
    } else {
        Problem::new(entry.key_span.clone(), format!("`{whole}` is not supported"), "not supported")
    };
    problem.help(match key {
        "volumes" | "volumes_from" => {
            "remove it: data belongs into the database of .kagero.yml, files into the image; a compose file of its own for \
             previews keeps the other one as it is"
        }
        "network_mode" | "networks" => {
            "remove it: services of a preview have one network of their own, and find each other by their names"
        }
        "healthcheck" => "remove it, and set `health` of the service in .kagero.yml",
        "env_file" => "remove it, and put the variables into `environment`, or into `env` or `secrets` of .kagero.yml",
        "secrets" | "configs" => "remove it, and name secrets in `secrets` of .kagero.yml",
        "extends" => "remove it, and write the service out",
        "container_name" | "hostname" => "remove it: services find each other by their names in this file",
        "deploy" | "scale" => "remove it: every service runs once",
        _ => {
            "remove it; taken over are: image, build, command, entrypoint, environment, ports, expose, depends_on, user, \
             read_only, restart"
        }
    })
}
