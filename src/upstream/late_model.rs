//! Search for the model of a body behind the beginning that is kept: programs that sort keys name it after the media.

use std::cell::RefCell;

use bytes::Bytes;

use crate::dashscope::model_scan::ModelScanner;

/// The search in one body. It begins where the beginning ends, and only if no model stands there, so that a body that
/// names its model first is not searched.
#[derive(Debug, Default)]
pub(super) struct LateModel(RefCell<Option<Box<ModelScanner>>>);

impl LateModel {
    /// Begins the search, if the beginning of `length` bytes names no model. Nothing is sought if the kept pieces do not
    /// hold the beginning any more.
    pub(super) fn begin(&self, kept: &[Bytes], length: usize) {
        let (mut scanner, mut left) = (ModelScanner::default(), length);
        for piece in kept {
            let piece = &piece[..piece.len().min(left)];
            left -= piece.len();
            for part in piece.chunks(PART_BYTES) {
                scanner.push(part);
                if !scanner.seeks() {
                    return;
                }
            }
        }
        if left == 0 {
            self.0.replace(Some(Box::new(scanner)));
        }
    }

    /// Searches the next piece behind the beginning.
    pub(super) fn push(&self, piece: &[u8]) {
        if let Some(scanner) = self.0.borrow_mut().as_mut() {
            scanner.push(piece);
        }
    }

    /// True if the rest of the body may name the model.
    pub(super) fn seeks(&self) -> bool {
        self.0.borrow().as_ref().is_some_and(|scanner| scanner.seeks())
    }

    pub(super) fn found(&self) -> Option<Box<str>> {
        self.0.borrow().as_ref()?.model().map(Box::from)
    }
}

/// Part of the beginning that is read before the search looks whether it may end: in most bodies the model is the first
/// field.
const PART_BYTES: usize = 256;
