//! A client that submits tasks and waits for them exactly as the Python SDK's classic classes do.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

#[derive(Clone)]
pub(crate) struct Client {
    host: String,
    address: SocketAddr,
    key: &'static str,
}

/// A status and a body.
pub(crate) type Answer = (u16, Bytes);

impl Client {
    pub(crate) fn new(address: SocketAddr, key: &'static str) -> Client {
        Client { host: address.to_string(), address, key }
    }

    pub(crate) async fn get(&self, path: &str) -> io::Result<Answer> {
        self.ask(Method::GET, path, Bytes::new()).await
    }

    pub(crate) async fn poll(&self, id: &str) -> io::Result<Answer> {
        self.get(&format!("/api/v1/tasks/{id}")).await
    }

    /// Submits a task and gives its id.
    pub(crate) async fn submit(&self, model: &str) -> io::Result<String> {
        let body = format!(r#"{{"model":"{model}","input":{{"prompt":"a lighthouse at dusk"}}}}"#);
        let answer = json(self.ask(Method::POST, SYNTHESIS, body.into()).await?)?;
        let id = answer["output"]["task_id"].as_str();
        id.map(str::to_owned).ok_or_else(|| io::Error::other(format!("no task id in {answer}")))
    }

    /// Sends one request on a connection of its own, which this side closes, as the SDK does.
    async fn ask(&self, method: Method, path: &str, body: Bytes) -> io::Result<Answer> {
        let mut request = Request::builder()
            .method(&method)
            .uri(path)
            .header(HOST, &self.host)
            .header(AUTHORIZATION, format!("Bearer {}", self.key))
            .header("accept", "*/*")
            .header("accept-encoding", "gzip, deflate");
        if method == Method::POST {
            request = request.header(CONTENT_TYPE, "application/json").header("x-dashscope-async", "enable");
        }
        let request = request.body(Full::new(body)).map_err(io::Error::other)?;
        let exchange = async {
            let stream = TcpStream::connect(self.address).await?;
            let (mut sender, connection) =
                http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
            let answer = async move {
                let response = sender.send_request(request).await?;
                let status = response.status().as_u16();
                Ok::<_, hyper::Error>((status, response.into_body().collect().await?.to_bytes()))
            };
            tokio::join!(answer, connection).0.map_err(io::Error::other)
        };
        tokio::time::timeout(SDK_TIMEOUT, exchange).await?
    }

    /// `wait` of dashscope 2.0.2, client/base_api.py: one second between polls, doubled at every third step up to
    /// five; only 503 and 504 are tried again.
    pub(crate) async fn wait(&self, id: &str) -> Waited {
        let mut waited = Waited { end: End::Waiting, polls: Vec::new(), server_errors: 0 };
        let mut pause = Duration::from_secs(1);
        loop {
            if pause < LONGEST_PAUSE && (waited.polls.len() + 1).is_multiple_of(3) {
                pause = (2 * pause).min(LONGEST_PAUSE);
            }
            let asked = Instant::now();
            let answer = self.poll(id).await;
            let at = SystemTime::now();
            waited.polls.push(asked.elapsed());
            waited.server_errors += u32::from(matches!(answer, Ok((500.., _))));
            waited.end = match answer {
                Ok((503 | 504, _)) => End::Waiting,
                Ok((200, body)) => End::of(&body, at),
                Ok((status, _)) => End::Refused(status),
                Err(error) => End::Broken(error.to_string()),
            };
            if !matches!(waited.end, End::Waiting) {
                return waited;
            }
            tokio::time::sleep(pause).await;
        }
    }
}

/// Result of a client's wait.
pub(crate) struct Waited {
    pub(crate) end: End,
    /// Duration of each poll.
    pub(crate) polls: Vec<Duration>,
    /// Answers with a 5xx, those tried again included.
    pub(crate) server_errors: u32,
}

pub(crate) enum End {
    /// The time at which the client learned that its task succeeded.
    Succeeded(SystemTime),
    /// The task ended in another way, by the status that the client got.
    Other(String),
    /// The SDK gives the task up for lost.
    Refused(u16),
    Broken(String),
    Waiting,
}

impl End {
    fn of(body: &[u8], at: SystemTime) -> End {
        let answer: Value = serde_json::from_slice(body).unwrap_or_default();
        match answer["output"]["task_status"].as_str() {
            Some("SUCCEEDED") => End::Succeeded(at),
            Some(status @ ("FAILED" | "CANCELED" | "UNKNOWN")) => End::Other(status.to_owned()),
            Some(_) => End::Waiting,
            None => End::Other(answer.to_string()),
        }
    }
}

/// The body of a 200, read.
pub(crate) fn json((status, body): Answer) -> io::Result<Value> {
    let shown = || String::from_utf8_lossy(&body[..body.len().min(300)]).into_owned();
    if status != 200 {
        return Err(io::Error::other(format!("status {status}: {}", shown())));
    }
    serde_json::from_slice(&body).map_err(|error| io::Error::other(format!("{error}: {}", shown())))
}

const SYNTHESIS: &str = "/api/v1/services/aigc/video-generation/video-synthesis";
const SDK_TIMEOUT: Duration = Duration::from_secs(300);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
