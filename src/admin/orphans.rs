//! Orphans: tasks on the accounts' lists that no client was told of.

use hyper::StatusCode;
use serde_json::json;

use super::Admin;
use super::name_page::{NamePage, PageQuery};
use super::problem::Problem;
use super::response::{AdminResponse, answer, moment};

impl Admin {
    pub(super) fn list_orphans(&self, query: &str) -> Result<AdminResponse, Problem> {
        let query = PageQuery::parse(query, &[])?;
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
}
