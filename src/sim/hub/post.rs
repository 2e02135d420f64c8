//! How deliveries travel: late, twice, out of order, or not at all.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::chance::Chance;
use super::super::mischief::{Mischief, Tally};
use crate::domain::time::Timestamp;
use crate::forge::FailedDelivery;

/// How reliable it is, each in a thousand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PostalService {
    /// Lost, and nobody knows.
    pub lost: u64,
    /// Not accepted, and listed as failed.
    pub failed: u64,
    /// Delivered twice.
    pub doubled: u64,
    /// Delivered again under another guid.
    pub replayed: u64,
    /// Delayed, for up to 4.5 hours: the longest that GitHub's status page has told of.
    pub late: u64,
}

/// A delivery on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parcel {
    /// Its number in GitHub's list.
    pub id: u64,
    /// The header that is the same on every attempt.
    pub guid: String,
    /// The event.
    pub event: String,
    /// The body.
    pub body: Vec<u8>,
}

#[derive(Debug)]
pub(super) struct Office {
    met: Tally,
    chance: Chance,
    service: PostalService,
    under_way: BTreeMap<(Timestamp, u64), Parcel>,
    failed: BTreeMap<u64, (Parcel, Timestamp)>,
    sent: u64,
}

impl Office {
    pub fn new(chance: Chance, service: PostalService, met: Tally) -> Self {
        Self { met, chance, service, under_way: BTreeMap::new(), failed: BTreeMap::new(), sent: 0 }
    }

    pub fn set_service(&mut self, service: PostalService) {
        self.service = service;
    }

    pub fn send(&mut self, id: u64, event: &str, body: Vec<u8>, now: Timestamp) {
        let parcel = Parcel { id, guid: format!("guid-{id}"), event: event.to_owned(), body };
        let service = self.service;
        if self.chance.permille(service.lost) {
            self.met.note(Mischief::LostDelivery);
            return;
        }
        if self.chance.permille(service.failed) {
            self.met.note(Mischief::FailedDelivery);
            self.failed.insert(id, (parcel, now));
            return;
        }
        if self.chance.permille(service.replayed) {
            self.met.note(Mischief::ReplayedDelivery);
            self.post(Parcel { guid: format!("guid-{id}-replayed"), ..parcel.clone() }, now);
        }
        if self.chance.permille(service.doubled) {
            self.met.note(Mischief::DoubledDelivery);
            self.post(parcel.clone(), now);
        }
        self.post(parcel, now);
    }

    /// What would be sent now is not accepted by anybody: it is in the list of failed ones.
    pub fn fail(&mut self, id: u64, event: &str, body: Vec<u8>, now: Timestamp) {
        let parcel = Parcel { id, guid: format!("guid-{id}"), event: event.to_owned(), body };
        self.failed.insert(id, (parcel, now));
    }

    fn post(&mut self, parcel: Parcel, now: Timestamp) {
        let most = if self.chance.permille(self.service.late) {
            self.met.note(Mischief::LateDelivery);
            Duration::from_mins(270)
        } else if self.service == PostalService::default() {
            Duration::from_millis(500)
        } else {
            Duration::from_secs(20)
        };
        let at = now.plus(self.chance.between(Duration::from_millis(100), most));
        self.sent += 1;
        self.under_way.insert((at, self.sent), parcel);
    }

    pub fn next_arrival(&self) -> Option<Timestamp> {
        self.under_way.keys().next().map(|(at, _)| *at)
    }

    pub fn receive(&mut self, now: Timestamp) -> Option<Parcel> {
        let first = self.under_way.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }

    pub fn acknowledge(&mut self, parcel: &Parcel, accepted: bool, now: Timestamp) {
        if accepted {
            self.failed.remove(&parcel.id);
        } else {
            self.failed.insert(parcel.id, (parcel.clone(), now));
        }
    }

    pub fn failed(&self, since: Timestamp) -> Vec<FailedDelivery> {
        let since = self.failed.values().filter(|(_, at)| *at >= since);
        since
            .map(|(parcel, at)| FailedDelivery { id: parcel.id, guid: parcel.guid.clone(), delivered_at: *at })
            .collect()
    }

    /// Whether there was such a delivery.
    pub fn redeliver(&mut self, id: u64, now: Timestamp) -> bool {
        let Some((parcel, _)) = self.failed.get(&id).cloned() else { return false };
        self.post(parcel, now);
        true
    }
}
