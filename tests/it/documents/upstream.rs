//! A gateway before a simulator, as the documents have it: the tenant acme, both dialects, the admin API.

use std::time::Duration;

use dashgate::sim::{Simulator, SimulatorOptions};

use crate::harness::calls::SYNTHESIS;
use crate::harness::{ADMIN_TOKEN, Gateway, TENANT_KEY, UPSTREAM_KEY, message};

pub(super) struct World {
    gateway: Gateway,
    _simulator: Simulator,
    /// A task of acme.
    task: String,
}

pub(super) const WEBHOOK_SECRET: &str = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

impl World {
    pub(super) fn start() -> Self {
        let keys = vec![UPSTREAM_KEY.parse().expect("a key")];
        let run = Duration::from_millis(300);
        let simulator = Simulator::start(SimulatorOptions { keys, run, ..SimulatorOptions::default() })
            .expect("a simulator");
        let (api, storage) = (simulator.address(), simulator.oss_address());
        let text = format!(
            r#"
            server = {{ listen = "127.0.0.1:0", workers = 1 }}
            admin = {{ token = "{ADMIN_TOKEN}" }}
            accounts = [{{ name = "main", base_url = "http://{api}", keys = ["{UPSTREAM_KEY}"] }}]
            mounts = [
                {{ prefix = "/" }},
                {{ prefix = "/v1", dialect = "unified", storage = {{ hosts = ["http://{storage}"] }} }},
            ]
            [[tenants]]
            name = "acme"
            keys = [{{ id = "acme-1", key = "{TENANT_KEY}" }}]
            webhooks = [{{ url = "http://127.0.0.1:1/", secrets = ["{WEBHOOK_SECRET}"], private = true }}]
            webhook_hosts = ["*.acme.example"]
            "#
        );
        let gateway = Gateway::configured(&text);
        let authorization = format!("Authorization: Bearer {TENANT_KEY}");
        let fields = [&*authorization, "X-DashScope-Async: enable", "Content-Type: application/json"];
        let body = r#"{"model":"wan2.7-t2v","input":{"prompt":"a lighthouse"}}"#;
        let made = gateway.ask(message(&format!("POST {SYNTHESIS}"), &fields, body)).json();
        let task = made["output"]["task_id"].as_str().unwrap_or_else(|| panic!("{made}")).to_owned();
        Self { gateway, _simulator: simulator, task }
    }

    pub(super) fn clients(&self) -> String {
        format!("http://{}", self.gateway.address)
    }

    pub(super) fn admin(&self) -> String {
        format!("http://{}", self.gateway.admin)
    }

    /// A word of a command, with the addresses and the variables of this world.
    pub(super) fn put_in(&self, word: &str) -> String {
        word.replace("http://localhost:8080", &self.clients())
            .replace("http://127.0.0.1:8081", &self.admin())
            .replace("$ACME_KEY", TENANT_KEY)
            .replace("$DASHGATE_ADMIN_TOKEN", ADMIN_TOKEN)
            .replace("$TASK_ID", &self.task)
    }
}
