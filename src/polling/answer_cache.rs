//! The finished answers that are kept, oldest first: they are what takes most memory.

use std::collections::VecDeque;
use std::sync::Arc;

/// Ids and the bytes that each holds.
#[derive(Debug, Default)]
pub(super) struct AnswerCache {
    answers: VecDeque<(Arc<str>, usize)>,
    bytes: usize,
}

impl AnswerCache {
    /// Keeps another one; those that have no room any more are returned, and are asked for again if a client
    /// wants them.
    pub(super) fn keep(&mut self, id: Arc<str>, body_bytes: usize) -> Vec<Arc<str>> {
        let bytes = body_bytes + BESIDE_BYTES;
        self.answers.push_back((id, bytes));
        self.bytes += bytes;
        let mut pushed_out = Vec::new();
        while self.bytes > MOST_BYTES {
            let Some((id, bytes)) = self.answers.pop_front() else { break };
            self.bytes -= bytes;
            pushed_out.push(id);
        }
        pushed_out
    }
}

const MOST_BYTES: usize = 128 * 1024 * 1024;
/// Its id, its header fields and its place.
const BESIDE_BYTES: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_make_room() {
        let mut kept = AnswerCache::default();
        let large = MOST_BYTES / 2 - BESIDE_BYTES;
        assert!(kept.keep("a".into(), large).is_empty());
        assert!(kept.keep("b".into(), large).is_empty());
        assert_eq!(kept.keep("c".into(), 10), ["a".into()]);
        assert_eq!(kept.keep("d".into(), MOST_BYTES), ["b".into(), "c".into(), "d".into()]);
        assert_eq!(kept.bytes, 0);
    }
}
