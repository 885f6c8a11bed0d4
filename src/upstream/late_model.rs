//! Search for the model of a body behind the beginning that is kept: programs that sort keys name it after the media.

use std::cell::{Cell, RefCell};

use bytes::Bytes;

use crate::dashscope::model_scan::ModelScanner;

/// The search in one body. It begins where the beginning ends, and only if no model stands there, so that a body that
/// names its model first is not searched; unless the last of several models is sought.
#[derive(Debug, Default)]
pub(super) struct LateModel {
    scanner: RefCell<Option<Box<ModelScanner>>>,
    /// The last of several models is sought, so the whole body is searched.
    seeks_last: Cell<bool>,
}

impl LateModel {
    /// Has the whole body be searched for the last of several models.
    pub(super) fn seek_last(&self) {
        self.seeks_last.set(true);
    }

    /// Begins the search, if the beginning of `length` bytes names no model. Nothing is sought if the kept pieces do not
    /// hold the beginning any more.
    pub(super) fn begin(&self, kept: &[Bytes], length: usize) {
        let (mut scanner, mut left) = (ModelScanner::default(), length);
        for piece in kept {
            let piece = &piece[..piece.len().min(left)];
            left -= piece.len();
            for part in piece.chunks(PART_BYTES) {
                scanner.push(part);
                if !scanner.seeks() && !self.seeks_last.get() {
                    return;
                }
            }
        }
        if left == 0 {
            self.scanner.replace(Some(Box::new(scanner)));
        }
    }

    /// Searches the next piece behind the beginning.
    pub(super) fn push(&self, piece: &[u8]) {
        if let Some(scanner) = self.scanner.borrow_mut().as_mut() {
            scanner.push(piece);
        }
    }

    /// True if the rest of the body may name the model.
    pub(super) fn seeks(&self) -> bool {
        self.scanner.borrow().as_ref().is_some_and(|scanner| scanner.seeks())
    }

    pub(super) fn found(&self) -> Option<Box<str>> {
        self.scanner.borrow().as_ref()?.model().map(Box::from)
    }

    /// True if what is found is the last model of all that came.
    pub(super) fn is_last(&self) -> bool {
        self.seeks_last.get() && self.scanner.borrow().is_some()
    }
}

/// Part of the beginning that is read before the search looks whether it may end: in most bodies the model is the first
/// field.
const PART_BYTES: usize = 256;
