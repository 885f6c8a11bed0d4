//! Tasks by the ids of the requests that submitted them.

use std::time::SystemTime;

use super::database::Database;
use super::fault::Result;
use super::value::values;
use crate::store::record::RequestIds;
use crate::store::timestamp::milliseconds;
use crate::store::{Store, StoreFault};

impl Store {
    /// The ids of tasks that a request has submitted, by our id of the request or by DashScope's. Blocks.
    ///
    /// # Errors
    /// Why the store can't be read.
    pub fn tasks_of_request(&self, request: &str) -> std::result::Result<Vec<Box<str>>, StoreFault> {
        self.read(|database| of_request(database, request))
    }

    /// The ids of the request that submitted a task; `None` where none is recorded. Blocks.
    ///
    /// # Errors
    /// Why the store can't be read.
    pub fn request_of_task(
        &self,
        id: &str,
        claimed_at: SystemTime,
    ) -> std::result::Result<Option<RequestIds>, StoreFault> {
        self.read(|database| request_ids(database, id, claimed_at))
    }
}

fn of_request(database: Database<'_>, request: &str) -> Result<Vec<Box<str>>> {
    let mut found: Vec<Box<str>> = Vec::new();
    for select in [by("request_id"), by("upstream_request_id")] {
        for id in database.all(&select, values![request], |row| Ok(Box::<str>::from(row.text(0)?)))? {
            if !found.contains(&id) {
                found.push(id);
            }
        }
    }
    Ok(found)
}

fn request_ids(database: Database<'_>, id: &str, claimed_at: SystemTime) -> Result<Option<RequestIds>> {
    let select = "SELECT request_id, upstream_request_id FROM tasks
                  WHERE claimed_at = ?1 AND id = ?2 AND request_id IS NOT NULL LIMIT 1";
    database.first(select, values![milliseconds(claimed_at), id], |row| {
        Ok(RequestIds { own: row.text(0)?.into(), upstream: row.text_or_null(1)?.map(Box::from) })
    })
}

/// Looks into the index once for each minute that has a task: 2,880 at most, as tasks are kept for two days.
fn by(column: &str) -> String {
    format!(
        "WITH RECURSIVE minutes (minute) AS (
             SELECT (SELECT min(claimed_at) FROM tasks) / 60000
             UNION ALL
             SELECT (SELECT min(claimed_at) FROM tasks WHERE claimed_at >= (minutes.minute + 1) * 60000) / 60000
             FROM minutes WHERE minutes.minute IS NOT NULL
         )
         SELECT tasks.id FROM minutes CROSS JOIN tasks
         WHERE tasks.claimed_at / 60000 = minutes.minute AND tasks.{column} = ?1 LIMIT {MOST}"
    )
}

/// Tasks of one request at most.
const MOST: usize = 16;

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;
    use crate::store::embedded::schema;

    #[test]
    fn tasks_are_found_by_an_index_alone() {
        let mut connection = Connection::open_in_memory().expect("memory");
        schema::migrate(&mut connection).expect("tables");
        for (column, index) in
            [("request_id", "tasks_by_request"), ("upstream_request_id", "tasks_by_upstream_request")]
        {
            let mut explain =
                connection.prepare(&format!("EXPLAIN QUERY PLAN {}", by(column))).expect("a statement");
            let steps = explain.raw_query().mapped(|row| row.get::<_, String>("detail"));
            let steps: Vec<String> = steps.collect::<rusqlite::Result<_>>().expect("a plan");
            let found = format!("SEARCH tasks USING INDEX {index} (<expr>=? AND {column}=?)");
            assert!(steps.contains(&found), "{steps:#?}");
            assert!(!steps.iter().any(|step| step.starts_with("SCAN tasks")), "{steps:#?}");
        }
    }
}
