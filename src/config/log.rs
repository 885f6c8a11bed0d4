//! The table `[log]` of the access log and the diagnostics, as written and checked.

use super::node::Node;
use super::reader::{ConfigReader, Located, Text, ValueFault};
use super::scalar::one_of;
use super::{LogFormat, LogSettings, LogTarget};

/// `[log]` as written.
#[derive(Default)]
pub(super) struct RawLog {
    access: Option<Text>,
    format: Option<Text>,
    sample: Option<Located<f64>>,
    diagnostics: Option<Text>,
}

pub(super) fn read(node: Node<'_>) -> Option<RawLog> {
    let mut table = node.table("write [log]")?;
    let mut text = |name, hint| table.field(name).and_then(|node| node.string(hint));
    let access = text("access", "write it like \"stdout\" or \"/var/log/dashgate/access.log\"");
    let format = text("format", "write it like \"json\"");
    let sample = table.field("sample").and_then(|node| {
        node.decimal(0.0..=1.0, "must be from 0.0 to 1.0", "1.0 logs every exchange, 0.1 one of ten")
    });
    let diagnostics = table.field("diagnostics").and_then(|node| node.string("write it like \"json\""));
    table.finish();
    Some(RawLog { access, format, sample, diagnostics })
}

pub(super) fn check(reader: &ConfigReader<'_>, file: &RawLog) -> LogSettings {
    let default = LogSettings::default();
    let formats = [("json", LogFormat::Json), ("text", LogFormat::Text)];
    LogSettings {
        access: reader.setting(&file.access, target, default.access),
        format: reader.setting(&file.format, |text| one_of(text, &formats), default.format),
        diagnostics: reader.setting(&file.diagnostics, |text| one_of(text, &formats), default.diagnostics),
        sample: file.sample.as_ref().map_or(default.sample, |sample| sample.value),
    }
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { access: LogTarget::Stdout, format: LogFormat::Json, sample: 1.0, diagnostics: LogFormat::Text }
    }
}

/// A slash distinguishes the path of a file from a misspelt word.
fn target(text: &str) -> Result<LogTarget, ValueFault> {
    if text.contains('/') && !text.ends_with('/') {
        return Ok(LogTarget::File(text.into()));
    }
    let words = [("stdout", LogTarget::Stdout), ("stderr", LogTarget::Stderr), ("off", LogTarget::Off)];
    if let Some((_, target)) = words.into_iter().find(|(word, _)| *word == text) {
        return Ok(target);
    }
    Err(ValueFault::new(
        "is neither \"stdout\", \"stderr\", \"off\", nor the path of a file",
        "a path has a slash in it, like \"./access.log\"",
    ))
}
