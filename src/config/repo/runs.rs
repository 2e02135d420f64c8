//! What a service is: a process, a container of its own, or one of a compose file.
//!
//! Guarantees: of two answers to the same question both are refused; a key that would have no effect is an error.
//! Must not know: how processes and containers are run.

use crate::config::problem::{Problem, Problems};
use crate::config::tree::{Entry, Kind};
use crate::config::view::View;
use crate::domain::container::{CheckoutPath, Container, Image, ImageBuild, ImageReference};
use crate::domain::id::ServiceName;
use crate::domain::policy::{ComposeService, Runs, Service};

use super::keys;

/// What a service is made of: one of them, unless there is a compose file.
const MEANS: [&str; 3] = ["run", "image", "dockerfile"];
/// What only containers have.
const OF_CONTAINERS: [&str; 4] = ["command", "port", "user", "read_only"];
/// What only images have that are built.
const OF_BUILDS: [&str; 2] = ["context", "target"];

/// The compose file, if there is one. The outer `Option` is `None` where what was written is refused.
#[expect(clippy::option_option, reason = "absent and refused are different answers")]
pub(super) fn compose_file(view: View<'_>) -> Option<Option<CheckoutPath>> {
    match view.written("compose") {
        None => Some(None),
        Some(_) => Some(Some(CheckoutPath::parse(view.text("compose")?.text).ok()?)),
    }
}

/// A service as it is written; `None` where that is refused.
pub(super) fn service(name: &str, view: View<'_>, compose: Option<&CheckoutPath>) -> Option<Service> {
    let public = view.flag("public")?;
    Some(Service {
        name: ServiceName::parse(name).ok()?,
        runs: runs(view, compose)?,
        health: view.text("health").map(|path| path.text.to_owned()),
        start_timeout: view.lasting("start_timeout")?,
        public,
        overlap: view.flag("overlap").unwrap_or(public),
    })
}

fn runs(view: View<'_>, compose: Option<&CheckoutPath>) -> Option<Runs> {
    let port = match view.written("port") {
        Some(_) => Some(view.whole::<u16>("port")?),
        None => None,
    };
    if let Some(file) = compose {
        return Some(Runs::Compose(ComposeService { file: file.clone(), port }));
    }
    let path = |key| match view.written(key) {
        Some(_) => CheckoutPath::parse(view.text(key)?.text).ok(),
        None => Some(CheckoutPath::root()),
    };
    let image = match MEANS.map(|key| view.text(key)) {
        [Some(run), ..] => return Some(Runs::Process(run.text.to_owned())),
        [None, Some(image), _] => Image::Pulled(ImageReference::parse(image.text).ok()?),
        [None, None, Some(_)] => Image::Built(ImageBuild {
            context: path("context")?,
            dockerfile: path("dockerfile")?,
            target: view.text("target").map(|target| target.text.to_owned()),
            args: std::collections::BTreeMap::new(),
        }),
        [None, None, None] => return None,
    };
    let command: Vec<String> = view.list("command").iter().map(|word| word.text.to_owned()).collect();
    Some(Runs::Container(Box::new(Container {
        command: (!command.is_empty()).then_some(command),
        port,
        user: view.text("user").map(|user| user.text.to_owned()),
        read_only: view.flag("read_only").unwrap_or(false),
        ..Container::of(image)
    })))
}

pub(super) fn forbid_contradictions(view: View<'_>, problems: &mut Problems) {
    let has_compose = view.written("compose").is_some();
    for entry in view.named("services") {
        if matches!(entry.value.kind, Kind::Map(_)) {
            of_service(entry, has_compose, problems);
        }
    }
}

fn of_service(entry: &Entry, has_compose: bool, problems: &mut Problems) {
    let view = View::new(&entry.value, &keys::SERVICE);
    let name = &entry.key;
    let mut refuse = |key: Option<&str>, message: String, help: &str| {
        let span = key
            .and_then(|key| view.written(key))
            .map_or_else(|| entry.key_span.clone(), |entry| entry.key_span.clone());
        problems.push(Problem::new(span, message, "").help(help));
    };
    let written: Vec<&str> = MEANS.into_iter().filter(|key| view.written(key).is_some()).collect();
    let written_of = |keys: &[&'static str]| -> Vec<&'static str> {
        keys.iter().copied().filter(|key| view.written(key).is_some()).collect()
    };
    if has_compose {
        let of_compose = ["command", "user", "read_only"];
        for key in written.iter().copied().chain(written_of(&of_compose)).chain(written_of(&OF_BUILDS)) {
            let message = format!("`services.{name}.{key}` is there, and so is `compose`");
            refuse(Some(key), message, "say it in the compose file, or remove `compose`");
        }
        return;
    }
    match written[..] {
        [] => {
            let message = format!("`services.{name}` does not say what it is");
            let help = "add `run` for a process, or `image` or `dockerfile` for a container; for example: run: \
                        \"bin/server -p $PORT\"";
            refuse(None, message, help);
        }
        [_] => {}
        [first, ref others @ ..] => {
            for key in others {
                let message = format!("`services.{name}.{key}` is there, and so is `{first}`");
                refuse(Some(key), message, "a service is one thing: remove one of the two");
            }
        }
    }
    if written == ["run"] {
        for key in written_of(&OF_CONTAINERS) {
            let help = match key {
                "port" => "a process listens on the variable PORT: remove `port`",
                "command" => "put the whole command into `run`",
                _ => "remove it, or make the service a container with `image` or `dockerfile`",
            };
            refuse(Some(key), format!("`services.{name}.{key}` has no meaning for a process"), help);
        }
    }
    if !written.is_empty() && !written.contains(&"dockerfile") {
        for key in written_of(&OF_BUILDS) {
            let message = format!("`services.{name}.{key}` has no meaning without `dockerfile`");
            refuse(Some(key), message, "add `dockerfile`, or remove it");
        }
    }
}
