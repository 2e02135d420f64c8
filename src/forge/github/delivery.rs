//! Deliveries of the App's webhook that did not reach us.
//!
//! Guarantees: a delivery that a later attempt brought through is not called failed; each one is named once,
//! by its newest attempt.
//! Must not know: what was in them.

use std::collections::HashSet;

use http::Method;

use super::call::{Ask, Identity};
use super::page::PAGE_SIZE;
use super::wire::Delivery;
use super::{FailedDelivery, ForgeError, Github, Listing};
use crate::domain::time::Timestamp;

impl Github {
    pub(super) async fn list_failed_deliveries(&self, since: Timestamp) -> Result<Listing<FailedDelivery>, ForgeError> {
        let at = self.calls.now();
        let path = format!("/app/hook/deliveries?per_page={PAGE_SIZE}");
        let ask = Ask::get(Identity::App, path, "listing the webhook's deliveries".to_owned());
        let before = |delivery: &Delivery| when(delivery) < since;
        let pages = self.calls.pages(ask, |page: &Vec<Delivery>| page.last().is_some_and(before)).await?;
        Ok(Listing { items: failed(pages.items, since), complete: pages.complete, at })
    }

    pub(super) async fn attempt_delivery(&self, delivery: u64) -> Result<(), ForgeError> {
        let path = format!("/app/hook/deliveries/{delivery}/attempts");
        let mut ask = Ask::get(Identity::App, path, format!("asking for delivery {delivery} again"));
        ask.method = Method::POST;
        self.calls.tell(&ask).await
    }
}

fn when(delivery: &Delivery) -> Timestamp {
    Timestamp(delivery.delivered_at.as_millisecond())
}

fn arrived(delivery: &Delivery) -> bool {
    match delivery.status_code {
        Some(code) if code > 0 => (200..300).contains(&code),
        _ => delivery.status.as_deref() == Some("OK"),
    }
}

/// Attempts are listed newest first.
fn failed(attempts: Vec<Delivery>, since: Timestamp) -> Vec<FailedDelivery> {
    let mut settled: HashSet<String> = attempts.iter().filter(|it| arrived(it)).map(|it| it.guid.clone()).collect();
    let mut failed = Vec::new();
    for attempt in attempts.into_iter().filter(|attempt| when(attempt) >= since) {
        if settled.insert(attempt.guid.clone()) {
            failed.push(FailedDelivery { id: attempt.id, delivered_at: when(&attempt), guid: attempt.guid });
        }
    }
    failed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(id: u64, guid: &str, second: i64, code: Option<u16>, status: &str) -> Delivery {
        let delivered_at = jiff::Timestamp::from_second(second).unwrap();
        Delivery { id, guid: guid.to_owned(), delivered_at, status: Some(status.to_owned()), status_code: code }
    }

    #[test]
    fn only_what_no_attempt_brought_through_is_named_and_only_once() {
        let attempts = vec![
            attempt(9, "healed", 90, Some(202), "OK"),
            attempt(8, "twice", 80, Some(500), "Invalid HTTP Response: 500"),
            attempt(7, "healed", 70, Some(502), "Invalid HTTP Response: 502"),
            attempt(6, "twice", 60, Some(500), "Invalid HTTP Response: 500"),
            attempt(5, "timed out", 50, Some(0), "timed out"),
            attempt(4, "no code", 40, None, "OK"),
            attempt(3, "early", 30, Some(500), "failed to connect"),
        ];
        let names: Vec<_> = failed(attempts, Timestamp(40_000)).into_iter().map(|it| (it.id, it.guid)).collect();
        assert_eq!(names, [(8, "twice".to_owned()), (5, "timed out".to_owned())]);
    }
}
