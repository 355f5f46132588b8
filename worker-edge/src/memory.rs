//! Answers that are remembered for a while. The clock is passed in, in milliseconds.

use std::collections::HashMap;
use std::hash::Hash;

/// Answers by question: each is fresh for `FRESH` milliseconds, and there are at most `MAX_KEPT`.
pub struct Memory<K, V, const FRESH: u64 = 60_000, const MAX_KEPT: usize = 64>(
    HashMap<K, (V, u64)>,
);

impl<K, V, const FRESH: u64, const MAX_KEPT: usize> Default for Memory<K, V, FRESH, MAX_KEPT> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Hash + Eq, V: Clone, const FRESH: u64, const MAX_KEPT: usize>
    Memory<K, V, FRESH, MAX_KEPT>
{
    /// The answer, if it is fresh.
    pub fn get(&self, key: &K, now: u64) -> Option<V> {
        self.0.get(key).filter(|(_, until)| now < *until).map(|(value, _)| value.clone())
    }

    /// The last answer, of any age.
    pub fn last(&self, key: &K) -> Option<V> {
        self.0.get(key).map(|(value, _)| value.clone())
    }

    /// Remembers an answer. All others are forgotten if there are too many.
    pub fn keep(&mut self, key: K, value: V, now: u64) {
        if self.0.len() >= MAX_KEPT {
            self.0.clear();
        }
        self.0.insert(key, (value, now + FRESH));
    }

    /// Forgets all answers.
    pub fn forget(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_fresh_for_a_minute_and_then_a_last_resort() {
        let mut memory = Memory::<_, _>::default();
        memory.keep("demo", 1, 0);
        assert_eq!(memory.get(&"demo", 59_999), Some(1));
        assert_eq!(memory.get(&"demo", 60_000), None);
        assert_eq!(memory.last(&"demo"), Some(1));
        memory.forget();
        assert_eq!(memory.last(&"demo"), None);
    }

    #[test]
    fn the_number_of_answers_is_limited() {
        let mut memory = Memory::<_, _, 1000, 64>::default();
        for key in 0..64 {
            memory.keep(key, (), 0);
        }
        assert!(memory.get(&0, 999).is_some());
        memory.keep(64, (), 0);
        assert_eq!(memory.get(&0, 0), None);
        assert_eq!(memory.get(&64, 0), Some(()));
        assert_eq!(memory.get(&64, 1000), None);
    }
}
