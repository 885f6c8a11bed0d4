//! Alibaba accounts: the health of each, and when a resting account, key or model will be tried again. Keys are named
//! by their position, as in logs.

use std::time::Instant;

use hyper::StatusCode;
use serde_json::{Value, json};

use super::Admin;
use super::name_page::{NamePage, PageQuery};
use super::problem::Problem;
use super::response::{AdminResponse, answer};
use crate::account::{Account, Resting};

impl Admin {
    pub(super) fn list_accounts(&self, query: &str) -> Result<AdminResponse, Problem> {
        let query = PageQuery::parse(query, &[])?;
        let (directory, now) = (self.shared.directory.load_full(), Instant::now());
        let mut page = NamePage::new(query.limit);
        for account in directory.accounts.iter().filter(|account| *account.name > *query.after) {
            page.add(&account.name, || describe(account, now));
        }
        let (accounts, next) = page.finish();
        Ok(answer(StatusCode::OK, &json!({ "accounts": accounts, "next": next })))
    }
}

fn describe(account: &Account, now: Instant) -> Value {
    let status = account.status(now);
    let key =
        |(place, resting): (usize, &Option<Resting>)| json!({ "key": place + 1, "resting": rest(*resting) });
    let model =
        |(model, resting): &(Box<str>, Resting)| json!({ "model": model, "resting": rest(Some(*resting)) });
    json!({
        "name": &*status.name,
        "host": String::from_utf8_lossy(account.address.host.as_bytes()),
        "weight": status.weight,
        "resting": rest(status.resting),
        "keys": status.keys.iter().enumerate().map(key).collect::<Vec<_>>(),
        "models": status.models.iter().map(model).collect::<Vec<_>>(),
    })
}

/// Null where nothing rests. With no seconds left, the next request is a trial.
fn rest(resting: Option<Resting>) -> Value {
    let shown = |Resting { cause, left }| json!({ "cause": cause.name(), "seconds_left": left.as_secs_f64().ceil() as u64 });
    resting.map_or(Value::Null, shown)
}
