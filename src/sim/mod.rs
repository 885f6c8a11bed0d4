//! A simulator of DashScope, good enough to trust the tests that run against it.
//!
//! It shares no code with the gateway, so that a mistake in one cannot hide in the other. Every request is kept
//! as it arrived; faults are scripted; the clock can be moved on.

mod account;
mod account_wide;
mod api;
mod body;
mod call;
mod compatible;
mod errors;
mod fault;
mod form;
mod generation;
mod handshake;
mod journal;
mod media;
mod media_sets;
mod models;
mod options;
mod oss;
mod outcome;
mod parameters;
mod pattern;
mod raw;
mod realtime;
mod reply;
mod route;
mod run_task;
mod server;
mod service;
mod session;
mod signature;
mod simulator;
mod streaming;
mod task_api;
mod tasks;
mod upload;
mod usage;
mod wire;
mod world;

pub use account::Credential;
pub use errors::Throttling;
pub use fault::{Act, Fault};
pub use journal::{Frame, Listener, Seen};
pub use options::{Options, Throttle};
pub use simulator::{Simulator, TaskView, run};
pub use tasks::Status;
pub use upload::Upload;

const LONG_ABOUT: &str = "\
Simulate DashScope on loopback: tasks, synchronous and streamed generation, the compatible surfaces, both \
WebSocket protocols, uploads with a stand-in for OSS, and the account-wide endpoints.

A fault is written [METHOD] PATH[#N|#N-M|#N-] WORD[,WORD]..., where PATH may hold * and #N picks the Nth request
that matches:
  delay=TIME           wait first                  status=CODE[:code[:message]]  answer with an error
  early                answer before the body      throttle=KIND                 answer with a 429
  header=NAME:VALUE    add to the answer           close, reset                  FIN or RST, nothing done
  lose                 do it, then RST             silence, garbage              no answer; not HTTP
  truncate=N[:reset]   cut the answer's body       stall=N                       stop after N bytes of it
  wrong-length=+N|-N   lie in content-length       slow=BYTES/TIME               send it in pieces
  hang-up              answer, then close unannounced

A request may ask for a longer answer in parameters.sim (native) or sim (compatible):
  {\"events\": N, \"interval_ms\": N, \"bytes\": N, \"fail_after\": N, \"framed_error\": true}
A WebSocket task may ask in parameters.sim for {\"ping\": true}, {\"fail\": true} or {\"close\": CODE}.
GET /sim/bytes?size=N gives N bytes. An image prompt with fail:N fails the Nth image; an audio URL with \
\"missing\" in it cannot be downloaded.

It follows the documentation and recorded exchanges in: paths and call modes; 403 for a missing or a needless \
X-DashScope-Async; the states of a task and its fields, times in UTC+8; UNKNOWN with status 200 for ids that are \
strange, foreign or expired; the usage of each Wan model; the shape, filters and paging of the list; cancel only \
of PENDING; 20 queries, lists and cancels a second each; running limits of Wan 2.1 to 2.6, over which a task \
stays PENDING; the order key, route, model, standing, body; error codes, statuses and envelopes; the framing of \
SSE; run-task and realtime events; the upload policy and its form; 403 for a result URL fetched with an \
Authorization header, and after its end.

It guesses: limits of Wan 2.7 and 3.0 (5 a second, 5 running); that every parameter is checked at submit; the \
texts of parameter errors; submit_time while PENDING; no actual_prompt for Wan 2.6 and later; UNKNOWN for an id \
that is no UUID; UnsupportedOperation for the cancel of an unknown id; the place of the async header and of rate \
limits in the order of checks (after the model, after the standing); no retry-after on a 429; x-request-id equal \
to request_id everywhere; an oss:// input without the resolve header, of another account or model (refused at \
submit); 404 for unknown paths, which are read generously: %2e%2e, doubled slashes and ;x are resolved; an idle \
WebSocket task ends after 23 s; HMAC-SHA-256 where OSS signs with HMAC-SHA-1, and HEAD with a URL signed for \
GET; most answers of account-wide endpoints; errors before a stream are JSON, within it event:error.

It does not simulate: decrypting an encrypted input, fetching the URLs of inputs, moderation, billing, \
limits of synchronous models, X-DashScope-Wait-Timeout, super-resolution states, responses that continue stored ones.";
