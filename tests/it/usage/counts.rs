//! Metrics of use: each entry is counted once, under labels that no request can add to.

use serde_json::json;

use super::calls::{answering, ask_chat};
use super::{SUBMIT, upstream};
use crate::harness::{Gateway, TENANT_KEY, answer, message};
use crate::metrics::Page;

fn units(page: &Page, model: &str, unit: &str, class: &str) -> f64 {
    page.value(&format!(
        "dashgate_usage_units_total{{tenant=\"one\",model=\"{model}\",unit=\"{unit}\",class=\"{class}\"}}"
    ))
}

#[test]
fn calls_are_counted_and_a_use_that_is_not_understood_is_told() {
    const READ: &str = r#"{"usage":{"prompt_tokens":30,"completion_tokens":20,"total_tokens":50}}"#;
    const STRANGE: &str = r#"{"usage":{"moons":3}}"#;
    for (body, input, output, unread) in [(READ, 60.0, 40.0, 0.0), (STRANGE, 0.0, 0.0, 2.0)] {
        let (_upstream, gateway) = answering(answer("200 OK", &[], body));
        ask_chat(&gateway);
        ask_chat(&gateway);
        let page = Page::of(&gateway);
        let tokens = ["input_token", "output_token"].map(|unit| units(&page, "other", unit, "none"));
        assert_eq!(tokens, [input, output]);
        assert_eq!(page.value("dashgate_usage_unread_total{model=\"other\"}"), unread);
    }
}

#[test]
fn the_end_of_a_task_is_counted_once_however_often_it_is_asked_for() {
    let upstream = upstream();
    let gateway = Gateway::with(upstream.address, "", r#"models = ["wan2.7-*", "*"]"#);
    let key = format!("Authorization: Bearer {TENANT_KEY}");
    for id in ["fraction", "strange", "planted"] {
        let body = json!({"model": "wan2.7-i2v", "id": id}).to_string();
        gateway.ask(message(SUBMIT, &[&key, "X-DashScope-Async: enable"], &body));
        for _ in 0..3 {
            gateway.ask(message(&format!("GET /wan/v1/tasks/{id}"), &[&key], ""));
        }
    }
    let page = Page::of(&gateway);
    assert_eq!(units(&page, "wan2.7-*", "video_second", "720P"), 10.04);
    assert_eq!(units(&page, "wan2.7-*", "input_video_second", "720P"), 5.0);
    assert_eq!(units(&page, "wan2.7-*", "video_second", "480P"), 5.0);
    assert_eq!(page.sum("dashgate_usage_units_total", &["unit=\"video_second\""]), 15.04);
    assert_eq!(page.value("dashgate_usage_unread_total{model=\"wan2.7-*\"}"), 1.0);
}
