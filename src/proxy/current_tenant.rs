//! The settings of an exchange's tenant as they stand now: a WebSocket may be open for days.

use arc_swap::ArcSwap;

use crate::tenant::directory::{Directory, Tenant};

/// The tenant of an exchange.
#[derive(Debug, Clone, Copy)]
pub(super) struct CurrentTenant<'a> {
    admitted: &'a Tenant,
    directory: Option<&'a ArcSwap<Directory>>,
}

impl<'a> CurrentTenant<'a> {
    /// `admitted`: the settings at the begin of the exchange, which hold where there is no directory, or where it has no
    /// such tenant any more.
    pub(super) const fn new(admitted: &'a Tenant, directory: Option<&'a ArcSwap<Directory>>) -> Self {
        Self { admitted, directory }
    }

    /// Passes the settings on.
    pub(super) fn with<T>(self, then: impl FnOnce(&Tenant) -> T) -> T {
        let directory = self.directory.map(ArcSwap::load);
        let current = directory.as_ref().and_then(|directory| directory.successor(self.admitted));
        then(current.unwrap_or(self.admitted))
    }
}
