//! Sends spans out, from a thread of its own: in batches, within bounds, and without harm where nobody takes them.

use std::io::{self, Write as _};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http_body_util::Full;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HOST};
use hyper::{Request, StatusCode};
use tokio::runtime::Builder;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::settings::ExporterSettings;
use super::span::Span;
use super::{Tracer, otlp};
use crate::net::fetch::fetch;
use crate::telemetry::metrics::{Metrics, SpanResult};

/// The thread that sends; it ends when all that hand it spans have.
#[derive(Debug)]
pub struct Exporter {
    thread: JoinHandle<()>,
    /// Dropped when no more comes: then there is only so much time.
    flush: oneshot::Sender<()>,
}

impl Exporter {
    /// Waits until all is sent, or for as long as that may take. Blocks.
    pub fn finish(self) {
        drop(self.flush);
        if self.thread.join().is_err() {
            tracing::error!("the thread that sends spans panicked");
        }
    }
}

/// # Errors
/// Why there is no thread or runtime.
pub fn start(settings: ExporterSettings, metrics: Arc<Metrics>) -> io::Result<(Tracer, Exporter)> {
    let (spans, waiting) = mpsc::channel(settings.most_waiting);
    let (flush, flushed) = oneshot::channel();
    let traces = Tracer { sampler: settings.sampler, spans, metrics: Arc::clone(&metrics) };
    let runtime = Builder::new_current_thread().enable_all().max_blocking_threads(1).build()?;
    let sender = SpanSender { settings, metrics, told: None };
    let work = move || {
        runtime.block_on(sender.run(waiting, flushed));
        // A look-up of a name that hangs is not waited for.
        runtime.shutdown_background();
    };
    let thread = thread::Builder::new().name("traces".to_owned()).spawn(work)?;
    Ok((traces, Exporter { thread, flush }))
}

struct SpanSender {
    settings: ExporterSettings,
    metrics: Arc<Metrics>,
    /// When a failure was last told of.
    told: Option<Instant>,
}

impl SpanSender {
    async fn run(mut self, mut waiting: mpsc::Receiver<Vec<Span>>, flushed: oneshot::Receiver<()>) {
        let work = async {
            while let Some(first) = waiting.recv().await {
                let batch = self.gather(first, &mut waiting).await;
                self.deliver(&batch).await;
            }
        };
        tokio::select! {
            () = work => {}
            () = async { let _ = flushed.await; sleep(FLUSH).await } => {}
        }
    }

    /// More, until there are enough, or the first has waited for long enough, or no more will come.
    async fn gather(&self, mut batch: Vec<Span>, waiting: &mut mpsc::Receiver<Vec<Span>>) -> Vec<Span> {
        let deadline = Instant::now() + self.settings.delay;
        while batch.len() < self.settings.most_per_batch {
            match timeout_at(deadline, waiting.recv()).await {
                Ok(Some(more)) => batch.extend(more),
                Ok(None) | Err(_) => break,
            }
        }
        batch
    }

    /// Tries again where the collector asks for it, as long as a batch may take.
    async fn deliver(&mut self, batch: &[Span]) {
        let body = self.body(batch);
        let all = async {
            let mut pause = FIRST_PAUSE;
            loop {
                match self.post(body.clone()).await {
                    Err(failure) if failure.may_pass => {
                        sleep(pause).await;
                        pause *= 2;
                    }
                    ended => return ended.map_err(|failure| failure.problem),
                }
            }
        };
        let ended = timeout(self.settings.timeout, all).await;
        let ended = ended.unwrap_or_else(|_| Err("it did not take them in time".to_owned()));
        match ended {
            Ok(()) => self.metrics.count_spans(SpanResult::Sent, batch.len()),
            Err(problem) => {
                self.metrics.count_spans(SpanResult::Failed, batch.len());
                self.tell(&problem);
            }
        }
    }

    fn body(&self, batch: &[Span]) -> Bytes {
        let plain = otlp::request(&self.settings.resource, batch);
        if !self.settings.gzip {
            return plain.into();
        }
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        // In memory nothing fails.
        let _ = packed.write_all(&plain);
        packed.finish().unwrap_or_default().into()
    }

    async fn post(&self, body: Bytes) -> Result<(), SendFailure> {
        let settings = &self.settings;
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = hyper::Method::POST;
        *request.uri_mut() = settings.path.clone();
        let headers = request.headers_mut();
        headers.clone_from(&settings.headers);
        headers.insert(HOST, settings.host.clone());
        headers.insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/x-protobuf"));
        if settings.gzip {
            headers.insert(CONTENT_ENCODING, hyper::header::HeaderValue::from_static("gzip"));
        }
        match fetch(&settings.authority, settings.tls.as_ref(), request).await {
            Ok((status, _)) if status.is_success() => Ok(()),
            Ok((status, _)) => {
                let may_pass = matches!(
                    status,
                    StatusCode::TOO_MANY_REQUESTS
                        | StatusCode::BAD_GATEWAY
                        | StatusCode::SERVICE_UNAVAILABLE
                        | StatusCode::GATEWAY_TIMEOUT
                );
                Err(SendFailure { may_pass, problem: format!("it answered {status}") })
            }
            Err(fault) => Err(SendFailure { may_pass: true, problem: fault.to_string() }),
        }
    }

    /// Once in a while: a collector that is away is away for each batch.
    fn tell(&mut self, problem: &str) {
        let now = Instant::now();
        if self.told.is_none_or(|told| now - told > BETWEEN_TELLINGS) {
            self.told = Some(now);
            let collector = &self.settings.authority;
            tracing::warn!(collector, problem, "spans were not sent");
        }
    }
}

struct SendFailure {
    may_pass: bool,
    problem: String,
}

/// At the end, for all that waits.
const FLUSH: Duration = Duration::from_secs(3);
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const BETWEEN_TELLINGS: Duration = Duration::from_secs(60);
