//! The proof that a request was admitted.

use std::cell::Cell;

use crate::limits::LimitKind;
use crate::tenant::caller::Caller;
use crate::tenant::directory::{Directory, Tenant};

/// The proof that a request was admitted. Nothing is sent without one, and only `admit` makes one.
#[derive(Debug)]
pub(in crate::proxy) struct Permit {
    pub(super) caller: Caller,
    /// `X-DashScope-Async: enable` is added.
    pub(super) adds_async: Cell<bool>,
    /// The upstream will answer with a new task.
    pub(super) submits: Cell<bool>,
    /// The kind of limit that the request counts against.
    pub(super) kind: Cell<LimitKind>,
}

impl Permit {
    pub(in crate::proxy) fn tenant(&self) -> &Tenant {
        self.caller.tenant()
    }

    pub(in crate::proxy) fn caller(&self) -> &Caller {
        &self.caller
    }

    /// True if `X-DashScope-Async: enable` is added.
    pub(in crate::proxy) fn adds_async(&self) -> bool {
        self.adds_async.get()
    }

    /// True if the upstream will answer with a new task.
    pub(in crate::proxy) fn submits(&self) -> bool {
        self.submits.get()
    }

    pub(in crate::proxy) fn kind(&self) -> LimitKind {
        self.kind.get()
    }

    /// The snapshot of the configuration that holds for the request to its end.
    pub(in crate::proxy) fn directory(&self) -> &Directory {
        self.caller.directory()
    }
}
