//! Final answers in memory, the oldest first: they take most of the memory of the poll hub.

use std::collections::VecDeque;
use std::sync::Arc;

/// Ids of the tasks whose final answer is in memory, each with the bytes that it holds.
#[derive(Debug, Default)]
pub(super) struct AnswerCache {
    answers: VecDeque<(Arc<str>, usize)>,
    bytes: usize,
}

impl AnswerCache {
    /// Adds an answer. Returns the ids of the answers that make room for it; the upstream is asked for them again if a
    /// client polls.
    pub(super) fn add(&mut self, id: Arc<str>, body_bytes: usize) -> Vec<Arc<str>> {
        let bytes = body_bytes + BESIDE_BYTES;
        self.answers.push_back((id, bytes));
        self.bytes += bytes;
        let mut evicted = Vec::new();
        while self.bytes > MOST_BYTES {
            let Some((id, bytes)) = self.answers.pop_front() else { break };
            self.bytes -= bytes;
            evicted.push(id);
        }
        evicted
    }
}

const MOST_BYTES: usize = 128 * 1024 * 1024;
/// Memory of an answer beside its body: id, header fields, and the entry here.
const BESIDE_BYTES: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_make_room() {
        let mut cache = AnswerCache::default();
        let large = MOST_BYTES / 2 - BESIDE_BYTES;
        assert!(cache.add("a".into(), large).is_empty());
        assert!(cache.add("b".into(), large).is_empty());
        assert_eq!(cache.add("c".into(), 10), ["a".into()]);
        assert_eq!(cache.add("d".into(), MOST_BYTES), ["b".into(), "c".into(), "d".into()]);
        assert_eq!(cache.bytes, 0);
    }
}
