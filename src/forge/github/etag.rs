//! Answers that we have read before, so that GitHub can say "not modified", which costs nothing.
//!
//! Guarantees: bounded by bytes, the least recently used answer goes first; an answer is only ever found by
//! the identity that read it.
//! Must not know: HTTP.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::call::Identity;

/// What identifies an answer: who asked, for which path and in which form.
pub(super) type Key = (Identity, String, &'static str);

/// An answer that was read before.
#[derive(Debug)]
pub(super) struct Known {
    pub etag: String,
    /// In our thin form, as JSON.
    pub body: Vec<u8>,
    /// The path of the page after it.
    pub next: Option<String>,
}

impl Known {
    fn size(&self, key: &Key) -> usize {
        // Both maps keep the key, and each entry has its own overhead.
        self.etag.len() + self.body.len() + self.next.as_ref().map_or(0, String::len) + 2 * key.1.len() + 200
    }
}

#[derive(Debug)]
pub(super) struct EtagCache {
    capacity: usize,
    size: usize,
    clock: u64,
    entries: HashMap<Key, (u64, Arc<Known>)>,
    by_age: BTreeMap<u64, Key>,
}

impl EtagCache {
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, size: 0, clock: 0, entries: HashMap::new(), by_age: BTreeMap::new() }
    }

    pub(super) fn get(&mut self, key: &Key) -> Option<Arc<Known>> {
        let (used_at, known) = self.entries.get_mut(key)?;
        self.clock += 1;
        if let Some(key) = self.by_age.remove(used_at) {
            self.by_age.insert(self.clock, key);
        }
        *used_at = self.clock;
        Some(Arc::clone(known))
    }

    pub(super) fn put(&mut self, key: Key, known: Known) {
        self.remove(&key);
        let size = known.size(&key);
        if size > self.capacity {
            return;
        }
        while self.size + size > self.capacity {
            let Some(oldest) = self.by_age.first_key_value().map(|(_, key)| key.clone()) else { break };
            self.remove(&oldest);
        }
        self.clock += 1;
        self.size += size;
        self.by_age.insert(self.clock, key.clone());
        self.entries.insert(key, (self.clock, Arc::new(known)));
    }

    pub(super) fn remove(&mut self, key: &Key) {
        if let Some((used_at, known)) = self.entries.remove(key) {
            self.by_age.remove(&used_at);
            self.size -= known.size(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::id::InstallationId;

    fn key(path: &str) -> Key {
        (Identity::App, path.to_owned(), "json")
    }

    fn known(etag: &str, bytes: usize) -> Known {
        Known { etag: etag.to_owned(), body: vec![0; bytes], next: None }
    }

    #[test]
    fn the_least_recently_used_goes_first() {
        let mut cache = EtagCache::new(4_000);
        for path in ["a", "b", "c"] {
            cache.put(key(path), known(path, 1_000));
        }
        assert!(cache.get(&key("a")).is_some());
        cache.put(key("d"), known("d", 1_000));
        assert!(cache.get(&key("b")).is_none());
        assert_eq!(cache.get(&key("a")).unwrap().etag, "a");
        cache.put(key("a"), known("newer", 1_000));
        assert_eq!(cache.get(&key("a")).unwrap().etag, "newer");
        assert!(cache.get(&key("c")).is_some() && cache.get(&key("d")).is_some());
    }

    #[test]
    fn another_identity_finds_nothing() {
        let mut cache = EtagCache::new(4_000);
        cache.put(key("a"), known("a", 10));
        assert!(cache.get(&(Identity::Installation(InstallationId(1)), "a".to_owned(), "json")).is_none());
        assert!(cache.get(&(Identity::App, "a".to_owned(), "text")).is_none());
    }

    proptest! {
        #[test]
        fn its_size_is_bounded_and_its_books_agree(steps in prop::collection::vec((0_u8..20, 0_usize..3_000, any::<bool>()), 0..200)) {
            let mut cache = EtagCache::new(10_000);
            for (name, bytes, put) in steps {
                let key = key(&name.to_string());
                if put {
                    cache.put(key, known("x", bytes));
                } else {
                    cache.get(&key);
                }
                prop_assert!(cache.size <= 10_000);
                prop_assert_eq!(cache.entries.len(), cache.by_age.len());
                prop_assert_eq!(cache.size, cache.entries.iter().map(|(key, (_, known))| known.size(key)).sum::<usize>());
            }
        }
    }
}
