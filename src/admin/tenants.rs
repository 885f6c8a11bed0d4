//! Tenants of the configuration.

use hyper::StatusCode;
use serde_json::{Value, json};

use super::Admin;
use super::name_page::{NamePage, PageQuery};
use super::problem::Problem;
use super::response::{AdminResponse, answer};
use crate::config::AsyncHeader;
use crate::dashscope::operation::Group;
use crate::tenant::directory::{Directory, Tenant};

impl Admin {
    pub(super) fn list_tenants(&self, query: &str) -> Result<AdminResponse, Problem> {
        let query = PageQuery::parse(query, &[])?;
        let directory = self.shared.directory.load_full();
        let mut page = NamePage::new(query.limit);
        for tenant in directory.tenants().iter().filter(|tenant| *tenant.name > *query.after) {
            page.add(&tenant.name, || describe(&directory, tenant));
        }
        let (tenants, next) = page.finish();
        Ok(answer(StatusCode::OK, &json!({ "tenants": tenants, "next": next })))
    }
}

fn describe(directory: &Directory, tenant: &Tenant) -> Value {
    let accounts: Vec<&str> = tenant.accounts.iter().map(|at| &*directory.accounts[*at].name).collect();
    let allow: Vec<&str> =
        Group::ALL.iter().filter(|group| tenant.allow.contains(**group)).map(|group| group.name()).collect();
    let async_header = match tenant.async_header {
        AsyncHeader::Require => "require",
        AsyncHeader::Add => "add",
    };
    json!({ "name": &*tenant.name, "accounts": accounts, "allow": allow, "async_header": async_header })
}
