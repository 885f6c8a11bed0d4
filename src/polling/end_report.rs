//! Parts of the answer that told a task's end, for webhooks.

use serde::Deserialize;
use serde_json::Value;

use super::tracked_task::TaskAnswer;
use crate::config::WebhookEndpoint;
use crate::dashscope::task_report::TaskReport;
use crate::store::{EndReport, MOST_OUTPUT_BYTES};

/// The parts that a tenant's endpoints tell of an answer, whose report was read; `None` for a tenant without any.
pub(super) fn report(
    answer: Option<&TaskAnswer>,
    read: Option<TaskReport>,
    endpoints: &[WebhookEndpoint],
) -> Option<EndReport> {
    let read = read.filter(|_| !endpoints.is_empty())?;
    let text = |field: Option<String>| field.unwrap_or_default().into();
    let tells_output = endpoints.iter().any(|endpoint| endpoint.includes_output);
    let output = answer.filter(|_| tells_output).and_then(|answer| output(&answer.body));
    Some(EndReport {
        request_id: text(read.request_id),
        ended_at: read.ended,
        code: text(read.code),
        message: text(read.message),
        output,
    })
}

/// The answer's `output`; `None` if it is too long to be told.
fn output(body: &[u8]) -> Option<Box<str>> {
    #[derive(Deserialize)]
    struct OutputAnswer {
        output: Value,
    }
    if body.len() > LONGEST_READ {
        return None;
    }
    let OutputAnswer { output } = serde_json::from_slice(body).ok()?;
    Some(output.to_string()).filter(|output| output.len() <= MOST_OUTPUT_BYTES).map(Box::from)
}

/// Answers that are longer have an output that is too long, but for one that is mostly escapes.
const LONGEST_READ: usize = 2 * MOST_OUTPUT_BYTES;
