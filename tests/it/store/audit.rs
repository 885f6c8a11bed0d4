//! Rows of the audit are kept for 400 days.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use dashgate::store::{AuditQuery, AuditRecord, Change, Outcome, Store};

use super::{place, wait};
use crate::harness::eventually;

const DAY: Duration = Duration::from_secs(24 * 3600);

fn note(store: &Store, at: SystemTime, object: &str) {
    let record = AuditRecord::without_token(None, at, "test", object.to_owned(), "{}".to_owned());
    assert_eq!(wait(store.commit(Change::Audit(Arc::new(record)))), Ok(Outcome::Made));
}

fn objects(store: &Store) -> Vec<String> {
    let query = AuditQuery { limit: 1000, ..AuditQuery::default() };
    store.audit(&query).unwrap().into_iter().map(|(_, record)| record.object.into()).collect()
}

#[test]
fn rows_go_after_400_days_and_outlive_a_restart_until_then() {
    let place = place();
    let store = place.open();
    let now = SystemTime::now();
    note(&store, now - 401 * DAY, "old");
    note(&store, now - 399 * DAY, "young");
    note(&store, now, "new");
    assert_eq!(objects(&store), ["new", "young", "old"]);
    store.tidy(now);
    eventually("the old row goes", || objects(&store) == ["new", "young"]);
    store.close();
    assert_eq!(objects(&place.open()), ["new", "young"]);
}
