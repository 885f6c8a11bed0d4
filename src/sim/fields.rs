//! Checks of single fields of an input or of parameters.

use serde_json::Value;

use super::errors::ErrorAnswer;

pub(super) type Checked = Result<(), ErrorAnswer>;

/// Checks that are common to all video models.
pub(super) fn common(parameters: &Value) -> Checked {
    boolean(parameters, "prompt_extend")?;
    boolean(parameters, "watermark")?;
    integer(parameters, "seed", 0, i64::from(i32::MAX))?;
    integer(parameters, "duration", -1, 60)
}

pub(super) fn string(fields: &Value, name: &str, required: bool) -> Checked {
    match &fields[name] {
        Value::String(text) if required && text.is_empty() => {
            Err(ErrorAnswer::parameter(format!("{name} must not be empty.")))
        }
        Value::String(_) => Ok(()),
        Value::Null if required => Err(ErrorAnswer::parameter(format!("input must contain {name}."))),
        Value::Null => Ok(()),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            Err(ErrorAnswer::parameter(format!("{name} must be a string.")))
        }
    }
}

pub(super) fn url(fields: &Value, name: &str, required: bool) -> Checked {
    string(fields, name, required)?;
    if fields[name].is_null() { Ok(()) } else { check_url(name, &fields[name]) }
}

pub(super) fn check_url(name: &str, value: &Value) -> Checked {
    let known = ["http://", "https://", "oss://", "data:"];
    let text = value.as_str().unwrap_or_default();
    if known.iter().any(|scheme| text.starts_with(scheme)) {
        return Ok(());
    }
    Err(ErrorAnswer::parameter(format!("{name} must be a valid URL.")))
}

pub(super) fn boolean(fields: &Value, name: &str) -> Checked {
    match &fields[name] {
        Value::Null | Value::Bool(_) => Ok(()),
        Value::Number(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => {
            Err(ErrorAnswer::parameter(format!("{name} must be a boolean.")))
        }
    }
}

/// An integer between two bounds; `"5"` and `5.0` are none.
pub(super) fn integer(fields: &Value, name: &str, least: i64, most: i64) -> Checked {
    let value = &fields[name];
    if value.is_null() {
        return Ok(());
    }
    match value.as_i64() {
        Some(number) if (least..=most).contains(&number) => Ok(()),
        Some(_) => Err(ErrorAnswer::parameter(format!("{name} must be between {least} and {most}."))),
        None => Err(ErrorAnswer::parameter(format!("{name} must be an integer."))),
    }
}

pub(super) fn one_of(fields: &Value, name: &str, values: &[&str]) -> Checked {
    let value = &fields[name];
    if value.is_null() || value.as_str().is_some_and(|text| values.contains(&text)) {
        return Ok(());
    }
    Err(ErrorAnswer::parameter(format!("{name} must be one of {}, but is {value}.", values.join(", "))))
}
