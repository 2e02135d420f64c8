//! Where a container engine listens.
//!
//! Guarantees: what somebody has named is taken or refused, never passed over for another.
//! Must not know: what is asked there.

use std::path::{Path, PathBuf};

use super::engine::EngineError;

/// What names an engine to everybody else's tools.
const VARIABLE: &str = "DOCKER_HOST";
/// Where Docker and Podman listen on a machine that nobody has changed.
const USUAL: [&str; 3] = ["/run/docker.sock", "/var/run/docker.sock", "/run/podman/podman.sock"];
/// The same below a user's own run-time directory.
const OF_USER: [&str; 2] = ["docker.sock", "podman/podman.sock"];

/// Finds the socket: what the operator names, else `DOCKER_HOST`, else the first of the usual places that is there.
pub(super) fn find(named: Option<&str>) -> Result<PathBuf, EngineError> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    choose(named, variable(VARIABLE).as_deref(), variable("XDG_RUNTIME_DIR").as_deref(), Path::exists)
}

fn choose(
    named: Option<&str>,
    docker_host: Option<&str>,
    runtime_dir: Option<&str>,
    exists: impl Fn(&Path) -> bool,
) -> Result<PathBuf, EngineError> {
    for (source, address) in [("compute.container_engine", named), (VARIABLE, docker_host)] {
        let Some(address) = address else { continue };
        return match address.strip_prefix("unix://") {
            Some(path) if path.starts_with('/') => Ok(PathBuf::from(path)),
            _ => Err(EngineError::NoSocket { source_of: source, address: address.to_owned() }),
        };
    }
    let of_user = runtime_dir.map(Path::new).into_iter().flat_map(|dir| OF_USER.map(|name| dir.join(name)));
    let places: Vec<PathBuf> = USUAL.iter().map(PathBuf::from).chain(of_user).collect();
    let found = places.iter().find(|place| exists(place)).cloned();
    found.ok_or_else(|| EngineError::None {
        tried: places.iter().map(|place| place.display().to_string()).collect::<Vec<_>>().join(", "),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_engine_is_never_passed_over() {
        let everywhere = |_: &Path| true;
        let nowhere = |_: &Path| false;
        let path = |found: Result<PathBuf, EngineError>| found.unwrap().display().to_string();
        assert_eq!(path(choose(Some("unix:///a"), Some("unix:///b"), None, everywhere)), "/a");
        assert_eq!(path(choose(None, Some("unix:///b"), None, nowhere)), "/b");
        assert_eq!(path(choose(None, None, None, everywhere)), "/run/docker.sock");
        let podman = |path: &Path| path.ends_with("podman.sock");
        assert_eq!(path(choose(None, None, Some("/run/user/7"), podman)), "/run/podman/podman.sock");
        let of_user = |path: &Path| path.starts_with("/run/user/7/podman");
        assert_eq!(path(choose(None, None, Some("/run/user/7"), of_user)), "/run/user/7/podman/podman.sock");

        let error = choose(None, Some("tcp://10.0.0.1:2375"), None, everywhere).unwrap_err().to_string();
        assert!(error.contains("DOCKER_HOST") && error.contains("unix:///"), "{error}");
        let error = choose(None, None, None, nowhere).unwrap_err().to_string();
        assert!(error.contains("/run/podman/podman.sock") && error.contains("systemctl"), "{error}");
    }
}
