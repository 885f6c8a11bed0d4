//! Digest of a body that passes.

use std::cell::RefCell;

use bytes::Bytes;
use hyper::body::Frame;
use sha2::{Digest, Sha256};

/// SHA-256 of what came of a body so far, where it is asked for.
#[derive(Debug, Default)]
pub struct BodyDigest(RefCell<Option<Box<Sha256>>>);

impl BodyDigest {
    /// Begins the digest with what was hashed already, before the first byte of the body.
    pub fn begin(&self, begun: Sha256) {
        self.0.replace(Some(Box::new(begun)));
    }

    pub(super) fn push(&self, frame: &Frame<Bytes>) {
        if let (Some(digest), Some(piece)) = (&mut *self.0.borrow_mut(), frame.data_ref()) {
            digest.update(piece);
        }
    }

    /// The digest so far; `None` if it was not asked for.
    pub fn so_far(&self) -> Option<[u8; 32]> {
        self.0.borrow().as_deref().map(|digest| digest.clone().finalize().into())
    }
}
