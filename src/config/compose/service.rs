//! One service of a compose file.

use std::collections::BTreeMap;

use crate::config::problem::{Problem, Problems, Span};
use crate::config::rules;
use crate::config::tree::{Entry, Kind, Node};
use crate::domain::container::{CheckoutPath, Container, Image, ImageBuild, ImageReference, ReferenceError};
use crate::domain::id::{CommitSha, ServiceName};

use super::refusals;
use super::words::{TextError, filled_in, split};

const MOST_VARIABLES: usize = 200;

/// Reads services, and collects what is wrong with them.
pub(super) struct Reader<'p> {
    pub(super) commit: &'p CommitSha,
    pub(super) problems: &'p mut Problems,
}

impl Reader<'_> {
    /// `None` where something of it was refused.
    pub(super) fn service(&mut self, entry: &Entry) -> Option<Container> {
        let name = &entry.key;
        let Kind::Map(entries) = &entry.value.kind else {
            if !matches!(entry.value.kind, Kind::Unreadable) {
                self.refuse(
                    &entry.key_span,
                    format!("`services.{name}` has to be a table"),
                    "write `image` or `build` below it",
                );
            }
            return None;
        };
        let (mut image, mut build) = (None, None);
        // Replaced below; what counts is that it has an image at all.
        let placeholder = Image::Built(ImageBuild {
            context: CheckoutPath::root(),
            dockerfile: CheckoutPath::root(),
            target: None,
            args: BTreeMap::new(),
        });
        let mut container = Container::of(placeholder);
        let (mut published, mut exposed) = (Vec::new(), Vec::new());
        let mut whole = true;
        for entry in entries {
            let node = &entry.value;
            let path = format!("services.{name}.{}", entry.key);
            let done = match entry.key.as_str() {
                "image" => self.image(node, &path).map(|found| image = Some(found)),
                "build" => self.build(node, &path).map(|found| build = Some(found)),
                "command" => self.command(node, &path).map(|words| container.command = Some(words)),
                "entrypoint" => self.command(node, &path).map(|words| container.entrypoint = Some(words)),
                "environment" => self.variables(node, &path).map(|env| container.env = env),
                "ports" => self.ports(node, &path).map(|ports| published = ports),
                "expose" => self.ports(node, &path).map(|ports| exposed = ports),
                "depends_on" => self.depends_on(node, &path).map(|names| container.depends_on = names),
                "user" => self.user(node, &path).map(|user| container.user = Some(user)),
                "read_only" => self.flag(node, &path).map(|flag| container.read_only = flag),
                "restart" => self.restart(node, &path),
                key if key.starts_with("x-") => Some(()),
                _ => {
                    self.problems.push(refusals::of_service(name, entry));
                    None
                }
            };
            whole &= done.is_some();
        }
        container.port = published.first().or(exposed.first()).copied();
        match (image, build) {
            (Some(_), Some(_)) => {
                let message = format!("`services.{name}` has both `image` and `build`");
                self.refuse(&entry.key_span, message, "keep `build` alone: what was built is not given another name");
                None
            }
            (Some(image), None) => whole.then_some(Container { image: Image::Pulled(image), ..container }),
            (None, Some(build)) => whole.then_some(Container { image: Image::Built(build), ..container }),
            (None, None) => {
                if whole {
                    let message = format!("`services.{name}` has neither `image` nor `build`");
                    self.refuse(&entry.key_span, message, "add one of them");
                }
                None
            }
        }
    }

    fn refuse(&mut self, span: &Span, message: impl Into<String>, help: &str) {
        self.problems.push(Problem::new(span.clone(), message, "").help(help));
    }

    fn wrong(&mut self, node: &Node, path: &str, expected: &str) {
        if !matches!(node.kind, Kind::Unreadable) {
            let label = format!("this is {}", node.kind.name());
            self.problems.push(Problem::new(node.span.clone(), format!("`{path}` has to be {expected}"), label));
        }
    }

    /// A text with its variables filled in.
    fn filled(&mut self, node: &Node, text: &str, path: &str) -> Option<String> {
        let filled = filled_in(text, self.commit).ok();
        if filled.is_none() {
            let help = "write the value, or set it in `env` of .kagero.yml; `${KAGERO_COMMIT}` is the commit, and `$$` a \
                        dollar sign";
            self.refuse(&node.span, format!("`{path}` asks for a variable: variables are not filled in"), help);
        }
        filled
    }

    fn text(&mut self, node: &Node, path: &str, expected: &str) -> Option<String> {
        if let Kind::Text(text) = &node.kind {
            return self.filled(node, text, path);
        }
        self.wrong(node, path, expected);
        None
    }

    fn image(&mut self, node: &Node, path: &str) -> Option<ImageReference> {
        let text = self.text(node, path, "an image's name")?;
        match ImageReference::parse(&text) {
            Ok(image) => Some(image),
            Err(error) => {
                let help = match error {
                    ReferenceError::Unpinned => "add a tag or a digest: what an image without one is changes by itself",
                    ReferenceError::Malformed => {
                        "expected a name such as ghcr.io/acme/shop:${KAGERO_COMMIT}, with a tag or a digest"
                    }
                };
                self.refuse(&node.span, format!("`{path}` cannot be `{text}`: {error}"), help);
                None
            }
        }
    }

    fn path(&mut self, node: &Node, path: &str) -> Option<CheckoutPath> {
        let text = self.text(node, path, "a path within the repository")?;
        match CheckoutPath::parse(&text) {
            Ok(found) if !text.contains("://") => Some(found),
            _ => {
                let help = "expected a path within the repository, without `..` and not beginning with `/`";
                self.refuse(&node.span, format!("`{path}` cannot be `{text}`"), help);
                None
            }
        }
    }

    fn build(&mut self, node: &Node, path: &str) -> Option<ImageBuild> {
        let mut build = ImageBuild {
            context: CheckoutPath::root(),
            dockerfile: CheckoutPath::parse("Dockerfile").ok()?,
            target: None,
            args: BTreeMap::new(),
        };
        let Kind::Map(entries) = &node.kind else {
            build.context = self.path(node, path)?;
            return Some(build);
        };
        let mut whole = true;
        for entry in entries {
            let path = format!("{path}.{}", entry.key);
            let node = &entry.value;
            let done = match entry.key.as_str() {
                "context" => self.path(node, &path).map(|found| build.context = found),
                "dockerfile" => self.path(node, &path).map(|found| build.dockerfile = found),
                "target" => self.text(node, &path, "the name of a stage").map(|found| build.target = Some(found)),
                "args" => self.variables(node, &path).map(|args| build.args = args),
                _ => {
                    let message = format!("`{path}` is not supported");
                    self.refuse(
                        &entry.key_span,
                        message,
                        "remove it; taken over are: context, dockerfile, target, args",
                    );
                    None
                }
            };
            whole &= done.is_some();
        }
        whole.then_some(build)
    }

    fn command(&mut self, node: &Node, path: &str) -> Option<Vec<String>> {
        match &node.kind {
            Kind::Text(text) => match self.filled(node, text, path).map(|text| split(&text))? {
                Ok(words) => Some(words),
                Err(TextError::OpenQuote | TextError::Variable) => {
                    self.refuse(&node.span, format!("`{path}` has a quotation mark without its end"), "close it");
                    None
                }
            },
            Kind::List(items) => items.iter().map(|item| self.value(item, path)).collect(),
            _ => {
                self.wrong(node, path, "a command: a text, or a list of its words");
                None
            }
        }
    }

    /// A text, or what compose takes for one.
    fn value(&mut self, node: &Node, path: &str) -> Option<String> {
        match &node.kind {
            Kind::Text(text) => self.filled(node, text, path),
            Kind::Whole(number) => Some(number.to_string()),
            Kind::Flag(flag) => Some(flag.to_string()),
            Kind::Null => {
                let help = "there is no shell to take it from: write the value, or set it in `env` or `secrets` of .kagero.yml";
                self.refuse(&node.span, format!("`{path}` has no value"), help);
                None
            }
            _ => {
                self.wrong(node, path, "a text; numbers with a fraction in quotes");
                None
            }
        }
    }

    fn variables(&mut self, node: &Node, path: &str) -> Option<BTreeMap<String, String>> {
        let mut pairs: Vec<(&Span, &str, Option<String>)> = Vec::new();
        match &node.kind {
            Kind::Map(entries) => {
                for entry in entries {
                    let value = self.value(&entry.value, &format!("{path}.{}", entry.key));
                    pairs.push((&entry.key_span, &entry.key, value));
                }
            }
            Kind::List(items) => {
                for item in items {
                    let Kind::Text(text) = &item.kind else {
                        self.wrong(item, path, "a list of NAME=value");
                        return None;
                    };
                    let Some((name, value)) = text.split_once('=') else {
                        let help = "there is no shell to take it from: write NAME=value, or set it in .kagero.yml";
                        self.refuse(&item.span, format!("`{path}` has no value for `{text}`"), help);
                        return None;
                    };
                    let value = self.filled(item, value, path);
                    pairs.push((&item.span, name, value));
                }
            }
            _ => {
                self.wrong(node, path, "a table or a list of NAME=value");
                return None;
            }
        }
        if pairs.len() > MOST_VARIABLES {
            self.refuse(&node.span, format!("`{path}` has more than {MOST_VARIABLES} entries"), "use fewer");
            return None;
        }
        let mut variables = BTreeMap::new();
        let mut whole = true;
        for (span, name, value) in pairs {
            let valid = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
                && !name.starts_with("KAGERO_");
            if !valid {
                let help = "expected letters, digits and underscores; PORT, HOST and KAGERO_… are Kagero's to set";
                self.refuse(span, format!("`{path}` cannot set `{name}`: KAGERO_… are Kagero's to set"), help);
            }
            whole &= valid && value.is_some();
            variables.extend(value.map(|value| (name.to_owned(), value)));
        }
        whole.then_some(variables)
    }

    fn ports(&mut self, node: &Node, path: &str) -> Option<Vec<u16>> {
        let Kind::List(items) = &node.kind else {
            self.wrong(node, path, "a list of ports");
            return None;
        };
        items.iter().map(|item| self.port(item, path)).collect()
    }

    /// The port inside. The one outside is Kagero's to give.
    fn port(&mut self, node: &Node, path: &str) -> Option<u16> {
        let found = match &node.kind {
            Kind::Whole(number) => u16::try_from(*number).ok(),
            Kind::Text(text) => {
                let text = self.filled(node, text, path)?;
                let text = text.strip_suffix("/tcp").unwrap_or(&text).to_owned();
                text.rsplit(':').next().and_then(|inside| inside.parse().ok())
            }
            Kind::Map(entries) => {
                let is_known = |entry: &Entry| match entry.key.as_str() {
                    "target" | "published" | "host_ip" | "mode" | "name" | "app_protocol" => true,
                    "protocol" => matches!(&entry.value.kind, Kind::Text(text) if text == "tcp"),
                    _ => false,
                };
                let target = entries.iter().all(is_known).then(|| node.get("target")).flatten();
                let Some(target) = target else {
                    self.refuse(&node.span, format!("`{path}` needs a single port of TCP in `target`"), "name it");
                    return None;
                };
                return self.port(&target.value, path);
            }
            _ => None,
        };
        if found.is_none_or(|port| port == 0) {
            let help =
                "write the port that the service listens on, for example \"8080\"; ranges and UDP are not supported";
            self.refuse(&node.span, format!("`{path}` has to name a single port of TCP, from 1 to 65535"), help);
            return None;
        }
        found
    }

    fn depends_on(&mut self, node: &Node, path: &str) -> Option<Vec<ServiceName>> {
        let mut names: Vec<(&Span, &str)> = Vec::new();
        match &node.kind {
            Kind::List(items) => {
                for item in items {
                    let Kind::Text(name) = &item.kind else {
                        self.wrong(item, path, "a list of services");
                        return None;
                    };
                    names.push((&item.span, name));
                }
            }
            Kind::Map(entries) => {
                for entry in entries {
                    let known =
                        matches!(&entry.value.kind, Kind::Map(keys) if keys.iter().all(|key| key.key == "condition"));
                    let condition = entry.value.get("condition").map(|condition| &condition.value.kind);
                    let is_taken = match condition {
                        Some(Kind::Text(text)) => matches!(text.as_str(), "service_started" | "service_healthy"),
                        Some(_) => false,
                        None => true,
                    };
                    if !(known && is_taken) {
                        let help = "`condition` may be service_started or service_healthy; what has to come to its end belongs \
                                    into `build` or `migrate` of .kagero.yml";
                        self.refuse(
                            &entry.value.span,
                            format!("`{path}.{}` has a condition that is not supported", entry.key),
                            help,
                        );
                        return None;
                    }
                    names.push((&entry.key_span, &entry.key));
                }
            }
            _ => {
                self.wrong(node, path, "a list of services");
                return None;
            }
        }
        let mut found = Vec::new();
        for (span, name) in names {
            let Ok(known) = ServiceName::parse(name) else {
                self.refuse(span, format!("`{path}` cannot be `{name}`"), "name a service of this file");
                return None;
            };
            found.push(known);
        }
        Some(found)
    }

    fn user(&mut self, node: &Node, path: &str) -> Option<String> {
        let user = self.value(node, path)?;
        if rules::is_container_user(&user) {
            return Some(user);
        }
        self.refuse(
            &node.span,
            format!("`{path}` cannot be `{user}`"),
            "expected a user or uid, with or without :group",
        );
        None
    }

    fn flag(&mut self, node: &Node, path: &str) -> Option<bool> {
        if let Kind::Flag(flag) = node.kind {
            return Some(flag);
        }
        self.wrong(node, path, "true or false");
        None
    }

    fn restart(&mut self, node: &Node, path: &str) -> Option<()> {
        match &node.kind {
            Kind::Text(text)
                if matches!(text.as_str(), "always" | "unless-stopped" | "on-failure")
                    || text.strip_prefix("on-failure:").is_some_and(|most| most.parse::<u32>().is_ok()) =>
            {
                Some(())
            }
            _ => {
                let help = "services of a preview are started again whenever they end: use `always`, or remove it; what has to \
                            come to its end belongs into `build` or `migrate` of .kagero.yml";
                self.refuse(&node.span, format!("`{path}` cannot be that"), help);
                None
            }
        }
    }
}
