//! A body may name its model anywhere: behind the messages, as the Anthropic SDK and programs that sort keys write it.

use super::{ThrottlingKind, chat, submit, task_id, three, throttled};
use crate::harness::{Gateway, Message, TENANT_KEY, message};

fn late_chat(gateway: &Gateway, model: &str) -> Message {
    let fields = [&format!("Authorization: Bearer {TENANT_KEY}"), "Content-Type: application/json"];
    let long = "x".repeat(30_000);
    let body =
        format!(r#"{{"input":{{"messages":[{{"role":"user","content":"{long}"}}]}},"model":"{model}"}}"#);
    gateway.ask(message(&format!("POST {}", super::GENERATION), &fields, &body))
}

/// A 429 made every model rest that was not known, at all accounts, for a minute.
#[test]
fn a_429_for_one_stops_no_other() {
    let (gateway, simulators) = three();
    simulators.iter().for_each(|simulator| simulator.throttle(throttled(ThrottlingKind::RateQuota)));
    for _ in 0..3 {
        let got = late_chat(&gateway, "qwen-max");
        assert_eq!((got.status(), got.field("x-dashgate-reason")), (429, None));
    }
    simulators.iter().for_each(|simulator| simulator.throttle(None));
    for _ in 0..3 {
        assert_eq!(late_chat(&gateway, "qwen-plus").status(), 200);
        assert_eq!(chat(&gateway).status(), 200);
        task_id(&submit(&gateway));
    }
}
