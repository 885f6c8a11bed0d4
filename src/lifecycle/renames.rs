//! Renames of tenants that the configuration asks for. They are durable before the configuration is in force.

use std::io;
use std::sync::Arc;
use std::thread;

use tokio::runtime::Builder;

use crate::config::{Config, Fault, TenantSettings};
use crate::store::{CommitFault, FormerNames, Store};

/// A former name of a tenant, and the tenant's new name.
type Rename = (Arc<str>, Arc<str>);

/// Makes the renames that are not made yet. Blocks.
///
/// # Errors
/// Renames that contradict earlier ones, of which nothing is made then; or why a rename can't be written.
pub fn make(config: &Config, store: &Store) -> Result<(), Vec<Fault>> {
    let names = store.tenant_names().load();
    let (mut faults, mut wanted) = (Vec::new(), Vec::new());
    for (number, tenant) in config.tenants.iter().enumerate() {
        let fault = |(field, problem, hint): (&str, String, String)| Fault {
            position: None,
            path: format!("tenants[{number}].{field}"),
            problem,
            hint,
        };
        match rename(tenant, &names) {
            Ok(rename) => wanted.extend(rename),
            Err(found) => faults.push(fault(found)),
        }
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    if wanted.is_empty() {
        return Ok(());
    }
    // The caller's thread may run a runtime, which can't wait for another one.
    let written = thread::scope(|scope| scope.spawn(|| write(store, &wanted)).join());
    match written.unwrap_or_else(|_| Err(io::Error::other("the rename panicked").to_string())) {
        Ok(()) => Ok(()),
        Err(problem) => Err(vec![Fault {
            position: None,
            path: "tenants".to_owned(),
            problem: format!("a tenant can't be renamed: {problem}"),
            hint: "nothing is lost: mend the store, and load the configuration again".to_owned(),
        }]),
    }
}

/// The rename that a tenant asks for, if it is not made yet.
///
/// # Errors
/// The field that contradicts an earlier rename, the problem, and a hint.
fn rename(
    tenant: &TenantSettings,
    names: &FormerNames,
) -> Result<Option<Rename>, (&'static str, String, String)> {
    let former = tenant.renamed_from.as_ref();
    if let Some(successor) = names.successor(&tenant.name)
        && former != Some(successor)
    {
        return Err((
            "name",
            format!(
                "the tenant of this name was renamed to `{successor}`, whose tasks and entries bear it still"
            ),
            format!(
                "choose another name; if that tenant gets its old name back, write renamed_from = \"{successor}\""
            ),
        ));
    }
    let Some(former) = former else { return Ok(None) };
    match names.successor(former) {
        Some(successor) if *successor == tenant.name => Ok(None),
        Some(successor) => Err((
            "renamed_from",
            format!("the tenant of this name was renamed to `{successor}` already"),
            format!("write renamed_from = \"{successor}\", if this tenant is to have all that one has"),
        )),
        None => Ok(Some((Arc::clone(former), Arc::clone(&tenant.name)))),
    }
}

fn write(store: &Store, wanted: &[Rename]) -> Result<(), String> {
    let runtime = Builder::new_current_thread().enable_time().build().map_err(|error| error.to_string())?;
    for (former, name) in wanted {
        let mut tries = 0;
        let is_made = loop {
            tries += 1;
            match runtime.block_on(store.rename(former, name)) {
                Ok(is_made) => break is_made,
                // The rows of a large store take longer than a usual change.
                Err(CommitFault::Unclear(_)) if tries < MOST_TRIES => {}
                Err(fault) => return Err(fault.to_string()),
            }
        };
        if !is_made {
            return Err(format!("another process renamed `{former}` or `{name}` meanwhile"));
        }
        tracing::info!("the tenant `{former}` is `{name}` now, with all that it has");
    }
    Ok(())
}

/// Times that a rename is waited for, each as long as a usual change may take.
const MOST_TRIES: u32 = 12;
