//! Bill of the simulator: what DashScope would charge, in a line for each task that ended and each call.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Map, Value, json};

use super::consumption::Consumption;

/// The last lines, shared by all that write them.
#[derive(Clone)]
pub(super) struct SimulatedBill(Arc<Mutex<BillLines>>);

struct BillLines {
    lines: VecDeque<BillLine>,
    kept_bytes: usize,
    most_bytes: usize,
    /// Number of lines that found no room any more.
    dropped: u64,
}

/// A line as JSON text.
enum BillLine {
    Task(String),
    Call(String),
}

impl BillLine {
    fn text(&self) -> &str {
        match self {
            BillLine::Task(text) | BillLine::Call(text) => text,
        }
    }

    fn kept_bytes(&self) -> usize {
        self.text().len() + size_of::<BillLine>()
    }
}

/// A task or a call, and who pays for it.
#[derive(Clone, Debug)]
pub(super) struct BilledWork {
    /// The id of the task or of the request.
    pub(super) id: String,
    pub(super) model: String,
    pub(super) account: String,
}

impl SimulatedBill {
    pub(super) fn new(most_bytes: usize) -> SimulatedBill {
        let lines = BillLines { lines: VecDeque::new(), kept_bytes: 0, most_bytes, dropped: 0 };
        SimulatedBill(Arc::new(Mutex::new(lines)))
    }

    /// Writes the line of a task that ended. Only one that succeeded has used something.
    pub(super) fn write_task(&self, work: &BilledWork, status: &str, used: Option<&Consumption>) {
        let mut line = charge(work, used);
        line["task_id"] = work.id.as_str().into();
        line["status"] = status.into();
        self.0.lock().push(BillLine::Task(line.to_string()));
    }

    /// Writes the line of a call.
    pub(super) fn write_call(&self, work: &BilledWork, used: &Consumption) {
        let mut line = charge(work, Some(used));
        line["request_id"] = work.id.as_str().into();
        self.0.lock().push(BillLine::Call(line.to_string()));
    }

    /// The bill as JSON text, the oldest lines first.
    pub(super) fn page(&self) -> String {
        let bill = self.0.lock();
        let mut page = String::with_capacity(bill.kept_bytes + bill.lines.len() + 64);
        let join = |page: &mut String, lines: &mut dyn Iterator<Item = &BillLine>| {
            for (number, line) in lines.enumerate() {
                page.push_str(if number > 0 { "," } else { "" });
                page.push_str(line.text());
            }
        };
        page.push_str("{\"tasks\":[");
        join(&mut page, &mut bill.lines.iter().filter(|line| matches!(line, BillLine::Task(_))));
        page.push_str("],\"calls\":[");
        join(&mut page, &mut bill.lines.iter().filter(|line| matches!(line, BillLine::Call(_))));
        page.push_str(&format!("],\"dropped\":{}}}", bill.dropped));
        page
    }
}

impl BillLines {
    fn push(&mut self, line: BillLine) {
        self.kept_bytes += line.kept_bytes();
        self.lines.push_back(line);
        while self.kept_bytes > self.most_bytes {
            let Some(oldest) = self.lines.pop_front() else { break };
            self.kept_bytes -= oldest.kept_bytes();
            self.dropped += 1;
        }
    }
}

fn charge(work: &BilledWork, used: Option<&Consumption>) -> Value {
    let mut line = json!({
        "model": work.model, "account": work.account, "usage": null, "units": Map::new(), "class": "",
    });
    if let Some(used) = used {
        line["usage"] = used.usage();
        line["units"] = used.units().into();
        line["class"] = used.class().into();
    }
    line
}

/// Room for about 1,500,000 lines. A run without many tasks never has them.
pub(super) const KEPT_BYTES: usize = 512 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn work(id: &str) -> BilledWork {
        BilledWork { id: id.into(), model: "m".into(), account: "a".into() }
    }

    #[test]
    fn tasks_and_calls_have_lines_of_their_own() {
        let bill = SimulatedBill::new(10_000);
        bill.write_task(&work("t"), "FAILED", None);
        bill.write_call(&work("r"), &Consumption::Characters(5));
        let page: Value = serde_json::from_str(&bill.page()).unwrap();
        let task = json!({"task_id": "t", "model": "m", "account": "a", "status": "FAILED", "usage": null,
            "units": {}, "class": ""});
        let call = json!({"request_id": "r", "model": "m", "account": "a", "usage": {"characters": 5},
            "units": {"character": "5.000"}, "class": ""});
        assert_eq!(page, json!({"tasks": [task], "calls": [call], "dropped": 0}));
    }

    #[test]
    fn the_oldest_lines_make_room_and_are_counted() {
        let bill = SimulatedBill::new(500);
        (0..20).for_each(|number| bill.write_task(&work(&number.to_string()), "FAILED", None));
        let page: Value = serde_json::from_str(&bill.page()).unwrap();
        let kept = page["tasks"].as_array().unwrap();
        assert_eq!(kept[kept.len() - 1]["task_id"], "19");
        assert!((1..10).contains(&kept.len()), "{page}");
        assert_eq!(page["dropped"], 20 - kept.len());
    }
}
