//! The peers of the documents' commands: a simulated DashScope, and before it the gateway that the pages speak of, with
//! the tenants acme and beta, both dialects, prices, webhooks and the admin API.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use dashgate::config::{Config, OrphanTimes};
use dashgate::sim::{Simulator, SimulatorOptions};
use serde_json::Value;
use tempfile::TempDir;
use toml::Table;

use crate::harness::calls::SYNTHESIS;
use crate::harness::ports::free_address;
use crate::harness::tls::Authority;
use crate::harness::{
    ADMIN_TOKEN, Gateway, OTHER_KEY, StateDirectory, TENANT_KEY, UPSTREAM_KEY, Upstream, answer, client,
    eventually, message,
};

pub(super) struct World {
    simulator: Simulator,
    /// The gateway, unless the page starts one of its own at the addresses below.
    gateway: Option<Gateway>,
    clients: SocketAddr,
    admin: SocketAddr,
    /// A simulator that a page starts listens here.
    own_simulator: SocketAddr,
    /// Texts of the pages, each with the text that takes its place in this world.
    names: Vec<(&'static str, String)>,
    _endpoint: Upstream,
    /// A configuration like that of the gateway.
    configuration: String,
    /// A folder for certificates.
    certificates: TempDir,
}

impl World {
    /// The world of a page with these shell blocks.
    pub(super) fn of(text: &str) -> Self {
        let serves =
            text.lines().any(|line| line.contains("dashgate serve") && !line.contains("--take-over"));
        let mut world = Self::empty();
        if !serves {
            world.start(text);
        }
        world
    }

    /// A world with its gateway.
    pub(super) fn whole() -> Self {
        Self::of("")
    }

    fn empty() -> Self {
        let run = Duration::from_millis(300);
        let simulator =
            Simulator::start(SimulatorOptions { run, query_qps: u32::MAX, ..SimulatorOptions::default() })
                .expect("a simulator");
        let endpoint = Upstream::answering(answer("204 No Content", &[], ""));
        let configuration =
            configuration(simulator.address(), simulator.oss_address(), endpoint.address, ADMIN_TOKEN);
        let [clients, admin, own_simulator] = std::array::from_fn(|_| free_address());
        Self {
            simulator,
            gateway: None,
            clients,
            admin,
            own_simulator,
            names: Vec::new(),
            _endpoint: endpoint,
            configuration,
            certificates: TempDir::new().expect("a folder"),
        }
    }

    /// Starts the gateway, and makes what the text speaks of: a task that has ended, an orphan, a delivery, certificates.
    fn start(&mut self, text: &str) {
        let mut configuration = self.configuration.clone();
        if text.contains(OPERATORS_CERTIFICATE) {
            self.certify();
            configuration = configuration.replace("admin = { ", &format!("admin = {{ {ADMIN_TLS}, "));
        }
        let loaded = Config::parse(&configuration, self.certificates.path(), &|_| None);
        let mut config = loaded.unwrap_or_else(|faults| panic!("{faults:#?}")).config;
        if text.contains(ORPHAN) {
            let soon = Duration::from_millis(200);
            config.settings.poll.orphans =
                OrphanTimes { every: soon, after_loss: soon, min_age: Duration::ZERO };
        }
        let gateway = Gateway::of(StateDirectory::new(), config);
        gateway.directory.wait_for_lead();
        (self.clients, self.admin) = (gateway.address, gateway.admin);
        self.names.push(("https://gateway:8081", format!("https://localhost:{}", self.admin.port())));
        let task = submit(gateway.address, TENANT_KEY);
        let query = format!("GET /api/v1/tasks/{task}");
        let key = format!("Authorization: Bearer {TENANT_KEY}");
        eventually("the task has ended", || {
            gateway.ask(message(&query, &[&key], "")).json()["output"]["task_status"] == "SUCCEEDED"
        });
        let store = gateway.directory.path().join("dashgate.db").display().to_string();
        self.names.extend([(TASK, task.clone()), ("/var/lib/dashgate/dashgate.db", store)]);
        self.names.push(("task:main/0f4c", format!("task:main/{task}")));
        if text.contains(ORPHAN) {
            let orphan = submit(self.simulator.address(), UPSTREAM_KEY);
            let listed = || gateway.administer("GET /admin/orphans", "").text().contains(&orphan);
            eventually("the orphan is found", listed);
            self.names.insert(0, (ORPHAN, format!("orphans assign main {orphan}")));
        }
        if text.contains(DELIVERY) {
            let deliveries = || gateway.administer("GET /admin/webhooks/deliveries", "").json();
            let is_delivered = |item: &Value| item["state"] == "delivered";
            eventually("a delivery has ended", || {
                deliveries()["deliveries"].as_array().is_some_and(|list| list.iter().any(is_delivered))
            });
            let first = deliveries()["deliveries"][0]["id"].as_str().expect("an id").to_owned();
            self.names.push((DELIVERY, first));
        }
        self.gateway = Some(gateway);
    }

    /// Makes the certificates of the gateway and of the operator.
    fn certify(&self) {
        let (authority, folder) = (Authority::new(), self.certificates.path());
        std::fs::write(folder.join("ca.crt"), authority.pem()).expect("written");
        authority.server().write(folder, "server");
        authority.client("operator", &[], 1).write(folder, "operator");
    }

    /// The files that the pages' commands name, but for the configuration.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        let files = std::fs::read_dir(self.certificates.path()).expect("a folder");
        files.map(|entry| entry.expect("an entry").path()).collect()
    }

    /// A text of a page, with the addresses and names of this world.
    pub(super) fn put_in(&self, text: &str) -> String {
        let [clients, admin, simulator] =
            [self.clients, self.admin, self.own_simulator].map(|address| address.to_string());
        let mut text = text.to_owned();
        for (named, here) in &self.names {
            text = text.replace(named, here);
        }
        for host in ["localhost", "127.0.0.1", "gateway"] {
            text = text.replace(&format!("{host}:8080"), &clients);
            text = text.replace(&format!("{host}:8081"), &admin);
            text = text.replace(&format!("{host}:8090"), &simulator);
        }
        text.replace("sk-...", UPSTREAM_KEY).replace("--run-seconds 5 ", "--run-seconds 0.5 ")
    }

    /// A configuration of a page, for a gateway of this world.
    pub(super) fn adapted(&self, configuration: &str) -> String {
        let mut file: Table = toml::from_str(configuration).expect("TOML");
        for (table, address) in [("server", self.clients), ("admin", self.admin)] {
            let table = file.entry(table).or_insert_with(|| Table::new().into());
            let table = table.as_table_mut().expect("a table");
            table.insert("listen".to_owned(), address.to_string().into());
        }
        let simulator = format!("http://{}", self.simulator.address());
        let text = toml::to_string(&file).expect("TOML");
        DASHSCOPE.iter().fold(text, |text, host| text.replace(host, &simulator))
    }

    /// The configuration that a page's commands find in their folder, where the page writes none.
    pub(super) fn configuration(&self) -> &str {
        &self.configuration
    }

    /// The variables that the pages have set before.
    pub(super) fn variables(&self) -> Vec<(&'static str, String)> {
        let task = self.names.iter().find(|(named, _)| *named == TASK);
        vec![
            ("ACME_KEY", TENANT_KEY.to_owned()),
            ("ACME_BATCH_KEY", UNUSED_KEY.to_owned()),
            ("BETA_KEY", OTHER_KEY.to_owned()),
            ("DASHSCOPE_API_KEY", UPSTREAM_KEY.to_owned()),
            ("DASHGATE_ADMIN_TOKEN", ADMIN_TOKEN.to_owned()),
            ("DASHGATE_ADMIN_URL", format!("http://{}", self.admin)),
            ("TASK_ID", task.map(|(_, task)| task.clone()).unwrap_or_default()),
            // For a sidecar, which has no file.
            ("DASHGATE_LISTEN", self.clients.to_string()),
            ("DASHGATE_ADMIN_LISTEN", self.admin.to_string()),
            ("DASHGATE_UPSTREAM_URL", format!("http://{}", self.simulator.address())),
            ("DASHGATE_STORE_PATH", "sidecar.db".to_owned()),
        ]
    }

    pub(super) fn clients(&self) -> SocketAddr {
        self.clients
    }
}

/// Makes a task, and returns its id.
fn submit(address: SocketAddr, key: &str) -> String {
    let authorization = format!("Authorization: Bearer {key}");
    let fields = [&*authorization, "X-DashScope-Async: enable", "Content-Type: application/json"];
    let body = r#"{"model":"wan2.7-t2v","input":{"prompt":"a lighthouse"}}"#;
    let made = client::once(address, message(&format!("POST {SYNTHESIS}"), &fields, body)).json();
    made["output"]["task_id"].as_str().unwrap_or_else(|| panic!("{made}")).to_owned()
}

fn configuration(api: SocketAddr, storage: SocketAddr, endpoint: SocketAddr, token: &str) -> String {
    format!(
        r#"
        server = {{ listen = "127.0.0.1:0", workers = 1 }}
        admin = {{ listen = "127.0.0.1:0", token = "{token}" }}
        usage = {{ currency = "CNY" }}
        mounts = [
            {{ prefix = "/" }},
            {{ prefix = "/v1", dialect = "unified", storage = {{ hosts = ["http://{storage}"] }} }},
        ]
        prices = [
            {{ list = "default", models = ["wan2.7-*"], unit = "video_second", price = "0.60" }},
        ]

        [[accounts]]
        name = "main"
        base_url = "http://{api}"
        keys = ["{UPSTREAM_KEY}"]
        exclusive = true
        query_qps = 1000
        list_qps = 1000

        [[tenants]]
        name = "acme"
        keys = [{{ id = "acme-1", key = "{TENANT_KEY}" }}, {{ id = "acme-prod", key = "{UNUSED_KEY}" }}]
        prices = "default"
        webhooks = [{{ url = "http://{endpoint}/", secrets = ["{WEBHOOK_SECRET}"], private = true }}]
        webhook_hosts = ["*.acme.example"]

        [[tenants]]
        name = "beta"
        keys = [{{ id = "beta-prod", key = "{OTHER_KEY}" }}]
        "#
    )
}

pub(super) const WEBHOOK_SECRET: &str = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
const UNUSED_KEY: &str = "sk-tenant-one-unused-5a0d7c12";
/// The task of the pages.
const TASK: &str = "0385dc79-5ff8-4d82-bcb6-b08628dbf5a5";
/// The pages' command for an orphan.
const ORPHAN: &str = "orphans assign main 0385dc79-5ff8-4d82-bcb6-b08628dbf5a5";
/// The option of a command that shows a certificate to the operator's listener.
const OPERATORS_CERTIFICATE: &str = "--cert operator.crt";
const ADMIN_TLS: &str = "tls = { cert = \"server.crt\", key = \"server.key\", client_ca = \"ca.crt\" }";
/// The delivery of the pages.
const DELIVERY: &str = "msg_0a1b2c3d4e5f60718293a4b5c6d7e8f9";
const DASHSCOPE: [&str; 2] = ["https://dashscope.aliyuncs.com", "https://dashscope-intl.aliyuncs.com"];
