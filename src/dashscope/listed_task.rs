//! One task of `GET tasks` with the fields that tell its origin: when it was made, of which model, and by which key.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess};

use super::lenient_json::{FieldReader, Fields, LenientText, LenientWhole};
use super::task::Status;

/// One task on a page. A row that can't be read, which must not hide the others, has an empty id.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct ListedTask {
    pub task_id: Box<str>,
    /// Empty where the row names none.
    pub model: Box<str>,
    /// Time at which DashScope made the task, by its own clock.
    pub created: Option<SystemTime>,
    /// Number of the upstream key that made the task; empty where the row names none.
    pub api_key_id: Box<str>,
    pub status: Option<Status>,
}

impl<'de> Deserialize<'de> for ListedTask {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut row = Self::default();
        Fields(&mut row).deserialize(deserializer)?;
        Ok(row)
    }
}

impl<'de> FieldReader<'de> for ListedTask {
    fn read<A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        let mut text = || map.next_value::<LenientText<'_>>().map(|text| text.0.unwrap_or_default());
        match key {
            "task_id" => self.task_id = text()?.into(),
            "model_name" => self.model = text()?.into(),
            "api_key_id" => self.api_key_id = text()?.into(),
            "status" => self.status = Some(Status::written(&text()?)),
            "gmt_create" => self.created = map.next_value::<LenientWhole>()?.0.and_then(since_1970),
            _ => drop(map.next_value::<IgnoredAny>()?),
        }
        Ok(())
    }
}

/// The time that is so many milliseconds after 1970.
fn since_1970(milliseconds: u64) -> Option<SystemTime> {
    UNIX_EPOCH.checked_add(Duration::from_millis(milliseconds))
}

/// The query for one page of all tasks of the last 24 hours, newest first.
pub fn query(page: usize, page_size: usize) -> String {
    format!("page_no={page}&page_size={page_size}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dashscope::task_list::TaskPage;

    #[test]
    fn a_row_tells_where_a_task_is_from() {
        let body = br#"{"total":3,"page_size":10,"data":[
            {"api_key_id":"1","gmt_create":1745,"model_name":"m","status":"SUCCEEDED","task_id":"a"},
            {"api_key_id":7,"gmt_create":"1745","status":null,"task_id":"b"},
            null]}"#;
        let page: TaskPage<ListedTask> = TaskPage::read(body).expect("a page");
        let created = UNIX_EPOCH + Duration::from_millis(1745);
        let first = ListedTask {
            task_id: "a".into(),
            model: "m".into(),
            created: Some(created),
            api_key_id: "1".into(),
            status: Some(Status::Succeeded),
        };
        assert_eq!(page.data[0], first);
        assert_eq!((&*page.data[1].task_id, page.data[1].created), ("b", Some(created)));
        assert_eq!(page.data[2], ListedTask::default());
    }
}
