//! Every kind of exchange that HTTP/1.1 knows and DashScope's clients make.

use std::io::Write as _;

use crate::harness::{answer, chunked};

pub(crate) struct Exchange {
    pub(crate) name: &'static str,
    method: &'static str,
    path: &'static str,
    pub(crate) version: &'static str,
    /// Header lines beside `Host` and `Authorization`.
    lines: Vec<&'static str>,
    /// The body with its framing.
    pub(crate) body: &'static str,
    /// Waits for 100 before it sends the body.
    pub(crate) expects: bool,
    /// Bytes that the upstream writes before it reads the body.
    pub(crate) interim: &'static str,
    pub(crate) answer: Vec<u8>,
}

impl Exchange {
    /// The request's head for a server with this mount; the upstream has an empty one.
    pub(crate) fn head(&self, mount: &str, key: &str) -> String {
        let mut head = format!(
            "{} {mount}{} {}\r\nHost: dashscope.aliyuncs.com\r\nAuthorization: Bearer {key}\r\n",
            self.method, self.path, self.version
        );
        for line in &self.lines {
            head.push_str(line);
            head.push_str("\r\n");
        }
        head + "\r\n"
    }

    fn answered(self, answer: Vec<u8>) -> Self {
        Self { answer, ..self }
    }
}

fn get(name: &'static str, path: &'static str, lines: &[&'static str]) -> Exchange {
    let answer =
        answer("200 OK", &["Content-Type: application/json", "X-Request-Id: r-1"], r#"{"request_id":"r-1"}"#);
    let (version, lines) = ("HTTP/1.1", lines.to_vec());
    Exchange { name, method: "GET", path, version, lines, body: "", expects: false, interim: "", answer }
}

fn post(name: &'static str, path: &'static str, lines: &[&'static str], body: &'static str) -> Exchange {
    Exchange { method: "POST", body, ..get(name, path, lines) }
}

const SERVICE: &str = "/api/v1/services/aigc/text-generation/generation";
const CHAT: &str = "/compatible-mode/v1/chat/completions";
const KEY: &str = "/api/v1/public-keys/latest";
const JSON: &str = "Content-Type: application/json; charset=utf-8";
const TWO: &str = "Content-Length: 2";

pub(crate) fn all() -> Vec<Exchange> {
    let mut all = requests();
    all.extend(submits());
    all.extend(answers());
    all.extend(errors());
    all
}

fn requests() -> Vec<Exchange> {
    let sdk = [
        "User-Agent: dashscope/2.0.2; python/3.11.7; platform/x; processor/y",
        "x-dashscope-sdk-client: python-sdk/2.0.2/generation",
        "X-DashScope-OssResourceResolve: enable",
        "Accept: application/json; charset=utf-8",
        "Accept-Encoding: gzip, deflate, br, zstd",
        "Connection: keep-alive",
        JSON,
        "Content-Length: 30",
    ];
    vec![
        get("GET", KEY, &[]),
        get("GET with a slash at its end", "/api/v1/public-keys/latest/", &["Accept: */*"]),
        get("GET with a query", "/api/v1/uploads?action=getPolicy&model=wan2.7-i2v&x=%20%2F+;/?&&=", &[]),
        get("GET with an empty query", "/api/v1/public-keys/latest?", &[]),
        get("GET by Java, with a Content-Type", KEY, &["Content-Type: application/json"]),
        Exchange {
            body: r#"{"model": "", "parameters": {}, "input": ""}"#,
            ..get("GET with a body, as Python's aio classes", KEY, &[JSON, "Content-Length: 44"])
        },
        Exchange {
            body: "5\r\n{\"a\":\r\n2\r\n1}\r\n0\r\n\r\n",
            ..get("GET with a chunked body", KEY, &[JSON, "Transfer-Encoding: chunked"])
        },
        post("POST of JSON by the SDK", SERVICE, &sdk, "{\"model\": \"q\", \"n\": 1.0,\"a\":1}"),
        post(
            "POST with spaces and escapes in its JSON",
            SERVICE,
            &[JSON, "Content-Length: 17"],
            "{ \"a\\u00e9\" : 5 }\n",
        ),
        post("POST of no bytes, by length", SERVICE, &["Content-Length: 0"], ""),
        post("POST without any length", SERVICE, &[], ""),
        post(
            "POST in chunks",
            SERVICE,
            &["Transfer-Encoding: chunked"],
            "1\r\n{\r\nA;ext=1\r\n\"a\": \"bcd\"\r\n1\r\n}\r\n0\r\n\r\n",
        ),
        post("POST of no chunks", SERVICE, &["Transfer-Encoding: chunked"], "0\r\n\r\n"),
        post(
            "POST in chunks, with trailers",
            SERVICE,
            &["Transfer-Encoding: chunked", "Trailer: X-Checksum, X-Empty"],
            "2\r\n{}\r\n0\r\nX-Checksum: sha256=00\r\nX-Empty:\r\n\r\n",
        ),
        post(
            "POST with unusual values",
            SERVICE,
            &[
                "X-High: caf\u{e9} \u{4f60}\u{597d}",
                "X-Empty:",
                "X-Blank:   ",
                "X-Inner: a \t b",
                "X-Quote: \"a\\\"b\"",
                TWO,
            ],
            "{}",
        ),
        post(
            "POST with many fields of one name",
            SERVICE,
            &[
                "X-Many: 1",
                "X-Other: a",
                "x-many: 2,3",
                "X-MANY:",
                "X-Other: b",
                "X-Many: 1",
                "Accept: a",
                "Accept: b",
                TWO,
            ],
            "{}",
        ),
        post("POST that closes", SERVICE, &["Connection: close", TWO], "{}"),
        Exchange { version: "HTTP/1.0", ..post("POST over HTTP/1.0", SERVICE, &[TWO], "{}") },
        Exchange {
            version: "HTTP/1.0",
            ..post(
                "POST over HTTP/1.0, kept alive",
                SERVICE,
                &["Connection: keep-alive", "Keep-Alive: timeout=5", TWO],
                "{}",
            )
        },
        Exchange {
            expects: true,
            ..post("POST that waits for 100", SERVICE, &["Expect: 100-continue", TWO], "{}")
        },
        Exchange {
            expects: true,
            ..post(
                "POST in chunks that waits for 100",
                CHAT,
                &["Expect: 100-continue", "Transfer-Encoding: chunked"],
                "2\r\n{}\r\n0\r\n\r\n",
            )
        },
        post(
            "POST of something else than JSON",
            CHAT,
            &["Content-Type: multipart/form-data; boundary=x", "Content-Length: 7"],
            "--x--\0\n",
        ),
    ]
}

/// Submits, whose answers the gateway reads on their way.
fn submits() -> Vec<Exchange> {
    let path = "/api/v1/services/aigc/video-generation/video-synthesis";
    let lines = ["X-DashScope-Async: enable", "Accept-Encoding: gzip, deflate", TWO];
    let naming = r#"{"output":{"task_status":"PENDING","task_id":"0385dc79"},"request_id":"4909100c"}"#;
    let submit = |name| post(name, path, &lines, "{}");
    let chunks = [&naming[..10], &naming[10..]];
    let fields = ["Content-Type: application/json", "X-Request-Id: 4909100c"];
    let by_close = format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{naming}");
    let large = "x".repeat(200_000);
    vec![
        submit("submit").answered(answer("200 OK", &fields, naming)),
        submit("submit, answered in chunks").answered(chunked("200 OK", &fields, &chunks, &[])),
        submit("submit, answered by close").answered(by_close.into_bytes()),
        submit("submit, answered with much").answered(answer("200 OK", &fields, &large)),
        submit("submit, answered with much in chunks").answered(chunked(
            "200 OK",
            &fields,
            &[&large, &large],
            &[],
        )),
        submit("submit, refused").answered(answer(
            "400 Bad Request",
            &fields,
            r#"{"code":"InvalidParameter"}"#,
        )),
        submit("submit, answered with nothing").answered(answer("200 OK", &fields, "")),
        submit("submit, answered with 204").answered(b"HTTP/1.1 204 No Content\r\nX: 1\r\n\r\n".to_vec()),
    ]
}

fn gzipped() -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(br#"{"output":{"text":"hello"}}"#).expect("memory");
    let body = gzip.finish().expect("memory");
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nVary: Accept-Encoding\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), &body].concat()
}

fn call(name: &'static str, lines: &[&'static str]) -> Exchange {
    let lines: Vec<&str> = lines.iter().copied().chain([TWO]).collect();
    post(name, SERVICE, &lines, "{}")
}

fn answers() -> Vec<Exchange> {
    let events = [
        ": keep-alive\n\n",
        "id:1\nevent:result\n:HTTP_STATUS/200\ndata:{\"output\":{\"text\":\"\u{4f60}\"}}\n\n",
        "event: error\r\ndata: {\"code\":\"x\"}\r\n\r\n",
        "data: [DONE]\n\n",
    ];
    let sse = [
        "Content-Type: text/event-stream;charset=UTF-8",
        "Cache-Control: no-cache",
        "X-DashScope-Finished: true",
    ];
    let json = ["Content-Type: application/json"];
    let sized = |head: &str| head.replace('\n', "\r\n").into_bytes();
    vec![
        call("gzip, labelled", &["Accept-Encoding: gzip"]).answered(gzipped()),
        call("gzip that is none", &[]).answered(answer("200 OK", &["Content-Encoding: gzip"], "plain")),
        call("events", &["X-DashScope-SSE: enable", "Accept: text/event-stream"]).answered(chunked(
            "200 OK",
            &sse,
            &events,
            &[],
        )),
        call("events that end with the connection", &[]).answered(sized(
            "HTTP/1.1 200 OK\nContent-Type: text/event-stream\nConnection: close\n\n: hi\n\n",
        )),
        call("chunks", &[]).answered(chunked("200 OK", &json, &["{", "\"a\":1", "}"], &[])),
        call("no chunks", &[]).answered(chunked("200 OK", &json, &[], &[])),
        call("chunks and trailers", &["TE: trailers", "Connection: TE"]).answered(chunked(
            "200 OK",
            &["Trailer: X-Cost, X-Checksum"],
            &["{}"],
            &["X-Cost: 1.5", "X-Checksum: 00"],
        )),
        call("no length, no chunks", &[]).answered(sized("HTTP/1.1 200 OK\nX: 1\n\n{}")),
        call("HTTP/1.0, by close", &[]).answered(sized("HTTP/1.0 200 OK\nX: 1\n\n{}")),
        call("HTTP/1.0, kept alive", &[])
            .answered(sized("HTTP/1.0 200 OK\nConnection: keep-alive\nContent-Length: 2\n\n{}")),
        Exchange { version: "HTTP/1.0", ..call("chunks for HTTP/1.0", &[]) }.answered(chunked(
            "200 OK",
            &json,
            &["{", "}"],
            &[],
        )),
        call("204", &[]).answered(sized("HTTP/1.1 204 No Content\nX: 1\n\n")),
        call("304", &["If-None-Match: \"a\""]).answered(sized("HTTP/1.1 304 Not Modified\nETag: \"a\"\n\n")),
        call("304 with a length", &["If-None-Match: \"a\""])
            .answered(sized("HTTP/1.1 304 Not Modified\nETag: \"a\"\nContent-Length: 1234\n\n")),
        call("201, nothing", &[]).answered(answer("201 Created", &["Location: /x"], "")),
        call("a redirect", &[]).answered(answer(
            "307 Temporary Redirect",
            &["Location: https://elsewhere.example/a?b#c"],
            "",
        )),
        call("a reason of its own", &[]).answered(answer("200 All is well, and (so) on", &json, "{}")),
        call("no reason", &[]).answered(sized("HTTP/1.1 200 \nContent-Length: 2\n\n{}")),
        call("a status that nobody knows", &[]).answered(answer("599 Odd", &json, "{}")),
        call("unusual values", &[]).answered(answer(
            "200 OK",
            &["X-High: caf\u{e9} \u{4f60}", "X-Empty:", "X-Blank:  ", "X-Inner: a \t b", "Date: yesterday"],
            "{}",
        )),
        call("many fields of one name", &[]).answered(answer(
            "200 OK",
            &["X-Many: 1", "Vary: Origin", "x-many: 2,3", "X-MANY:", "Vary: Accept", "X-Many: 1"],
            "{}",
        )),
        call("a cookie of the balancer", &[]).answered(answer(
            "200 OK",
            &["Set-Cookie: acw_tc=1;path=/", "Keep-Alive: timeout=5"],
            "{}",
        )),
        Exchange { interim: "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", ..call("early hints", &[]) },
        Exchange {
            interim: "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n",
            ..call("interim answers", &[])
        },
    ]
}

fn errors() -> Vec<Exchange> {
    let flat = r#"{"code":"InvalidApiKey","message":"No API-key provided.","request_id":"7438d53d"}"#;
    let openai = r#"{"error":{"message":"Incorrect API key provided. ","type":"invalid_request_error","param":null,"code":"invalid_api_key"},"request_id":"x"}"#;
    let framed = "id:1\nevent:error\n:HTTP_STATUS/400\ndata:{\"code\":\"InvalidParameter\"}\n\n";
    let json = ["Content-Type: application/json"];
    vec![
        call("a flat error", &[]).answered(answer("401 Unauthorized", &json, flat)),
        Exchange { path: CHAT, ..call("an error of the compatible mode", &[]) }.answered(answer(
            "401 Unauthorized",
            &json,
            openai,
        )),
        call("an error as events, called JSON", &[]).answered(answer("400 Bad Request", &json, framed)),
        call("an error inside 200", &[]).answered(answer("200 OK", &json, flat)),
        call("too many requests", &[]).answered(answer(
            "429 Too Many Requests",
            &["Retry-After: 1849295", "X-Should-Retry: true"],
            flat,
        )),
        call("a page of HTML", &[]).answered(answer(
            "502 Bad Gateway",
            &["Content-Type: text/html"],
            "<html>\r\n502\r\n</html>",
        )),
    ]
}

pub(crate) fn with_unexpected_trailers() -> Vec<Exchange> {
    let behind = ["X-Cost: 1.5"];
    let announced = ["Trailer: X-Cost"];
    vec![
        post(
            "a request's, not announced",
            SERVICE,
            &["Transfer-Encoding: chunked"],
            "2\r\n{}\r\n0\r\nX-Cost: 1\r\n\r\n",
        ),
        post("an answer's, not announced", SERVICE, &["TE: trailers", "Connection: TE", TWO], "{}")
            .answered(chunked("200 OK", &[], &["{}"], &behind)),
        post("an answer's, not asked for", SERVICE, &[TWO], "{}").answered(chunked(
            "200 OK",
            &announced,
            &["{}"],
            &behind,
        )),
    ]
}
