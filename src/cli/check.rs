//! `dashgate check --online`: tries the upstream keys and the store of a configuration.
//!
//! Each key is tried with a query for a made-up task. It costs nothing, needs no model, and DashScope judges the key
//! first: UNKNOWN for a good key, 401 for any other (protocol 3.2 and 3.11). A key is sent to its own account's host only.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ACCEPT, AUTHORIZATION, HOST, HeaderValue};
use hyper::{Method, Request, StatusCode};
use rustls::pki_types::ServerName;
use tokio::time::timeout;
use uuid::Uuid;

use crate::config::{AccountSettings, Config, Secret, StoreSettings};
use crate::dashscope::refusal::{self, RefusalCause};
use crate::dashscope::{region, task_state};
use crate::net::fetch::{SHORT_ANSWER, fetch};
use crate::net::{ServerTls, client_config};
use crate::store::{ProbedDatabase, ProbedStore, probe, probe_database};

/// Result of one try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The thing that was tried.
    pub subject: String,
    /// Good news of the thing, or else the problem.
    pub result: Result<String, String>,
}

/// Tries everything, one after another, and hands on each finding as soon as it is known. Returns the number of
/// problems.
pub async fn run(config: &Config, mut tell: impl FnMut(&Finding)) -> usize {
    let mut problems = 0;
    let mut tell = |subject: String, result: Result<String, String>| {
        problems += usize::from(result.is_err());
        tell(&Finding { subject, result });
    };
    for account in &config.accounts {
        let host = account.base_url.authority();
        for (number, key) in account.keys.iter().enumerate() {
            let subject = format!("account `{}`, key {} at {host}", account.name, number + 1);
            match ask(account, key).await {
                Ok(result) => tell(subject, result),
                // The other keys would not get there either.
                Err(problem) => {
                    tell(subject, Err(problem));
                    break;
                }
            }
        }
    }
    let path = match &config.settings.store {
        StoreSettings::Embedded { path } => path,
        StoreSettings::Shared(shared) => {
            let url = shared.url.clone();
            let found = tokio::task::spawn_blocking(move || probe_database(&url)).await;
            let found = match found {
                Ok(Ok(found)) => Ok(database(&found)),
                Ok(Err(fault)) => Err(fault.cause.to_string()),
                Err(error) => Err(error.to_string()),
            };
            tell(format!("store {}", shared.url), found);
            return problems;
        }
    };
    let store = match probe(path) {
        Ok(ProbedStore::New) => Ok("can be made".to_owned()),
        Ok(ProbedStore::Ready) => Ok("can be written".to_owned()),
        Ok(ProbedStore::InUse { process: Some(process) }) => {
            Ok(format!("a gateway uses it (process {process})"))
        }
        Ok(ProbedStore::InUse { process: None }) => Ok("a gateway uses it".to_owned()),
        // A sidecar starts all the same (`app::start`).
        Err(fault) if config.sidecar => Ok(format!(
            "{}; the sidecar will keep tasks in a temporary file, which a restart forgets",
            fault.cause
        )),
        Err(fault) => Err(fault.cause.to_string()),
    };
    tell(format!("store {}", path.display()), store);
    problems
}

/// The state of a database, with a line for each of its gaps.
fn database(found: &ProbedDatabase) -> String {
    let tls = found.tls.as_deref().unwrap_or("no TLS");
    let tables = match found.tables {
        None => "no tables yet: a start or `dashgate store migrate` makes them".to_owned(),
        Some([found, known]) if found < known => format!(
            "tables of version {found}, which a start or `dashgate store migrate` brings to version {known}"
        ),
        Some([found, _]) => format!("tables of version {found}"),
    };
    let gateways = match found.gateways {
        1 => "1 gateway runs with it".to_owned(),
        count => format!("{count} gateways run with it"),
    };
    let mut text = format!("can be written: PostgreSQL {}, {tls}, {tables}, {gateways}", found.server);
    for gap in &found.gaps {
        text += &format!("\n  warning: {gap}");
    }
    text
}

/// Tries a key.
///
/// # Errors
/// Why the account could not be asked.
async fn ask(account: &AccountSettings, key: &Secret) -> Result<Result<String, String>, String> {
    let url = &account.base_url;
    let tls = if url.tls { Some(trust(account)?) } else { None };
    let id = Uuid::new_v4().to_string();
    let request = query(account, key, &id).ok_or("the call can't be written")?;
    let socket = url.socket_name();
    let answer = fetch(&socket, tls.as_ref(), account.proxy.as_ref(), request, SHORT_ANSWER);
    let patience = timeout(PATIENCE, answer);
    let answer = patience.await.map_err(|_| format!("no answer within {} s", PATIENCE.as_secs()))?;
    let (status, body) = answer.map_err(|fault| fault.to_string())?;
    Ok(judge(status, &body, &id, &url.host))
}

fn trust(account: &AccountSettings) -> Result<ServerTls, String> {
    let config = client_config(account.ca_pem.as_deref(), None).map_err(|error| error.to_string())?;
    let name = ServerName::try_from(account.base_url.host.clone()).map_err(|error| error.to_string())?;
    Ok((config, name))
}

fn query(account: &AccountSettings, key: &Secret, id: &str) -> Option<Request<Full<Bytes>>> {
    let url = &account.base_url;
    let mut bearer = HeaderValue::try_from(format!("Bearer {}", key.expose())).ok()?;
    bearer.set_sensitive(true);
    Request::builder()
        .method(Method::GET)
        .uri(format!("{}/api/v1/tasks/{id}", url.path))
        .header(HOST, url.authority())
        .header(AUTHORIZATION, bearer)
        .header(ACCEPT, "application/json")
        .body(Full::default())
        .ok()
}

/// Judges an answer. Nothing of its text is shown but a plain code: it may repeat the key.
fn judge(status: StatusCode, body: &[u8], id: &str, host: &str) -> Result<String, String> {
    match refusal::cause(status.as_u16(), Some(body)) {
        Some(RefusalCause::InvalidKey) => {
            Err(format!("the key is refused: {}", region::refused_key_causes(host)))
        }
        Some(RefusalCause::Arrearage) => {
            Err("the key is good, and a bill of the account is overdue".to_owned())
        }
        Some(cause @ (RefusalCause::Throttled(_) | RefusalCause::Unreachable))
            if refusal::takes_key(status.as_u16(), Some(body)) =>
        {
            Ok(format!("the key is good; the account is throttled at present ({})", cause.name()))
        }
        None if status == StatusCode::OK
            && task_state::read(body).is_some_and(|task| *task.task_id == *id) =>
        {
            Ok(match region::Region::of(host) {
                Some(region) => format!("the key is good, for {}", region.name()),
                None => "the key is good".to_owned(),
            })
        }
        _ if status.is_server_error() => Err(format!("it answers {status}: try again")),
        _ => Err(match refusal::plain_code(body) {
            Some(code) => format!("it answers {status} with the code {code}"),
            None => format!("it answers {status}, and not as DashScope does: check base_url"),
        }),
    }
}

/// Longest wait for one answer; DashScope gives it within some milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_judged_without_showing_their_text() {
        let unknown = br#"{"request_id":"r","output":{"task_id":"t","task_status":"UNKNOWN"}}"#;
        let abroad = "dashscope-intl.aliyuncs.com";
        let judge = |status: u16, body: &[u8], host: &str| {
            super::judge(StatusCode::from_u16(status).expect("a status"), body, "t", host)
        };
        assert_eq!(judge(200, unknown, abroad), Ok("the key is good, for Singapore".to_owned()));
        assert_eq!(judge(200, unknown, "127.0.0.1"), Ok("the key is good".to_owned()));
        let refused =
            judge(401, br#"{"code":"InvalidApiKey","message":"sk-secret"}"#, abroad).expect_err("refused");
        assert!(
            refused.contains("another region than that of dashscope-intl.aliyuncs.com, Singapore"),
            "{refused}"
        );
        assert!(!refused.contains("sk-secret"), "{refused}");
        for (status, body, word) in [
            (400, &br#"{"code":"Arrearage"}"#[..], "overdue"),
            (200, b"<html>sk-secret</html>", "base_url"),
            (200, br#"{"output":{"task_id":"other","task_status":"UNKNOWN"}}"#, "base_url"),
            (302, b"", "base_url"),
            (404, b"{}", "base_url"),
            (404, br#"{"code":"sk-secret"}"#, "base_url"),
            (
                403,
                br#"{"code":"AccessDenied.Unpurchased"}"#,
                "403 Forbidden with the code AccessDenied.Unpurchased",
            ),
            (429, b"<html>", "base_url"),
            (503, b"{}", "try again"),
        ] {
            let problem = judge(status, body, abroad).expect_err("a problem");
            assert!(problem.contains(word) && !problem.contains("sk-secret"), "{status}: {problem}");
        }
        assert!(
            judge(429, br#"{"code":"Throttling.RateQuota"}"#, abroad).expect("good").contains("rate_quota")
        );
    }
}
