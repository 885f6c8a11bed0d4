//! Orphans: tasks on the accounts' lists that no client was told of.

use std::sync::Arc;

use bytes::Bytes;
use hyper::StatusCode;
use serde::Deserialize;
use serde_json::json;

use super::Admin;
use super::audit::AuditEntry;
use super::body;
use super::name_page::{NamePage, PageQuery};
use super::problem::Problem;
use super::response::{AdminResponse, answer, moment};
use crate::proxy::{AssignFault, Assigned, NamedOwner};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Assign {
    tenant: String,
    key_id: String,
}

impl Admin {
    pub(super) async fn list_orphans(&self, query: &str) -> Result<AdminResponse, Problem> {
        let query = PageQuery::parse(query, &[])?;
        self.shared.read_orphans().await;
        let mut page = NamePage::new(query.limit);
        for (account, orphans) in self.shared.hub.orphans() {
            for orphan in orphans {
                let name = format!("{account}/{}", orphan.task_id);
                if name > query.after {
                    page.add(&name, || {
                        json!({
                            "account": &*account, "task_id": &*orphan.task_id, "model": &*orphan.model,
                            "status": orphan.status.name(), "submitted_at": moment(orphan.created),
                            "own_key": orphan.has_own_key,
                        })
                    });
                }
            }
        }
        let (orphans, next) = page.finish();
        Ok(answer(StatusCode::OK, &json!({ "orphans": orphans, "next": next })))
    }

    /// Gives an orphan to a tenant. `names`: its account and its id, with a slash between them.
    pub(super) async fn assign_orphan(
        &self,
        names: &str,
        body: Result<Bytes, Problem>,
        entry: &mut AuditEntry,
    ) -> Result<AdminResponse, Problem> {
        let Assign { tenant, key_id } = body::parse(&body?)?;
        let (account, task_id) = names.split_once('/').unwrap_or((names, ""));
        let no_orphan = || Problem::NoSuchOrphan(task_id.to_owned());
        let owner = self.named_owner(&tenant, &key_id)?;
        (entry.tenant, entry.key_id) = (Some(tenant.clone()), Some(key_id.clone()));
        let directory = self.shared.directory.load_full();
        let index = directory.account_index(account).ok_or_else(no_orphan)?;
        let account = Arc::clone(&directory.accounts[index].name);
        let _turn = self.changing.lock().await;
        self.shared.read_orphans().await;
        let assigned = self.shared.assign(&account, task_id, owner).await;
        match assigned {
            Ok(Assigned::NoOrphan) => Err(no_orphan()),
            Ok(Assigned::Owned) => Err(Problem::TaskOwned(task_id.to_owned())),
            Ok(Assigned::Done) => {
                entry.task = Some(names.to_owned());
                let assigned =
                    json!({ "account": &*account, "task_id": task_id, "tenant": tenant, "key_id": key_id });
                Ok(answer(StatusCode::OK, &assigned))
            }
            Err(fault) => {
                entry.task = Some(names.to_owned());
                Err(match fault {
                    AssignFault::Unreadable(fault) => Problem::Unreadable(fault),
                    AssignFault::Commit(fault) => Problem::Unassured(fault),
                })
            }
        }
    }

    /// The tenant with one of its keys.
    fn named_owner(&self, tenant: &str, key_id: &str) -> Result<NamedOwner, Problem> {
        let directory = self.shared.directory.load();
        if !directory.has_tenant(tenant) {
            return Err(Problem::UnknownTenant(tenant.to_owned()));
        }
        let configured =
            directory.key_named(key_id).map(|(key, holder)| (Arc::clone(&key.id), Arc::clone(&holder.name)));
        let issued = || {
            let key = self.shared.keyring.named(key_id)?;
            Some((key_id.into(), self.tenant_of(&key)))
        };
        match configured.or_else(issued) {
            Some((key_id, holder)) if *holder == *tenant => Ok(NamedOwner { tenant: holder, key_id }),
            Some(_) | None => Err(Problem::BadField(
                "key_id",
                "must be a key of that tenant; `dashgate keys list` shows them".into(),
            )),
        }
    }
}
