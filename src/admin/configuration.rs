//! The configuration as loaded, without secrets, and the faults of a file that was refused.

use hyper::StatusCode;
use serde_json::{Value, json};

use super::Admin;
use super::problem::{Problem, fault};
use super::response::{AdminResponse, answer, moment};
use crate::config::Fault;
use crate::lifecycle::config_view::ConfigView;

impl Admin {
    pub(super) fn show_configuration(&self) -> Result<AdminResponse, Problem> {
        let view = self.reloads.as_ref().ok_or(Problem::NoFile)?.view();
        let ConfigView { file, loaded_at, written, warnings, needs_restart, refused } = &*view;
        let faults = |faults: &[Fault]| faults.iter().map(fault).collect::<Vec<Value>>();
        let refused = refused
            .as_ref()
            .map(|refused| json!({ "at": moment(refused.at), "faults": faults(&refused.faults) }));
        Ok(answer(
            StatusCode::OK,
            &json!({
                "file": file.display().to_string(), "loaded_at": moment(*loaded_at), "settings": **written,
                "warnings": faults(warnings), "needs_restart": needs_restart, "refused": refused,
            }),
        ))
    }
}
