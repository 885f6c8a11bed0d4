//! Reload of the configuration at the operator's request.

use std::sync::Arc;

use hyper::StatusCode;
use serde_json::{Value, json};

use super::Admin;
use super::problem::{Problem, fault};
use super::response::{AdminResponse, answer};
use crate::config::Difference;
use crate::lifecycle::reload::Reloaded;

impl Admin {
    pub(super) async fn reload(&self) -> Result<AdminResponse, Problem> {
        let reloads = self.reloads.as_ref().ok_or(Problem::NoFile)?;
        // The lock keeps a key from being created meanwhile: the reload may remove the key's tenant, or bring a key
        // with its id.
        let _turn = self.changing.lock().await;
        let outcome = reloads.reload().await.ok_or(Problem::ReloadBusy)?;
        let Reloaded { changes, needs_restart, warnings } = outcome.map_err(Problem::BadConfig)?;
        Ok(answer(
            StatusCode::OK,
            &json!({
                "status": "reloaded",
                "changes": {
                    "tenants": difference(&changes.tenants), "keys": difference(&changes.keys),
                    "accounts": difference(&changes.accounts), "mounts": difference(&changes.mounts),
                    "settings": changes.settings,
                },
                "needs_restart": needs_restart,
                "warnings": warnings.iter().map(fault).collect::<Vec<_>>(),
            }),
        ))
    }
}

fn difference(Difference { added, removed, changed }: &Difference) -> Value {
    let names = |names: &[Arc<str>]| names.iter().map(|name| Value::from(&**name)).collect::<Vec<_>>();
    json!({ "added": names(added), "removed": names(removed), "changed": names(changed) })
}
