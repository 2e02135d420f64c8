//! The network of a release.
//!
//! Guarantees: no other release's containers are reached from it; within it, services find each other by their names.
//! Must not know: what runs in it.

use std::collections::HashMap;

use bollard::models::NetworkCreateRequest;
use bytes::Bytes;
use serde_json::json;

use super::engine::{Engine, EngineError, Kind, PATIENCE, refused};
use super::{leftovers, wire};
use crate::domain::assignment::TaskDigest;

/// Makes a release's network, and gives its name. What is left of a former try goes first.
pub(super) async fn make(engine: &Engine, release: &TaskDigest) -> Result<String, EngineError> {
    leftovers::clear(engine, Some(release)).await?;
    let owner = &engine.owner;
    let release_part = release.0.get(..12).unwrap_or(&release.0);
    let name = format!("kagero-{}-g{}-{release_part}", owner.uid, owner.generation.0);
    let labels = engine.labels(release);
    match engine.kind {
        Kind::Docker => {
            let request = NetworkCreateRequest {
                name: name.clone(),
                driver: Some("bridge".to_owned()),
                labels: Some(labels),
                ..Default::default()
            };
            engine.ask(&format!("make network {name}"), engine.docker.create_network(request)).await?;
        }
        Kind::Podman => isolated(engine, &name, &labels).await?,
    }
    Ok(name)
}

/// By Podman's own API: of the Docker one, Podman takes no option that isolates.
async fn isolated(engine: &Engine, name: &str, labels: &HashMap<String, String>) -> Result<(), EngineError> {
    let body = json!({
        "name": name, "driver": "bridge", "labels": labels, "dns_enabled": true, "options": {"isolate": "true"},
    });
    let body = futures::stream::iter([Ok(Bytes::from(body.to_string()))]);
    let target = "/v4.0.0/libpod/networks/create";
    let asked = wire::post(&engine.socket, target, "application/json", body);
    let what = format!("make network {name}");
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(why)) => Err(refused(&what, &why)),
        Err(_) => Err(refused(&what, &format!("the engine gave no answer within {PATIENCE:?}"))),
    }
}
