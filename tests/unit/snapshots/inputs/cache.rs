//! A cache with a limit.

use std::collections::HashMap;

/// What the cache holds, and how much of it.
#[derive(Debug, Clone)]
pub struct Cache<K, V> {
    entries: HashMap<K, V>,
    limit: usize,
}

impl<K: Eq + Hash, V: Clone> Cache<K, V> {
    /// Makes an empty cache.
    pub fn new(limit: usize) -> Self {
        Self { entries: HashMap::with_capacity(limit), limit }
    }

    #[inline]
    pub fn get(&self, key: &K) -> Option<V> {
        self.entries.get(key).cloned()
    }
}

impl<K, V> Drop for Cache<K, V> {
    fn drop(&mut self) {
        log::debug!("dropping a cache of {} entries", self.entries.len());
    }
}

pub trait Policy {
    const NAME: &'static str;
    fn evict<K, V>(&mut self, cache: &mut Cache<K, V>) -> Option<K>;
    fn describe(&self) -> String {
        format!("policy {} of the cache, version {}", Self::NAME, VERSION)
    }
}

macro_rules! cached {
    ($name:ident, $body:expr) => {
        static $name: Lazy<Mutex<Cache<String, String>>> = Lazy::new(|| $body);
    };
}

mod tests {
    use super::*;

    #[test]
    fn an_empty_cache_has_nothing() {
        assert_eq!(Cache::<u8, u8>::new(4).get(&1), None);
    }
}
