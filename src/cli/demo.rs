//! `dashgate demo`: the gateway and a simulated DashScope on loopback, and one Wan task from submit to a downloaded
//! file.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{Method, Request, StatusCode, Uri};
use serde_json::Value;

use crate::app::{self, RunningGateway};
use crate::config::{Config, StoreSettings};
use crate::net::fetch::{LONG_ANSWER, SHORT_ANSWER, fetch};
use crate::sim::{self, Simulator};

/// Options of `dashgate demo`.
#[derive(Debug, clap::Args)]
pub struct DemoOptions {
    /// End after the task instead of going on to serve; exits with 0 or 1.
    #[arg(long)]
    pub once: bool,
    /// Where the gateway listens. If another process is there, a free port is taken.
    #[arg(long, value_name = "ADDR", default_value_t = SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)))]
    pub listen: SocketAddr,
    /// How long the simulated task runs.
    #[arg(long, value_name = "N", default_value_t = 5.0)]
    pub run_seconds: f64,
    /// Where the video is stored.
    #[arg(long, value_name = "FILE", default_value = "dashgate-demo.mp4")]
    pub output: PathBuf,
}

/// The running simulator and gateway; both end when this is dropped.
pub struct Demo {
    _simulator: Simulator,
    gateway: RunningGateway,
    output: PathBuf,
    _scratch: Scratch,
}

/// Starts the simulator and a gateway in front of it.
///
/// # Errors
/// Why one of them can't listen.
pub fn start(options: &DemoOptions) -> io::Result<Demo> {
    let simulator = Simulator::start(sim::SimulatorOptions {
        keys: vec![UPSTREAM_KEY.parse().map_err(io::Error::other)?],
        run: Duration::try_from_secs_f64(options.run_seconds).map_err(io::Error::other)?,
        ..sim::SimulatorOptions::default()
    })?;
    let (upstream, storage) = (simulator.address(), simulator.oss_address());
    let scratch = Scratch::make()?;
    let gateway = match app::start(&config(options.listen, upstream, storage, &scratch)?) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            app::start(&config(SocketAddr::new(options.listen.ip(), 0), upstream, storage, &scratch)?)?
        }
        started => started?,
    };
    say(&format!(
        "1. A simulated DashScope listens on http://{upstream}.\n   It knows one account, whose key only the gateway has.\n\
         2. dashgate listens on http://{}, with the mounts /wan, /alibabacloudapi and /,\n   \
         /v1 for OpenAI's SDKs, and two tenants on that one account: acme and globex.\n",
        gateway.address()
    ));
    Ok(Demo { _simulator: simulator, gateway, output: options.output.clone(), _scratch: scratch })
}

fn config(
    listen: SocketAddr,
    upstream: SocketAddr,
    storage: SocketAddr,
    scratch: &Scratch,
) -> io::Result<Config> {
    let text = format!(
        r#"
        server = {{ listen = "{listen}" }}
        admin = {{ listen = "127.0.0.1:0" }}
        log = {{ access = "off" }}
        accounts = [{{ name = "main", base_url = "http://{upstream}", keys = ["{UPSTREAM_KEY}"] }}]
        mounts = [
            {{ prefix = "/wan" }}, {{ prefix = "/alibabacloudapi" }}, {{ prefix = "/" }},
            {{ prefix = "/v1", dialect = "unified", storage = {{ hosts = ["http://{storage}"] }} }},
        ]
        tenants = [
            {{ name = "acme", keys = [{{ id = "acme-demo", key = "{ACME_KEY}" }}] }},
            {{ name = "globex", keys = [{{ id = "globex-demo", key = "{GLOBEX_KEY}" }}] }},
        ]
        "#
    );
    let loaded = Config::parse(&text, Path::new("."), &|_| None);
    let mut config = loaded.map_err(|faults| io::Error::other(format!("{faults:?}")))?.config;
    config.settings.store = StoreSettings::Embedded { path: scratch.0.join("dashgate.db") };
    Ok(config)
}

/// Temporary directory of the store, removed with the demonstration.
struct Scratch(PathBuf);

impl Scratch {
    fn make() -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("dashgate-demo-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A directory that can't be removed is left to the system's cleaning of temporary files.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Demo {
    /// Runs one task from submit to the file, and shows what the gateway refuses.
    ///
    /// # Errors
    /// The first step that failed.
    pub async fn show(&self) -> Result<(), DemoFailure> {
        let task_id = self.submit().await?;
        let video_url = self.wait(&task_id).await?;
        self.download(&video_url).await?;
        self.keep_apart(&task_id).await
    }

    async fn submit(&self) -> Result<String, DemoFailure> {
        say(&format!("3. acme submits a task: POST {SUBMIT}\n"));
        let answer = self.call(Method::POST, SUBMIT, ACME_KEY, Some(BODY)).await?;
        say(&format!("   {}\n", answer.shown()));
        answer.string("/output/task_id")
    }

    async fn wait(&self, task_id: &str) -> Result<String, DemoFailure> {
        let path = format!("/wan/api/v1/tasks/{task_id}");
        say(&format!("4. It polls: GET {path}\n"));
        let mut progress = StatusLine::begin();
        loop {
            let answer = self.call(Method::GET, &path, ACME_KEY, None).await?;
            let status = answer.string("/output/task_status")?;
            progress.show(&status);
            match status.as_str() {
                "PENDING" | "RUNNING" => tokio::time::sleep(POLL_EVERY).await,
                "SUCCEEDED" => {
                    say(&format!("   usage {}\n", answer.json["usage"]));
                    return answer.string("/output/video_url");
                }
                _ => return Err(DemoFailure(format!("the task ended as {}", answer.shown()))),
            }
        }
    }

    async fn download(&self, url: &str) -> Result<(), DemoFailure> {
        let url: Uri = url.parse().map_err(|error| DemoFailure(format!("{url}: {error}")))?;
        let host = url.authority().map(ToString::to_string).unwrap_or_default();
        let target = url.path_and_query().map_or("/", |target| target.as_str());
        let request = Request::get(target).header(HOST, &host).body(Full::default())?;
        let (status, video) = fetch(&host, None, None, request, LONG_ANSWER).await?;
        if status != StatusCode::OK || video.get(4..8) != Some(b"ftyp") {
            return Err(DemoFailure(format!(
                "the result at {host} is no MP4 but {status}, {} bytes",
                video.len()
            )));
        }
        let part = self.output.with_extension("mp4.part");
        std::fs::write(&part, &video).and_then(|()| std::fs::rename(&part, &self.output))?;
        say(&format!(
            "5. It downloads the result, without its key, and stores {} bytes of MP4 in {}.\n",
            video.len(),
            self.output.display()
        ));
        Ok(())
    }

    async fn keep_apart(&self, task_id: &str) -> Result<(), DemoFailure> {
        let path = format!("/wan/api/v1/tasks/{task_id}");
        let foreign = self.call(Method::GET, &path, GLOBEX_KEY, None).await?;
        say(&format!(
            "6. globex asks for acme's task, and is told what it would be of one that never was:\n   {}\n",
            foreign.shown()
        ));
        if foreign.string("/output/task_status")? != "UNKNOWN" {
            return Err(DemoFailure("another tenant's task was shown".to_owned()));
        }
        let tokens = self.call(Method::POST, "/wan/api/v1/tokens", ACME_KEY, None).await?;
        say(&format!(
            "7. acme asks for POST /tokens, which would hand out a credential of the account:\n   {}\n",
            tokens.shown()
        ));
        if tokens.status != StatusCode::FORBIDDEN {
            return Err(DemoFailure("POST /tokens was passed on".to_owned()));
        }
        Ok(())
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        key: &str,
        body: Option<&'static str>,
    ) -> Result<DemoResponse, DemoFailure> {
        let address = self.gateway.address().to_string();
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, &address)
            .header(AUTHORIZATION, format!("Bearer {key}"));
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json").header("x-dashscope-async", "enable");
        }
        let request = request.body(Full::from(Bytes::from_static(body.unwrap_or_default().as_bytes())))?;
        let (status, body) = fetch(&address, None, None, request, SHORT_ANSWER).await?;
        let json = serde_json::from_slice(&body).map_err(|error| {
            DemoFailure(format!("{path} answered {status} with something else than JSON: {error}"))
        })?;
        Ok(DemoResponse { status, json })
    }

    /// Commands to try while the demonstration goes on to serve.
    pub fn invitation(&self) -> String {
        let address = self.gateway.address();
        let mut text = String::new();
        let _ = write!(
            text,
            "\nIt goes on serving until Ctrl-C. Try it in another terminal.\n\n\
             Any DashScope SDK, unchanged:\n\n  \
             export DASHSCOPE_API_KEY={ACME_KEY}\n  \
             export DASHSCOPE_HTTP_BASE_URL=http://{address}/wan/api/v1\n  \
             export DASHSCOPE_WEBSOCKET_BASE_URL=ws://{address}/wan/api-ws/v1/inference\n  \
             python3 -c 'from dashscope import VideoSynthesis as V; \
             print(V.call(model=\"wan2.7-t2v\", prompt=\"a lighthouse at dusk\").output)'\n\n\
             curl:\n\n  \
             curl http://{address}{SUBMIT} \\\n    \
             -H 'Authorization: Bearer {ACME_KEY}' -H 'X-DashScope-Async: enable' \\\n    \
             -H 'Content-Type: application/json' \\\n    \
             -d '{{\"model\":\"wan2.7-t2v\",\"input\":{{\"prompt\":\"a lighthouse at dusk\"}},\"parameters\":{{\"duration\":5}}}}'\n  \
             curl http://{address}/wan/api/v1/tasks -H 'Authorization: Bearer {ACME_KEY}'\n\n\
             OpenAI's SDKs, or curl, in their own dialect:\n\n  \
             curl http://{address}/v1/videos -H 'Authorization: Bearer {ACME_KEY}' \\\n    \
             -F model=wan2.7-t2v -F prompt='a lighthouse at dusk' -F seconds=5 -F size=1280x720\n  \
             curl http://{address}/v1/videos/ID/content -H 'Authorization: Bearer {ACME_KEY}' -o video.mp4\n\n\
             The other tenant's key: {GLOBEX_KEY}\n"
        );
        text
    }
}

struct DemoResponse {
    status: StatusCode,
    json: Value,
}

impl DemoResponse {
    fn shown(&self) -> String {
        format!("{} {}", self.status.as_u16(), self.json)
    }

    fn string(&self, pointer: &str) -> Result<String, DemoFailure> {
        let found = self.json.pointer(pointer).and_then(Value::as_str);
        found.map(str::to_owned).ok_or_else(|| DemoFailure(format!("no {pointer} in {}", self.shown())))
    }
}

/// Status of the task: one moving line on a terminal; elsewhere, a line for each new status.
struct StatusLine {
    began: Instant,
    shown: String,
}

impl StatusLine {
    fn begin() -> Self {
        Self { began: Instant::now(), shown: String::new() }
    }

    fn show(&mut self, status: &str) {
        let seconds = self.began.elapsed().as_secs_f64();
        let ended = !matches!(status, "PENDING" | "RUNNING");
        if io::stdout().is_terminal() {
            let dots = ".".repeat((seconds * 4.0) as usize % 24);
            say(&format!("\r   {status:<9} {seconds:>5.1} s {dots:<24}{}", if ended { "\n" } else { "" }));
        } else if status != self.shown {
            say(&format!("   {status} after {seconds:.1} s\n"));
        }
        status.clone_into(&mut self.shown);
    }
}

/// A failed step of the demonstration.
#[derive(Debug)]
pub struct DemoFailure(pub String);

impl<E: std::error::Error> From<E> for DemoFailure {
    fn from(error: E) -> Self {
        DemoFailure(error.to_string())
    }
}

fn say(text: &str) {
    let mut out = io::stdout();
    // A closed standard output has no reader.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

const SUBMIT: &str = "/wan/api/v1/services/aigc/video-generation/video-synthesis";
const BODY: &str = r#"{
    "model": "wan2.7-i2v",
    "input": {
        "prompt": "The paper boat sets sail across the puddle",
        "media": [{ "type": "first_frame", "url": "https://example.com/boat.png" }]
    },
    "parameters": { "resolution": "720P", "duration": 5 }
}"#;
/// Keys of a simulator on loopback, which protect nothing.
const UPSTREAM_KEY: &str = "sk-demo-upstream-9c41f07b";
const ACME_KEY: &str = "sk-demo-acme-2f9b7c01d4e8";
const GLOBEX_KEY: &str = "sk-demo-globex-6a03e5b8f7";
const POLL_EVERY: Duration = Duration::from_millis(250);
