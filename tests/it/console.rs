//! The console, the operator's page on the admin listener: how it is served, its words, and its use in a browser.

mod accessibility;
mod hostile_text;
mod lists;
mod operator;
mod page;
pub(crate) mod pictures;
mod roles;
mod tenants;
mod words;

use std::io::Write;

use serde_json::{Value, json};

use crate::documents::texts_below;
use crate::harness::browser::{Browser, Look};
use crate::harness::{ADMIN_TOKEN, Gateway, OTHER_KEY, TENANT_KEY, Upstream, answer, client, message};

/// Every file of the page: its path below `/console/`, and its text.
fn files() -> Vec<(String, String)> {
    let found = texts_below(PAGE);
    let named = |(path, text): (String, String)| {
        let name =
            path.strip_prefix(PAGE).and_then(|name| name.strip_prefix('/')).expect("below the page's folder");
        (name.to_owned(), text)
    };
    found.into_iter().map(named).collect()
}

const PAGE: &str = "src/admin/console/page";

/// An upstream that takes each submit, and whose tasks have ended with a video of five seconds. The id of a task is that of
/// its submit's body.
fn upstream() -> Upstream {
    Upstream::start(|request, stream| {
        let line = request.start_line().to_owned();
        let body = if line.starts_with("POST ") {
            let id = request.json()["id"].clone();
            json!({ "output": { "task_id": id, "task_status": "PENDING" }, "request_id": "r" })
        } else {
            let id = line.rsplit('/').nth(1).and_then(|rest| rest.split(' ').next()).expect("an id");
            if id.starts_with("failed") {
                json!({ "output": { "task_id": id, "task_status": "FAILED", "code": "DataInspectionFailed", "message": BAIT } })
            } else {
                json!({
                    "output": { "task_id": id, "task_status": "SUCCEEDED", "video_url": "https://x/v.mp4" },
                    "usage": { "duration": 5, "output_video_duration": 5, "SR": 720, "video_count": 1 }
                })
            }
        };
        stream.write_all(&answer("200 OK", &[], &body.to_string())).is_ok()
    })
}

/// A gateway with the tenants `acme` and `globex`, which pay for videos.
fn gateway(upstream: &Upstream) -> Gateway {
    gateway_with(upstream, &format!("token = \"{ADMIN_TOKEN}\"\n"))
}

/// The usual gateway with these lines of the admin listener.
fn gateway_with(upstream: &Upstream, admin: &str) -> Gateway {
    Gateway::from_file(&format!(
        r#"
        server = {{ listen = "127.0.0.1:0", workers = 1 }}
        accounts = [{{ name = "main", base_url = "http://{}", keys = ["sk-upstream"] }}]
        mounts = [{{ prefix = "/" }}]
        prices = [{{ list = "default", models = ["*"], unit = "video_second", price = "0.60" }}]
        tenants = [
            {{ name = "acme", prices = "default", keys = [{{ id = "acme-prod", key = "{TENANT_KEY}" }}] }},
            {{ name = "globex", prices = "default", keys = [{{ id = "globex-prod", key = "{OTHER_KEY}" }}] }},
        ]
        [admin]
        listen = "127.0.0.1:0"
        {admin}
        "#,
        upstream.address
    ))
}

/// Submits a task, and asks for it until it has ended.
fn run_task(gateway: &Gateway, key: &str, id: &str, model: &str) {
    let body = json!({ "id": id, "model": model, "input": { "prompt": "p" } }).to_string();
    assert_eq!(submit(gateway, key, &body), 200);
    let key = format!("Authorization: Bearer {key}");
    let ask = || gateway.ask(message(&format!("GET /api/v1/tasks/{id}"), &[&key], "")).json();
    crate::harness::eventually("the task ends", || {
        matches!(ask()["output"]["task_status"].as_str(), Some("SUCCEEDED" | "FAILED"))
    });
}

/// The status of the answer to a submit.
fn submit(gateway: &Gateway, key: &str, body: &str) -> u16 {
    let fields = [
        &*format!("Authorization: Bearer {key}"),
        "X-DashScope-Async: enable",
        "Content-Type: application/json",
    ];
    let line = "POST /api/v1/services/aigc/video-generation/video-synthesis";
    client::once(gateway.address, message(line, &fields, body)).status()
}

/// The page in a browser.
struct Console {
    browser: Browser,
}

impl Console {
    /// Opens the page, and signs in.
    fn enter(gateway: &Gateway, look: Look) -> Self {
        Self::enter_with(gateway, look, ADMIN_TOKEN)
    }

    fn enter_with(gateway: &Gateway, look: Look, token: &str) -> Self {
        let console = Self { browser: Browser::start(look) };
        console.browser.open(&format!("http://{}/console/", gateway.admin));
        console.sign_in(token);
        console.browser.wait("document.querySelector('nav')");
        console
    }

    fn sign_in(&self, token: &str) {
        self.browser.write("input[name=token]", token);
        self.browser.click("form.signin button");
    }

    /// Goes to another view, and waits until its lists are there.
    fn go(&self, place: &str) {
        let leave = "document.querySelector('.view').dataset.left = true; location.hash = arguments[0]";
        self.browser.run(leave, &[json!(place)]);
        self.browser.wait("document.querySelector('.view:not([data-left])')");
        self.browser.wait("!document.querySelector('[aria-busy]')");
    }

    /// Waits for a button of the view with this text, and presses it.
    fn press(&self, text: &str) {
        let found = format!(
            "[...document.querySelectorAll('main button')].find((one) => one.textContent === {})",
            json!(text)
        );
        self.browser.wait(&found);
        self.browser.run(&format!("{found}.click()"), &[]);
    }

    /// Confirms the dialog, and waits until it is gone.
    fn confirm(&self) {
        self.browser.click("dialog button[type=submit]");
        self.browser.wait("!document.querySelector('dialog')");
    }

    /// Waits until the view, or a dialog over it, shows a text.
    fn sees(&self, text: &str) {
        self.browser.wait(&format!("document.body.innerText.includes({})", json!(text)));
    }

    /// Fails on each line of the browser's console but those of answers that are no success, which the page tells.
    fn had_no_fault(&self) {
        let lines = self.browser.log();
        let wrong: Vec<&Value> = lines.iter().filter(|line| line["source"] != "network").collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}

/// Text that would run a script if it ever became markup.
const BAIT: &str = "<img src=x onerror=\"window.caught=1\"><script>window.caught=1</script>";
