//! Every kind of exchange, from the client's side.

use std::sync::atomic::{AtomicU64, Ordering};

use super::world::Installation;
use crate::harness::{Client, Message, OTHER_KEY, TENANT_KEY, message, secrets};

/// A client's observation of one exchange, and the expected counts.
pub(super) struct Observation {
    pub(super) mount: &'static str,
    pub(super) tenant: &'static str,
    pub(super) outcome: &'static str,
    pub(super) status: Option<u16>,
    pub(super) reason: Option<String>,
    pub(super) bytes_in: usize,
    pub(super) bytes_out: usize,
}

impl Observation {
    pub(super) fn of(tenant: &'static str, outcome: &'static str) -> Self {
        Self { mount: "/wan", tenant, outcome, status: None, reason: None, bytes_in: 0, bytes_out: 0 }
    }

    /// The observation of a whole answer: a refusal of the gateway if it has a reason; otherwise of this outcome.
    fn whole(tenant: &'static str, outcome: &'static str, answer: &Message, bytes_in: usize) -> Self {
        let reason = answer.field("x-dashgate-reason");
        let outcome = match (&reason, answer.complete) {
            (Some(_), _) => "rejected",
            (None, false) => "cut",
            (None, true) => outcome,
        };
        Self {
            status: Some(answer.status()),
            reason,
            bytes_in,
            bytes_out: answer.body.len(),
            ..Self::of(tenant, outcome)
        }
    }
}

/// A client with its open connection and the task that it submitted last.
pub(super) struct LoadClient<'w> {
    world: &'w Installation,
    client: Option<Client>,
    task: Option<String>,
}

pub(super) const KINDS: [fn(&mut LoadClient<'_>) -> Observation; 34] = [
    |actor| actor.chat(false),
    |actor| actor.chat(true),
    |actor| actor.submit("one", TENANT_KEY, "wan2.7-t2v"),
    |actor| actor.poll(),
    |actor| actor.get("one", TENANT_KEY, "local", &format!("/wan/api/v1/tasks/{UNKNOWN_TASK}")),
    |actor| actor.get("one", TENANT_KEY, "local", "/wan/api/v1/tasks?page_no=1"),
    |actor| actor.cancel(),
    |actor| actor.service("two", OTHER_KEY, "plain", "{}"),
    |actor| actor.service("two", OTHER_KEY, "chunked", BODY),
    |actor| actor.service("two", OTHER_KEY, "throttled", BODY),
    |actor| actor.service("two", OTHER_KEY, "broken", BODY),
    |actor| actor.service("two", OTHER_KEY, "cut", BODY),
    |actor| actor.service("two", OTHER_KEY, "lost", BODY),
    |actor| actor.get("none", "", "", "/wan/api/v1/tasks"),
    |actor| actor.get("none", "sk-nobody-0123456789", "", "/wan/api/v1/tasks"),
    |actor| actor.get("old", OLD_KEY, "", "/wan/api/v1/tasks"),
    |actor| actor.revoked(),
    |actor| Observation { mount: "none", ..actor.get("none", TENANT_KEY, "", "/nowhere/api/v1/tasks") },
    |actor| actor.get("one", TENANT_KEY, "", "/wan/api/v1/files"),
    |actor| actor.synchronous(),
    |actor| actor.get("none", TENANT_KEY, "", "/wan/api/v1/x/../tasks"),
    |actor| actor.two_hosts(),
    |actor| actor.bad_head(),
    |actor| actor.too_large(),
    |actor| Observation {
        bytes_in: submitted("qwen-max", 5).len(),
        ..actor.submit_for("choosy", CHOOSY_KEY, "qwen-max", 5)
    },
    |actor| actor.submit_for("choosy", CHOOSY_KEY, "wan2.7-t2v", 15),
    |actor| actor.service("limited", LIMITED_KEY, "plain", ""),
    |actor| actor.service("crowd", CROWD_KEY, "plain", ""),
    |actor| actor.submit("busy", BUSY_KEY, "wan2.7-t2v"),
    |actor| actor.submit("paced", PACED_KEY, "wan2.7-t2v"),
    |actor| actor.submit("full", FULL_KEY, "too-much"),
    |actor| actor.submit("lonely", LONELY_KEY, "wan2.7-t2v"),
    |actor| actor.submit("many", MANY_KEY, "wan2.7-t2v"),
    |actor| actor.leaving(),
];

impl<'w> LoadClient<'w> {
    pub(super) fn new(world: &'w Installation) -> Self {
        Self { world, client: None, task: None }
    }

    /// Sends a request on the open connection, or on a new one.
    fn ask(&mut self, request: &str) -> Message {
        let mut client = self.client.take().unwrap_or_else(|| Client::connect(self.world.gateway.address));
        let answer = client.ask(request);
        let closes = answer.field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        if answer.complete && !closes {
            self.client = Some(client);
        }
        answer
    }

    fn get(&mut self, tenant: &'static str, key: &str, outcome: &'static str, path: &str) -> Observation {
        let query = if path.contains('?') { "" } else { "?" };
        let target = format!("GET {path}{query}&note={}", secrets::QUERY);
        let answer = self.ask(&message(&target, &[&bearer(key)], ""));
        Observation::whole(tenant, outcome, &answer, 0)
    }

    fn service(&mut self, tenant: &'static str, key: &str, name: &str, body: &str) -> Observation {
        let answer = self.ask(&call(key, name, body));
        // A refusal for a limit comes before the body is read; these requests have no body.
        Observation::whole(tenant, "answered", &answer, body.len())
    }

    fn chat(&mut self, streams: bool) -> Observation {
        let body = format!(
            r#"{{"model":"qwen-plus","messages":[{{"role":"user","content":"{}"}}],"stream":{streams}}}"#,
            secrets::PROMPT
        );
        let answer = self.ask(&message(
            "POST /wan/compatible-mode/v1/chat/completions",
            &[&bearer(TENANT_KEY)],
            &body,
        ));
        Observation::whole("one", "answered", &answer, body.len())
    }

    fn submit(&mut self, tenant: &'static str, key: &str, model: &str) -> Observation {
        let observed = self.submit_for(tenant, key, model, 5);
        let reads = !matches!(observed.reason.as_deref(), Some("tasks_in_flight"));
        Observation { bytes_in: if reads { observed.bytes_in } else { 0 }, ..observed }
    }

    fn submit_for(&mut self, tenant: &'static str, key: &str, model: &str, seconds: u32) -> Observation {
        let body = submitted(model, seconds);
        let fields = [&*bearer(key), "X-DashScope-Async: enable"];
        let answer = self.ask(&message(&format!("POST {SYNTHESIS}"), &fields, &body));
        if tenant == "one" && answer.status() == 200 {
            self.task = answer.json()["output"]["task_id"].as_str().map(str::to_owned);
        }
        Observation::whole(tenant, "answered", &answer, body.len())
    }

    /// Queries the task that this client submitted last, if there is one.
    fn poll(&mut self) -> Observation {
        match self.task.clone() {
            Some(id) => self.get("one", TENANT_KEY, "answered", &format!("/wan/v1/tasks/{id}")),
            None => self.get("one", TENANT_KEY, "local", &format!("/wan/v1/tasks/{UNKNOWN_TASK}")),
        }
    }

    fn cancel(&mut self) -> Observation {
        let answer = self.ask(&message(
            &format!("POST /wan/api/v1/tasks/{UNKNOWN_TASK}/cancel"),
            &[&bearer(OTHER_KEY)],
            "",
        ));
        Observation::whole("two", "local", &answer, 0)
    }

    fn revoked(&mut self) -> Observation {
        let key = self.world.revoked.lock().expect("no panic").clone();
        self.get("two", &key, "", "/b/api/v1/tasks").under("/b")
    }

    fn synchronous(&mut self) -> Observation {
        let answer = self.ask(&message(&format!("POST {SYNTHESIS}"), &[&bearer(TENANT_KEY)], ""));
        Observation::whole("one", "", &answer, 0)
    }

    fn two_hosts(&mut self) -> Observation {
        let answer =
            self.ask(&message("GET /wan/api/v1/tasks", &["Host: elsewhere", &bearer(TENANT_KEY)], ""));
        Observation::whole("none", "", &answer, 0)
    }

    /// Bytes that the parser refuses.
    fn bad_head(&mut self) -> Observation {
        let request =
            format!("GET /wan/api/v1/tasks HTTP/1.1\nHost: a\nAuthorization: Bearer {TENANT_KEY}\n\n");
        let answer = self.ask(&request);
        Observation::whole("none", "", &answer, 0).under("none")
    }

    /// The head declares the size, so none of the body is read.
    fn too_large(&mut self) -> Observation {
        let fields = [&*bearer(TENANT_KEY), "Content-Length: 5000"];
        let answer = self.ask(&message(&format!("POST {SERVICE}/plain"), &fields, ""));
        Observation::whole("one", "", &answer, 0)
    }

    /// The client leaves, in turns: before the answer, inside the answer, and out of a WebSocket. In every fourth turn
    /// the upstream refuses the WebSocket.
    fn leaving(&mut self) -> Observation {
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        let mut client = Client::connect(self.world.gateway.address);
        match number % 4 {
            0 => {
                let number = number.to_string();
                client.send(message(
                    &format!("POST {SERVICE}/silent"),
                    &[&bearer(OTHER_KEY), &format!("X-Number: {number}")],
                    BODY,
                ));
                self.world.wait_for(&number);
                client.leave();
                Observation { bytes_in: BODY.len(), ..Observation::of("two", "abandoned") }
            }
            1 => {
                client.send(call(OTHER_KEY, "leave", BODY));
                let status = Some(client.head().status());
                read_chunk(&mut client);
                client.leave();
                Observation {
                    status,
                    bytes_in: BODY.len(),
                    bytes_out: CHUNK.len(),
                    ..Observation::of("two", "abandoned")
                }
            }
            2 => {
                client.send(handshake("/wan/api-ws/v1/inference"));
                let status = Some(client.head().status());
                client.send(SPOKEN);
                assert_eq!(client.bytes(SPOKEN.len()), SPOKEN);
                client.leave();
                let (bytes_in, bytes_out) = (SPOKEN.len(), SPOKEN.len());
                Observation { status, bytes_in, bytes_out, ..Observation::of("two", "tunnelled") }
            }
            _ => {
                client.send(handshake("/wan/api-ws/v1/realtime?model=qwen-omni"));
                let answer = client.answer();
                Observation::whole("two", "answered", &answer, 0)
            }
        }
    }
}

impl Observation {
    fn under(self, mount: &'static str) -> Self {
        Self { mount, ..self }
    }
}

fn bearer(key: &str) -> String {
    if key.is_empty() { "X-None: none".to_owned() } else { format!("Authorization: Bearer {key}") }
}

/// A head that does not end.
pub(super) fn half_a_head(world: &Installation) -> Observation {
    let mut client = Client::connect(world.gateway.address);
    client.send(format!("GET /wan/api/v1/tasks HTTP/1.1\r\nAuthorization: Bearer {TENANT_KEY}"));
    Observation::whole("none", "", &client.answer(), 0).under("none")
}

/// Reads the one chunk of an endless answer, with its framing.
pub(super) fn read_chunk(client: &mut Client) {
    let framed = format!("{:x}\r\n{CHUNK}\r\n", CHUNK.len());
    assert_eq!(client.bytes(framed.len()), framed.as_bytes());
}

/// A call of a service of the scripted upstream.
pub(super) fn call(key: &str, name: &str, body: &str) -> String {
    message(&format!("POST {SERVICE}/{name}?note={}", secrets::QUERY), &[&bearer(key)], body)
}

fn submitted(model: &str, seconds: u32) -> String {
    let prompt = secrets::PROMPT;
    format!(r#"{{"model":"{model}","input":{{"prompt":"{prompt}"}},"parameters":{{"duration":{seconds}}}}}"#)
}

fn handshake(target: &str) -> String {
    let fields = [
        &*bearer(OTHER_KEY),
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ];
    message(&format!("GET {target}"), &fields, "")
}

pub(super) fn tenants() -> String {
    let tenant = |name: &str, key: &str, more: &str| {
        format!("[[tenants]]\nname = {name:?}\nkeys = [{{ id = \"{name}-key\", key = {key:?} }}]\n{more}\n")
    };
    [
        tenant("one", TENANT_KEY, "accounts = [\"sim\"]"),
        tenant("two", OTHER_KEY, "accounts = [\"script\"]"),
        tenant("choosy", CHOOSY_KEY, "accounts = [\"script\"]\nmodels = [\"wan2.7-*\"]\nlimits.max_duration_seconds = 10"),
        tenant("limited", LIMITED_KEY, "accounts = [\"script\"]\nlimits = { requests_per_second = 0.001, burst = 1 }"),
        tenant("crowd", CROWD_KEY, "accounts = [\"script\"]\nlimits.concurrent_requests = 1"),
        tenant("busy", BUSY_KEY, "accounts = [\"script\"]\nlimits.tasks_in_flight = 1"),
        tenant("paced", PACED_KEY, "accounts = [\"slow\"]"),
        tenant("full", FULL_KEY, "accounts = [\"full\", \"also-full\"]"),
        tenant("lonely", LONELY_KEY, "accounts = [\"nowhere\"]"),
        tenant("many", MANY_KEY, "accounts = [\"nowhere\", \"script\"]"),
        format!(
            "[[tenants]]\nname = \"old\"\nkeys = [{{ id = \"old-key\", key = {OLD_KEY:?}, expires = \"2020-01-01T00:00:00Z\" }}]\n"
        ),
    ]
    .concat()
}

const SERVICE: &str = "/wan/api/v1/services/aigc/scripted";
const SYNTHESIS: &str = "/wan/api/v1/services/aigc/video-generation/video-synthesis";
const UNKNOWN_TASK: &str = "11111111-2222-4333-8444-555555555555";
const BODY: &str = r#"{"model":"qwen-plus","input":"planted-prompt-9c02e7b41f"}"#;
/// The bytes that an upstream sends before it falls silent.
pub(super) const CHUNK: &str = "planted-answer-e47b90c2d5";
const SPOKEN: &[u8] = b"\x81\x05hello";
pub(super) const ACCEPT: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                                 Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
static NUMBERS: AtomicU64 = AtomicU64::new(0);

const OLD_KEY: &str = "sk-old-0123456789abcdef";
const CHOOSY_KEY: &str = "sk-choosy-0123456789abcdef";
const LIMITED_KEY: &str = "sk-limited-0123456789abcdef";
pub(super) const CROWD_KEY: &str = "sk-crowd-0123456789abcdef";
const BUSY_KEY: &str = "sk-busy-0123456789abcdef";
const PACED_KEY: &str = "sk-paced-0123456789abcdef";
const FULL_KEY: &str = "sk-full-0123456789abcdef";
const LONELY_KEY: &str = "sk-lonely-0123456789abcdef";
const MANY_KEY: &str = "sk-many-0123456789abcdef";
