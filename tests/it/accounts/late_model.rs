//! A body may name its model anywhere: behind the messages, as the Anthropic SDK and programs that sort keys write it.

use dashgate::sim::{FaultAction, ScriptedFault, ThrottlingKind};
use serde_json::json;

use super::{GENERATION, chat, simulator, submit, submit_of, task_id, three, throttled};
use crate::harness::{Account, Gateway, Message, TENANT_KEY, configuration, message};

fn late_chat(gateway: &Gateway, model: &str) -> Message {
    let fields = [&format!("Authorization: Bearer {TENANT_KEY}"), "Content-Type: application/json"];
    let long = "x".repeat(30_000);
    let body =
        format!(r#"{{"input":{{"messages":[{{"role":"user","content":"{long}"}}]}},"model":"{model}"}}"#);
    gateway.ask(message(&format!("POST {}", GENERATION), &fields, &body))
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

/// An account that was throttled for a model gets no more calls for it.
#[test]
fn the_next_call_for_it_goes_elsewhere() {
    let (gateway, simulators) = three();
    let busy = FaultAction::Throttle(ThrottlingKind::RateQuota);
    simulators[0].fault(ScriptedFault::on(&format!("POST {GENERATION}"), busy));
    let statuses: Vec<u16> = (0..12).map(|_| late_chat(&gateway, "qwen-max").status()).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 429).count(), 1, "{statuses:?}");
    assert_eq!(simulators[0].requests().len(), 1);
}

#[test]
fn a_tenant_that_may_use_some_models_may_name_them_late() {
    let simulator = simulator(&["sk-east"]);
    let accounts: [Account<'_>; 1] = [("east", simulator.address(), &["sk-east"], "")];
    let text = configuration("listen = \"127.0.0.1:0\"", &accounts, "models = [\"qwen-*\"]");
    let gateway = Gateway::configured(&text);
    assert_eq!(late_chat(&gateway, "qwen-max").status(), 200);
    let refused = late_chat(&gateway, "deepseek-v3");
    assert_eq!(refused.field("x-dashgate-reason").as_deref(), Some("model_not_allowed"));
    assert_eq!(simulator.requests().len(), 1);
}

#[test]
fn the_record_of_its_task_names_it() {
    let (gateway, _simulators) = three();
    let late = json!({ "input": { "prompt": "x".repeat(40_000) }, "model": "wan2.7-t2v" }).to_string();
    assert!(late.find("model") > Some(40_000));
    let id = task_id(&gateway.ask(submit_of(&late)));
    let task = gateway.administer("GET /admin/tasks", "").json();
    let named = task["tasks"].as_array().expect("tasks").iter().find(|task| task["id"] == *id);
    assert_eq!(named.map(|task| &task["model"]), Some(&json!("wan2.7-t2v")));
}
