//! Traces: spans are exported by OTLP where the environment says so, and none where it does not.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use prost::{Message as _, Oneof};

use super::{Process, program};
use crate::harness::calls::{bearer, generate, poll, submit, task};
use crate::harness::gateway::write_config;
use crate::harness::upstream::ClosedPort;
use crate::harness::{
    ADMIN_TOKEN, Message, OTHER_KEY, TENANT_KEY, UPSTREAM_KEY, Upstream, answer, client, configuration,
    eventually, message,
};

/// The parts of OTLP's messages that these tests read, numbered as in their `.proto` files.
mod otlp {
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Request {
        #[prost(message, repeated, tag = "1")]
        pub(super) resource_spans: Vec<ResourceSpans>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct ResourceSpans {
        #[prost(message, optional, tag = "1")]
        pub(super) resource: Option<Resource>,
        #[prost(message, repeated, tag = "2")]
        pub(super) scope_spans: Vec<ScopeSpans>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Resource {
        #[prost(message, repeated, tag = "1")]
        pub(super) attributes: Vec<KeyValue>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct ScopeSpans {
        #[prost(message, repeated, tag = "2")]
        pub(super) spans: Vec<Span>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Span {
        #[prost(bytes = "vec", tag = "1")]
        pub(super) trace_id: Vec<u8>,
        #[prost(bytes = "vec", tag = "2")]
        pub(super) span_id: Vec<u8>,
        #[prost(bytes = "vec", tag = "4")]
        pub(super) parent_span_id: Vec<u8>,
        #[prost(string, tag = "5")]
        pub(super) name: String,
        #[prost(int32, tag = "6")]
        pub(super) kind: i32,
        #[prost(fixed64, tag = "7")]
        pub(super) began: u64,
        #[prost(fixed64, tag = "8")]
        pub(super) ended: u64,
        #[prost(message, repeated, tag = "9")]
        pub(super) attributes: Vec<KeyValue>,
        #[prost(message, optional, tag = "15")]
        pub(super) status: Option<Status>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Status {
        #[prost(int32, tag = "3")]
        pub(super) code: i32,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct KeyValue {
        #[prost(string, tag = "1")]
        pub(super) key: String,
        #[prost(message, optional, tag = "2")]
        pub(super) value: Option<AnyValue>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct AnyValue {
        #[prost(oneof = "super::Any", tags = "1, 3, 4")]
        pub(super) value: Option<super::Any>,
    }
}

#[derive(Clone, PartialEq, Oneof)]
enum Any {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(int64, tag = "3")]
    Whole(i64),
    #[prost(double, tag = "4")]
    Double(f64),
}

use otlp::Span;

const SERVER: i32 = 2;
const CLIENT: i32 = 3;

impl Span {
    fn text(&self, key: &str) -> Option<String> {
        find(&self.attributes, key)
    }

    fn trace(&self) -> String {
        hex(&self.trace_id)
    }
}

fn find(attributes: &[otlp::KeyValue], key: &str) -> Option<String> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    Some(match found.value.as_ref()?.value.as_ref()? {
        Any::Text(text) => text.clone(),
        Any::Whole(number) => number.to_string(),
        Any::Double(number) => number.to_string(),
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn collector() -> Upstream {
    Upstream::answering(answer("200 OK", &[], ""))
}

fn requests(collector: &Upstream) -> Vec<otlp::Request> {
    let decode = |seen: &Message| otlp::Request::decode(&*unpacked(seen)).expect("OTLP");
    collector.requests().iter().map(decode).collect()
}

fn unpacked(seen: &Message) -> Vec<u8> {
    if seen.field("content-encoding").as_deref() != Some("gzip") {
        return seen.body.clone();
    }
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(&*seen.body).read_to_end(&mut plain).expect("gzip");
    plain
}

fn spans(collector: &Upstream) -> Vec<Span> {
    let of_request =
        |request: otlp::Request| request.resource_spans.into_iter().flat_map(|one| one.scope_spans);
    requests(collector).into_iter().flat_map(of_request).flat_map(|one| one.spans).collect()
}

struct TracedGateway {
    folder: tempfile::TempDir,
    process: Process,
    address: SocketAddr,
}

/// A gateway with one account, whose first key the upstream refuses; by default it exports spans every 50 ms.
fn start(upstream: SocketAddr, variables: &[(&str, &str)], propagate: bool) -> TracedGateway {
    let folder = tempfile::tempdir().expect("a folder");
    let accounts = [("main", upstream, &["sk-dead", UPSTREAM_KEY][..], "")];
    let text = configuration("listen = \"127.0.0.1:0\"\nworkers = 1", &accounts, "");
    let more = format!("[traces]\npropagate = {propagate}\n[poll]\nmax_age = \"0s\"\n");
    write_config(folder.path(), &(text + &more));
    let mut command = program(folder.path());
    command.arg("serve").env("OTEL_BSP_SCHEDULE_DELAY", "50").envs(variables.iter().copied());
    let mut process = Process::start(&mut command);
    let address = process.address();
    TracedGateway { folder, process, address }
}

fn upstream() -> Upstream {
    Upstream::start(|request, stream| {
        let body = if request.holds("sk-dead") {
            answer("401 Unauthorized", &["Content-Type: application/json"], r#"{"code":"InvalidApiKey"}"#)
        } else if request.start_line().contains("video-synthesis") {
            task("t-1", "PENDING")
        } else if request.start_line().contains("/tasks/") {
            task("t-1", "RUNNING")
        } else {
            answer("200 OK", &[], "{}")
        };
        stream.write_all(&body).is_ok()
    })
}

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

fn with(request: &str, fields: &[&str]) -> String {
    let lines: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
    request.replacen("Host:", &format!("{lines}Host:"), 1)
}

#[test]
fn an_exchange_and_its_attempts_are_spans_of_the_callers_trace() {
    let (upstream, collector) = (upstream(), collector());
    let endpoint = format!("http://{}", collector.address);
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-collector-key=its%20key"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
        ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test"),
    ];
    let place = start(upstream.address, &variables, false);
    let traced = format!("traceparent: 00-{TRACE}-{PARENT}-01");
    let prompt = r#"{"model":"qwen-plus","input":{"prompt":"a-secret-wish"}}"#;
    let asked = with(&generate(prompt), &[&traced, "tracestate: a=b"])
        .replace("generation HTTP", "generation?secret-query=1 HTTP");
    assert_eq!(client::once(place.address, asked).status(), 200);
    eventually("its spans are there", || spans(&collector).len() == 3);
    let all = spans(&collector);
    let [own, dead, live] = &all[..] else { panic!("{all:#?}") };
    assert_eq!([own.kind, dead.kind, live.kind], [SERVER, CLIENT, CLIENT]);
    assert!(all.iter().all(|span| span.trace() == TRACE && span.name == "POST service"), "{all:#?}");
    assert_eq!(hex(&own.parent_span_id), PARENT);
    for attempt in [dead, live] {
        assert_eq!(attempt.parent_span_id, own.span_id);
        assert!(own.began <= attempt.began && attempt.began <= attempt.ended && attempt.ended <= own.ended);
        assert_eq!(attempt.text("server.port"), Some(upstream.address.port().to_string()));
    }
    let code = |span: &Span| span.text("http.response.status_code").unwrap_or_default();
    let is_error = |span: &Span| span.status.as_ref().is_some_and(|status| status.code == 2);
    assert_eq!([own, dead, live].map(code), ["200", "401", "200"]);
    assert_eq!([own, dead, live].map(is_error), [false, true, false]);
    assert_eq!(live.text("http.request.resend_count").as_deref(), Some("1"));
    for (key, value) in [
        ("http.request.method", "POST"),
        ("client.address", "127.0.0.1"),
        ("dashgate.tenant", "one"),
        ("dashgate.key_id", "one-key"),
        ("dashgate.mount", "/"),
        ("dashgate.operation", "service"),
        ("dashgate.account", "main"),
        ("dashgate.outcome", "answered"),
        ("dashgate.model", "qwen-plus"),
        ("http.request.body.size", &prompt.len().to_string()),
        ("http.response.body.size", "2"),
    ] {
        assert_eq!(own.text(key).as_deref(), Some(value), "{key} in {own:#?}");
    }
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_nanos();
    assert!(now - u128::from(own.began) < 60_000_000_000);
    let sent = collector.requests().remove(0);
    assert_eq!(sent.start_line(), "POST /v1/traces HTTP/1.1");
    assert_eq!(sent.field("content-type").as_deref(), Some("application/x-protobuf"));
    assert_eq!(sent.field("x-collector-key").as_deref(), Some("its key"));
    let resource = requests(&collector)[0].resource_spans[0].resource.clone().expect("a resource").attributes;
    assert_eq!(find(&resource, "service.name").as_deref(), Some("dashgate"));
    assert_eq!(find(&resource, "deployment.environment.name").as_deref(), Some("test"));
    // The upstream gets the client's trace header unchanged.
    let seen = upstream.requests().pop().expect("one");
    assert_eq!(seen.field("traceparent"), traced.strip_prefix("traceparent: ").map(str::to_owned));
    assert_eq!(seen.field("tracestate").as_deref(), Some("a=b"));

    // A task, a refusal, and the trace of a request with a malformed trace header.
    let (before, bad) =
        (collector.requests().len(), "traceparent: 00-00000000000000000000000000000000-00f067aa0ba902b7-01");
    client::once(place.address, with(&submit(), &[bad]));
    client::once(place.address, poll("t-1"));
    client::once(place.address, generate("{}").replace(TENANT_KEY, "sk-nobodys-key-0123456789"));
    let of = |operation: &str, kind: i32| {
        let is_it =
            |span: &Span| span.kind == kind && span.text("dashgate.operation").as_deref() == Some(operation);
        spans(&collector).into_iter().skip(3).find(is_it)
    };
    eventually("they are there", || {
        of("submit", SERVER).is_some() && of("task_get", SERVER).is_some() && of("service", SERVER).is_some()
    });
    assert!(collector.requests().len() > before);
    let (made, refused) = (of("submit", SERVER).expect("one"), of("service", SERVER).expect("one"));
    assert_eq!(made.text("dashgate.task_id").as_deref(), Some("t-1"));
    assert_eq!(made.text("dashgate.model").as_deref(), Some("wan2.7-t2v"));
    assert!(
        made.parent_span_id.is_empty() && made.trace() != TRACE && made.trace_id.len() == 16,
        "{made:#?}"
    );
    assert_eq!(refused.text("dashgate.reason").as_deref(), Some("unknown_key"));
    assert_eq!((refused.text("dashgate.tenant"), refused.status.is_none()), (None, true));
    let exported: Vec<u8> = collector.requests().iter().flat_map(unpacked).collect();
    let exported = String::from_utf8_lossy(&exported);
    for planted in [TENANT_KEY, UPSTREAM_KEY, "sk-", "a-secret-wish", "secret-query", ADMIN_TOKEN, OTHER_KEY]
    {
        assert!(!exported.contains(planted), "{planted} in {exported}");
    }
    let printed = place.process.printed();
    assert!(!printed.contains("its key"), "{printed}");
}

#[test]
fn a_trace_goes_on_at_the_upstream_if_that_is_asked_for() {
    let (upstream, collector) = (upstream(), collector());
    let endpoint = format!("http://{}/v1/traces", collector.address);
    let place = start(upstream.address, &[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &*endpoint)], true);
    let call = |flags: &str| {
        let traced = format!("traceparent: 00-{TRACE}-{PARENT}-{flags}");
        assert_eq!(
            client::once(place.address, with(&generate("{}"), &[&traced, "tracestate: a=b"])).status(),
            200
        );
        upstream.requests().pop().expect("one")
    };
    let seen = call("01");
    eventually("its spans are there", || spans(&collector).len() == 3);
    let attempt = spans(&collector).pop().expect("one");
    let expected = format!("00-{TRACE}-{}-01", hex(&attempt.span_id));
    assert_eq!(seen.field("traceparent"), Some(expected));
    assert_eq!(seen.field("tracestate").as_deref(), Some("a=b"));
    // The caller does not want this trace: the flag is passed on, and the call leaves no span.
    let unwanted = call("00").field("traceparent").expect("one");
    assert!(unwanted.starts_with(&format!("00-{TRACE}-")) && unwanted.ends_with("-00"), "{unwanted}");
    assert!(!unwanted.contains(PARENT));
    // A trace header that can't be continued: its `tracestate` is left out.
    client::once(place.address, with(&generate("{}"), &["traceparent: nonsense", "tracestate: a=b"]));
    let seen = upstream.requests().pop().expect("one");
    let begun = seen.field("traceparent").expect("one");
    assert!(begun.len() == 55 && !begun.contains(TRACE) && begun.ends_with("-01"), "{begun}");
    assert_eq!(seen.field("tracestate"), None);
    eventually("its spans are there", || spans(&collector).len() == 5);
    assert_eq!(spans(&collector).iter().filter(|span| span.trace() == TRACE).count(), 3);
}

#[test]
fn without_an_endpoint_nothing_is_done_and_a_word_of_the_operator_holds() {
    let upstream = upstream();
    let collector = collector();
    let endpoint = format!("http://{}", collector.address);
    for (variables, fault) in [
        (&[][..], ""),
        (&[("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint), ("OTEL_SDK_DISABLED", "true")], ""),
        (
            &[("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")],
            "OTEL_EXPORTER_OTLP_PROTOCOL: only http/protobuf is spoken",
        ),
    ] {
        // Without export the gateway passes the client's header on, whatever `propagate` says, because no span of its
        // own would be found.
        let place = start(upstream.address, variables, true);
        let traced = format!("traceparent: 00-{TRACE}-{PARENT}-01");
        assert_eq!(client::once(place.address, with(&generate("{}"), &[&traced])).status(), 200);
        let seen = upstream.requests().pop().expect("one");
        assert_eq!(seen.field("traceparent"), traced.strip_prefix("traceparent: ").map(str::to_owned));
        assert!(!threads(place.process.child.id()).contains(&"traces".to_owned()));
        assert!(place.process.printed().contains(fault), "{}", place.process.printed());
    }
    assert!(collector.requests().is_empty());
}

fn threads(process: u32) -> Vec<String> {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).expect("its threads");
    let name = |task: std::io::Result<std::fs::DirEntry>| {
        std::fs::read_to_string(task.expect("a thread").path().join("comm"))
            .unwrap_or_default()
            .trim()
            .to_owned()
    };
    tasks.map(name).collect()
}

fn counted(admin: SocketAddr, result: &str) -> u64 {
    let page = client::once(admin, message("GET /metrics", &[], "")).text();
    let line = format!("dashgate_trace_spans_total{{result=\"{result}\"}} ");
    page.lines().find_map(|found| found.strip_prefix(&line)?.parse().ok()).unwrap_or_default()
}

#[test]
fn a_collector_that_is_away_or_hangs_holds_nobody_up() {
    let upstream = upstream();
    let closed = ClosedPort::reserve();
    let hanging = Upstream::bare(|stream| {
        let _ = stream.read_to_end(&mut Vec::new());
    });
    for collector in [closed.address(), hanging.address] {
        let endpoint = format!("http://{collector}");
        let variables = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "300"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "8"),
            ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "8"),
        ];
        let mut place = start(upstream.address, &variables, false);
        let admin = place.process.admin_address();
        let mut client = crate::harness::Client::connect(place.address);
        let mut asked = 0;
        eventually("spans are dropped and failed", || {
            assert_eq!(client.ask(generate("{}")).status(), 200);
            asked += 1;
            counted(admin, "dropped") > 0 && counted(admin, "failed") > 0
        });
        eventually("it is told once", || place.process.printed().matches("spans were not sent").count() == 1);
        client.leave();
        let asked_to_stop = Instant::now();
        place.process.signal("TERM");
        let (ended, printed) = place.process.end();
        assert_eq!(ended.code(), Some(0), "{printed}");
        assert!(asked_to_stop.elapsed() < Duration::from_secs(8), "it took {:?}", asked_to_stop.elapsed());
        drop(place.folder);
    }
}

#[test]
fn what_waits_at_the_end_is_sent_and_a_busy_collector_is_asked_again() {
    let upstream = upstream();
    let count = std::sync::atomic::AtomicUsize::new(0);
    let collector = Upstream::start(move |_, stream| {
        let is_first = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0;
        let status = if is_first { "503 Service Unavailable" } else { "200 OK" };
        stream.write_all(&answer(status, &[], "")).is_ok()
    });
    let endpoint = format!("http://{}", collector.address);
    let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint), ("OTEL_BSP_SCHEDULE_DELAY", "3600000")];
    let place = start(upstream.address, &variables, false);
    for _ in 0..3 {
        client::once(place.address, generate("{}"));
    }
    let socket = ["Upgrade: websocket", "Connection: upgrade", &*bearer()];
    client::once(place.address, message("GET /api-ws/v1/inference", &socket, ""));
    assert!(collector.requests().is_empty());
    place.process.signal("TERM");
    let (ended, printed) = place.process.end();
    assert_eq!(ended.code(), Some(0), "{printed}");
    let seen = collector.requests();
    assert_eq!(seen.len(), 2, "{printed}");
    assert_eq!(seen[0].body, seen[1].body, "the same again");
    let own = spans(&collector).iter().filter(|span| span.kind == SERVER).count();
    assert_eq!(own, 2 * 4);
}
