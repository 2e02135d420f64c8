//! Images: pulled by their names, or built from the checkout.
//!
//! Guarantees: an image is known by what the engine says it is after it was pulled or built, never by a name that somebody
//! else could give away; progress goes into the log; both have a limit of time, and end when they are no longer waited for.
//! Must not know: what is run in an image.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use bollard::models::ImageInspect;
use bollard::query_parameters::CreateImageOptions;
use futures::StreamExt as _;
use serde::Deserialize;
use serde_json::json;
use url::form_urlencoded;

use super::engine::{Engine, EngineError, one_line, refused, words};
use super::{context, dockerfile, wire};
use crate::agent::logs::Log;
use crate::domain::assignment::TaskDigest;
use crate::domain::container::ImageBuild;

/// A line of progress that has no end is broken here.
const LONGEST_LINE: usize = 1 << 20;

/// An image that is on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Present {
    /// What the engine calls it.
    pub(super) id: String,
    /// The ports of TCP that it says it listens on.
    pub(super) exposes: Vec<u16>,
}

/// Pulls an image, whether or not one of that name is here.
pub(super) async fn pull(engine: &Engine, name: &str, log: &Log) -> Result<Present, EngineError> {
    let full = in_full(name);
    let what = format!("pull image {name}");
    let limit = engine.limits.pull_timeout;
    log.note(&format!("[kagero] pulling {full}"));
    let pulling = async {
        let options = CreateImageOptions { from_image: Some(full.clone()), ..Default::default() };
        let mut progress = std::pin::pin!(engine.docker.create_image(Some(options), None, None));
        let mut last = HashMap::new();
        while let Some(step) = progress.next().await {
            let step = step.map_err(|error| refused(&what, &words(&error)))?;
            if let Some(error) = step.error_detail.and_then(|detail| detail.message) {
                return Err(refused(&what, &error));
            }
            // Of each layer's progress only where it changes.
            let (layer, status) = (step.id.unwrap_or_default(), step.status.unwrap_or_default());
            if !status.is_empty() && last.get(&layer) != Some(&status) {
                log.note(&format!("{layer} {status}"));
                last.insert(layer, status);
            }
        }
        Ok(())
    };
    within(&what, limit, pulling).await?;
    present(engine, &full).await
}

/// Builds an image from a checkout, in the release's network.
pub(super) async fn build(
    engine: &Engine,
    (release, number): (&TaskDigest, usize),
    checkout: &Path,
    build: &ImageBuild,
    network: &str,
    log: &Log,
) -> Result<Present, EngineError> {
    let what = format!("build an image by {}", build.dockerfile);
    let folder = context::within(checkout, &build.context).map_err(|why| refused(&what, &why))?;
    let dockerfile = context::within(&folder, &build.dockerfile).map_err(|why| refused(&what, &why))?;
    dockerfile::check(&dockerfile).map_err(|why| refused(&what, &why))?;
    let release_part = release.0.get(..12).unwrap_or(&release.0);
    let tag = format!("localhost/kagero/{}-g{}:{release_part}-{number}", engine.owner.uid, engine.owner.generation.0);
    let target = format!("/build?{}", query(engine, release, build, network, &tag));
    let archive = context::stream(folder, build.dockerfile.clone(), engine.limits.context_bytes);
    log.note(&format!("[kagero] building an image by {}", build.dockerfile));
    let building = async {
        let mut answer = wire::post(&engine.socket, &target, "application/x-tar", archive)
            .await
            .map_err(|why| refused(&what, &why))?;
        let mut said = Said::default();
        while let Some(piece) = answer.piece().await {
            let piece = piece.map_err(|why| refused(&what, &why))?;
            if let Some(error) = said.hear(&piece, log) {
                return Err(refused(&what, &error));
            }
        }
        match said.end(log) {
            Some(error) => Err(refused(&what, &error)),
            None => Ok(()),
        }
    };
    within(&what, engine.limits.build_timeout, building).await?;
    present(engine, &tag).await
}

async fn within(
    what: &str,
    limit: Duration,
    work: impl Future<Output = Result<(), EngineError>>,
) -> Result<(), EngineError> {
    match tokio::time::timeout(limit, work).await {
        Ok(done) => done,
        Err(_) => Err(refused(what, &format!("it did not end within {}", crate::agent::span(limit)))),
    }
}

/// What a build is asked for by. Docker knows the network by `networkmode`, Podman by `nsoptions`; each passes over the
/// other's.
fn query(engine: &Engine, release: &TaskDigest, build: &ImageBuild, network: &str, tag: &str) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("t", tag).append_pair("dockerfile", build.dockerfile.as_str());
    query.append_pair("labels", &json!(engine.labels(release)).to_string());
    query.append_pair("networkmode", network);
    query.append_pair("nsoptions", &json!([{"Name": "network", "Host": false, "Path": network}]).to_string());
    query.append_pair("rm", "true").append_pair("forcerm", "true");
    if !build.args.is_empty() {
        query.append_pair("buildargs", &json!(build.args).to_string());
    }
    if let Some(target) = &build.target {
        query.append_pair("target", target);
    }
    if let Some(bytes) = engine.sandbox.address_space {
        query.append_pair("memory", &bytes.to_string());
    }
    query.finish()
}

/// What a build says, line by line.
#[derive(Default)]
struct Said {
    rest: Vec<u8>,
    text: String,
}

#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    stream: Option<String>,
    #[serde(default)]
    status: Option<String>,
    #[serde(default)]
    error: Option<String>,
}

impl Said {
    /// Puts whole lines into the log; an error that is among them ends the build.
    fn hear(&mut self, piece: &[u8], log: &Log) -> Option<String> {
        self.rest.extend_from_slice(piece);
        if self.rest.len() > LONGEST_LINE {
            return Some("the engine's answer has no lines".to_owned());
        }
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            if let Some(error) = self.line(&line, log) {
                return Some(error);
            }
        }
        None
    }

    fn line(&mut self, line: &[u8], log: &Log) -> Option<String> {
        let line: Line = serde_json::from_slice(line).ok()?;
        self.text.extend(line.stream);
        self.text.extend(line.status.map(|status| format!("{status}\n")));
        while let Some(end) = self.text.find('\n') {
            let whole: String = self.text.drain(..=end).collect();
            log.note(whole.trim_end());
        }
        line.error.map(|error| one_line(&error))
    }

    fn end(mut self, log: &Log) -> Option<String> {
        let rest = std::mem::take(&mut self.rest);
        let error = self.line(&rest, log);
        if !self.text.is_empty() {
            log.note(&self.text);
        }
        error
    }
}

async fn present(engine: &Engine, name: &str) -> Result<Present, EngineError> {
    let image: ImageInspect = engine.ask(&format!("look at image {name}"), engine.docker.inspect_image(name)).await?;
    let id = image.id.ok_or_else(|| refused(&format!("look at image {name}"), "the engine names no id"))?;
    let exposed = image.config.and_then(|config| config.exposed_ports).unwrap_or_default();
    let mut exposes: Vec<u16> =
        exposed.iter().filter_map(|port| port.strip_suffix("/tcp").unwrap_or(port).parse().ok()).collect();
    exposes.sort_unstable();
    exposes.dedup();
    Ok(Present { id, exposes })
}

/// The name with its registry: a short one could be found among this machine's own images.
fn in_full(name: &str) -> String {
    let is_registry = |part: &str| part.contains(['.', ':']) || part == "localhost";
    match name.split_once('/') {
        Some((first, _)) if is_registry(first) => name.to_owned(),
        Some(_) => format!("docker.io/{name}"),
        None => format!("docker.io/library/{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_name_is_docker_hubs_and_nobody_elses() {
        for (name, wanted) in [
            ("nginx:1", "docker.io/library/nginx:1"),
            ("acme/shop:1", "docker.io/acme/shop:1"),
            ("ghcr.io/acme/shop:1", "ghcr.io/acme/shop:1"),
            ("localhost/shop:1", "localhost/shop:1"),
            ("localhost:5000/shop:1", "localhost:5000/shop:1"),
        ] {
            assert_eq!(in_full(name), wanted);
        }
    }
}
