//! Export of spans by a background thread: in batches, with bounded memory and time, also without a collector.

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

use super::otlp;
use super::settings::ExporterSettings;
use super::span::Span;
use super::tracer::Tracer;
use crate::net::fetch::{SHORT_ANSWER, fetch};
use crate::telemetry::log_throttle::LogThrottle;
use crate::telemetry::metrics::{Metrics, SpanResult};

/// The exporting thread, which ends after the last [`Tracer`].
#[derive(Debug)]
pub struct Exporter {
    thread: JoinHandle<()>,
    /// Dropping this limits the time for the remaining spans.
    flush: oneshot::Sender<()>,
}

impl Exporter {
    /// Waits until all spans are sent, for `FLUSH` at most. Blocks.
    pub fn finish(self) {
        drop(self.flush);
        if self.thread.join().is_err() {
            tracing::error!("the thread that sends spans panicked");
        }
    }
}

/// Starts the exporting thread.
///
/// # Errors
/// An error of starting the thread or its runtime.
pub fn start(settings: ExporterSettings, metrics: Arc<Metrics>) -> io::Result<(Tracer, Exporter)> {
    let (spans, waiting) = mpsc::channel(settings.most_waiting);
    let (flush, flushed) = oneshot::channel();
    let traces = Tracer { sampler: settings.sampler, spans, metrics: Arc::clone(&metrics) };
    let runtime = Builder::new_current_thread().enable_all().max_blocking_threads(1).build()?;
    let sender = SpanSender { settings, metrics, reports: LogThrottle::default() };
    let work = move || {
        runtime.block_on(sender.run(waiting, flushed));
        // A DNS look-up that hangs must not block the end of the thread.
        runtime.shutdown_background();
    };
    let thread = thread::Builder::new().name("traces".to_owned()).spawn(work)?;
    Ok((traces, Exporter { thread, flush }))
}

struct SpanSender {
    settings: ExporterSettings,
    metrics: Arc<Metrics>,
    reports: LogThrottle,
}

impl SpanSender {
    async fn run(self, mut waiting: mpsc::Receiver<Vec<Span>>, flushed: oneshot::Receiver<()>) {
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

    /// Gathers a batch until it is full, its first span has waited long enough, or no more spans will come.
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

    /// Sends a batch, and repeats it within its time if the collector asks for that.
    async fn deliver(&self, batch: &[Span]) {
        let body = self.body(batch);
        let all = async {
            let mut pause = FIRST_PAUSE;
            loop {
                match self.post(body.clone()).await {
                    Err(failure) if failure.is_temporary => {
                        sleep(pause).await;
                        pause *= 2;
                    }
                    ended => return ended.map_err(|failure| failure.problem),
                }
            }
        };
        let ended = timeout(self.settings.timeout, all).await;
        let ended = ended.unwrap_or_else(|_| Err("the collector did not take them in time".to_owned()));
        match ended {
            Ok(()) => self.metrics.count_spans(SpanResult::Sent, batch.len()),
            Err(problem) => {
                self.metrics.count_spans(SpanResult::Failed, batch.len());
                self.report(&problem);
            }
        }
    }

    fn body(&self, batch: &[Span]) -> Bytes {
        let plain = otlp::request(&self.settings.resource, batch);
        if !self.settings.gzip {
            return plain.into();
        }
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        // A write to memory does not fail.
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
        let (tls, proxy) = (settings.tls.as_ref(), settings.proxy.as_ref());
        match fetch(&settings.authority, tls, proxy, request, SHORT_ANSWER).await {
            Ok((status, _)) if status.is_success() => Ok(()),
            Ok((status, _)) => {
                let is_temporary = matches!(
                    status,
                    StatusCode::TOO_MANY_REQUESTS
                        | StatusCode::BAD_GATEWAY
                        | StatusCode::SERVICE_UNAVAILABLE
                        | StatusCode::GATEWAY_TIMEOUT
                );
                Err(SendFailure { is_temporary, problem: format!("the collector answered {status}") })
            }
            Err(fault) => Err(SendFailure { is_temporary: true, problem: fault.to_string() }),
        }
    }

    /// Reports a failure: a collector that is away fails each batch.
    fn report(&self, problem: &str) {
        if self.reports.lets_through(Instant::now()) {
            let collector = &self.settings.authority;
            tracing::warn!(collector, problem, "spans were not sent");
        }
    }
}

struct SendFailure {
    is_temporary: bool,
    problem: String,
}

/// Time for the remaining spans at the end of the process.
const FLUSH: Duration = Duration::from_secs(3);
const FIRST_PAUSE: Duration = Duration::from_millis(500);
