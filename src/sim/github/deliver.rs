//! Webhook deliveries: signed, sent once, recorded, never sent again by themselves.
//!
//! Must not know: what the payloads mean.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::sync::watch;

use super::fault::DeliveryFault;
use super::world::World;
use super::{Shared, json::instant};
use crate::domain::time::Timestamp;

/// GitHub keeps three days of them; this is enough for any test.
const KEPT: usize = 20_000;

/// One attempt at one delivery.
#[derive(Debug, Clone)]
pub(super) struct Delivery {
    pub id: u64,
    pub guid: String,
    pub event: &'static str,
    pub action: Option<String>,
    pub installation: Option<u64>,
    pub repository: Option<u64>,
    pub redelivery: bool,
    pub delivered_at: Timestamp,
    pub took: Duration,
    pub outcome: Outcome,
    pub payload: Value,
}

/// What came of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    Pending,
    Answered(u16),
    TimedOut,
    Unreachable,
}

impl Delivery {
    pub(super) fn json(&self) -> Value {
        let (status, code) = match self.outcome {
            Outcome::Pending => ("pending".to_owned(), 0),
            Outcome::Answered(code) if (200..300).contains(&code) => ("OK".to_owned(), code),
            Outcome::Answered(code) => (format!("Invalid HTTP Response: {code}"), code),
            Outcome::TimedOut => ("timed out".to_owned(), 504),
            Outcome::Unreachable => ("failed to connect to host".to_owned(), 502),
        };
        json!({
            "id": self.id,
            "guid": self.guid,
            "delivered_at": instant(self.delivered_at),
            "redelivery": self.redelivery,
            "duration": self.took.as_secs_f64(),
            "status": status,
            "status_code": code,
            "event": self.event,
            "action": self.action,
            "installation_id": self.installation,
            "repository_id": self.repository,
            "throttled_at": null,
        })
    }
}

/// Where deliveries go, and those that are under way.
pub(super) struct Courier {
    url: Mutex<Option<String>>,
    secret: String,
    client: reqwest::Client,
    swapped: Mutex<Vec<Delivery>>,
    under_way: watch::Sender<usize>,
}

impl Courier {
    pub(super) fn new(secret: String, client: reqwest::Client) -> Self {
        Self {
            url: Mutex::new(None),
            secret,
            client,
            swapped: Mutex::new(Vec::new()),
            under_way: watch::Sender::new(0),
        }
    }

    pub(super) fn set_url(&self, url: Option<String>) {
        *self.url.lock().unwrap_or_else(PoisonError::into_inner) = url;
    }

    fn url(&self) -> Option<String> {
        self.url.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn secret(&self) -> &str {
        &self.secret
    }

    /// Ends once nothing is under way.
    pub(super) async fn settled(&self) {
        let mut watcher = self.under_way.subscribe();
        // The sender lives as long as this borrow.
        let _ = watcher.wait_for(|count| *count == 0).await;
    }
}

/// An event that has happened.
pub(super) struct Event {
    pub name: &'static str,
    pub action: &'static str,
    pub installation: Option<u64>,
    pub repository: Option<u64>,
    pub payload: Value,
}

impl Shared {
    /// Sends an event, unless no address is set.
    pub(super) fn emit(self: &Arc<Self>, world: &mut World, event: Event) {
        self.changed();
        if self.courier.url().is_none() {
            return;
        }
        let delivery = Delivery {
            id: world.take_id(),
            guid: uuid::Uuid::new_v4().to_string(),
            event: event.name,
            action: (!event.action.is_empty()).then(|| event.action.to_owned()),
            installation: event.installation,
            repository: event.repository,
            redelivery: false,
            delivered_at: self.clock.now(),
            took: Duration::ZERO,
            outcome: Outcome::Pending,
            payload: event.payload,
        };
        let plain = Manner::default();
        let mut batch = match self.faults.for_delivery() {
            None => vec![(delivery, plain)],
            Some(DeliveryFault::Vanished) => Vec::new(),
            Some(DeliveryFault::TimedOut) => {
                record(world, Delivery { outcome: Outcome::TimedOut, ..delivery });
                Vec::new()
            }
            Some(DeliveryFault::Doubled) => {
                let twin = Delivery { id: world.take_id(), ..delivery.clone() };
                vec![(delivery, plain), (twin, plain)]
            }
            Some(DeliveryFault::DoubledUnderNewId) => {
                let guid = uuid::Uuid::new_v4().to_string();
                let twin = Delivery { id: world.take_id(), guid, ..delivery.clone() };
                vec![(delivery, plain), (twin, plain)]
            }
            Some(DeliveryFault::Late(late)) => vec![(delivery, Manner { late, ..plain })],
            Some(DeliveryFault::Forged) => vec![(delivery, Manner { forged: true, ..plain })],
            Some(DeliveryFault::Swapped) => {
                self.courier.swapped.lock().unwrap_or_else(PoisonError::into_inner).push(delivery);
                return;
            }
        };
        let swapped = std::mem::take(&mut *self.courier.swapped.lock().unwrap_or_else(PoisonError::into_inner));
        batch.extend(swapped.into_iter().map(|delivery| (delivery, plain)));
        self.send(world, batch);
    }

    /// Sends a recorded delivery again, under the same guid.
    pub(super) fn redeliver(self: &Arc<Self>, world: &mut World, old: Delivery) {
        let again = Delivery {
            id: world.take_id(),
            redelivery: true,
            delivered_at: self.clock.now(),
            took: Duration::ZERO,
            outcome: Outcome::Pending,
            ..old
        };
        self.send(world, vec![(again, Manner::default())]);
    }

    /// Sends deliveries one after the other, without waiting for it.
    fn send(self: &Arc<Self>, world: &mut World, batch: Vec<(Delivery, Manner)>) {
        let Some(url) = self.courier.url().filter(|_| !batch.is_empty()) else { return };
        for (delivery, _) in &batch {
            record(world, delivery.clone());
        }
        self.courier.under_way.send_modify(|count| *count += 1);
        let shared = Arc::clone(self);
        tokio::spawn(async move {
            for (delivery, manner) in batch {
                tokio::time::sleep(manner.late).await;
                let began = Instant::now();
                let outcome = shared.courier.post(&url, &delivery, manner).await;
                let mut world = shared.world.lock().await;
                if let Some(entry) = world.deliveries.iter_mut().rev().find(|entry| entry.id == delivery.id) {
                    entry.outcome = outcome;
                    entry.took = began.elapsed();
                    entry.delivered_at = shared.clock.now();
                }
            }
            shared.courier.under_way.send_modify(|count| *count -= 1);
        });
    }
}

/// How a delivery is sent.
#[derive(Debug, Clone, Copy, Default)]
struct Manner {
    late: Duration,
    forged: bool,
}

impl Courier {
    async fn post(&self, url: &str, delivery: &Delivery, manner: Manner) -> Outcome {
        let body = delivery.payload.to_string();
        let secret = if manner.forged { "not the secret" } else { &self.secret };
        let mut request = self
            .client
            .post(url)
            .header("content-type", "application/json")
            .header("user-agent", "GitHub-Hookshot/standin")
            .header("accept", "*/*")
            .header("x-github-event", delivery.event)
            .header("x-github-delivery", &delivery.guid)
            .header("x-github-hook-id", "1")
            .header("x-github-hook-installation-target-type", "integration");
        if let Some(signature) = signature(secret, body.as_bytes()) {
            request = request.header("x-hub-signature-256", signature);
        }
        match request.body(body).send().await {
            Ok(answer) => Outcome::Answered(answer.status().as_u16()),
            Err(error) if error.is_timeout() => Outcome::TimedOut,
            Err(_) => Outcome::Unreachable,
        }
    }
}

fn record(world: &mut World, delivery: Delivery) {
    world.deliveries.push_back(delivery);
    if world.deliveries.len() > KEPT {
        world.deliveries.pop_front();
    }
}

/// The value of `X-Hub-Signature-256`.
fn signature(secret: &str, body: &[u8]) -> Option<String> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).ok()?;
    mac.update(body);
    Some(format!("sha256={}", hex::encode(mac.finalize().into_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_githubs() {
        assert_eq!(
            signature("It's a Secret to Everybody", b"Hello, World!").unwrap(),
            "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
        );
    }
}
