//! Problems: why a request to the admin listener is refused, with the status, code and message of each.

use std::borrow::Cow;

use hyper::StatusCode;
use hyper::header::{ALLOW, CONNECTION, HeaderValue, WWW_AUTHENTICATE};
use serde_json::{Value, json};

use super::response::{AdminResponse, answer};
use crate::config::{Fault, Position};
use crate::reports::query::ParameterFault;
use crate::store::{CommitFault, StoreFault};

#[derive(Debug)]
pub(super) enum Problem {
    /// No token is configured.
    Off,
    /// The request has no token, or a wrong one.
    Unauthorized,
    /// The token is good for looking alone.
    ReadOnly,
    /// The request has no valid client certificate.
    NoCertificate,
    /// Cleartext on a listener with TLS.
    Cleartext,
    /// The call comes over loopback under a name that DNS could give to any address.
    ForeignHost,
    /// No such path; these exist.
    NotFound(Vec<&'static str>),
    /// Holds the allowed methods.
    WrongMethod(String),
    WrongContent,
    BodyTooLarge,
    SlowBody,
    BrokenBody,
    /// Holds the parser's message.
    BadJson(String),
    /// Holds a field or a parameter, and its problem.
    BadField(&'static str, Cow<'static, str>),
    UnknownTenant(String),
    /// The path names a tenant that is not configured.
    NoSuchTenant(String),
    /// The body names an entry that the tenant does not have.
    NoSuchEntry(String),
    IdTaken(String),
    /// A tenant has the name, or had it.
    NameTaken(String),
    /// The tenant is in the configuration, and must be changed there.
    ConfiguredTenant(String),
    /// Another replica has changed the tenant at the same time.
    ChangedMeanwhile(String),
    /// Holds the faults of a tenant's settings; nothing was changed.
    BadTenant(Vec<Fault>),
    /// The key is in the configuration, and must be changed there.
    Configured {
        id: String,
        tenant: String,
    },
    NoSuchKey(String),
    /// No key has the secret. `is_mistyped`: it has the form of a key that was made at run time, and a wrong checksum.
    UnknownSecret {
        is_mistyped: bool,
    },
    /// The key was revoked, or has expired.
    Ended(String),
    /// A change that brings a secret was not confirmed.
    Unconfirmed(CommitFault),
    /// An entry of the ledger was not confirmed.
    NotEntered(CommitFault),
    /// Perhaps a change was made. The answer to the change has no secret, so the client may ask again.
    Unassured(CommitFault),
    /// No task has the id.
    NoSuchTask(String),
    /// No orphan of the account has the id.
    NoSuchOrphan(String),
    /// The task has an owner already.
    TaskOwned(String),
    NoSuchDelivery(String),
    /// The store failed while corrections were made.
    RepricedInPart(StoreFault),
    /// The key is revoked in memory, and it is not known whether the store has recorded it.
    RevokedNotKept(CommitFault),
    NoRandomness(getrandom::Error),
    /// The configuration is not from a file.
    NoFile,
    /// Holds the faults of the new configuration; the old one stays.
    BadConfig(Vec<Fault>),
    ReloadBusy,
    /// A report would have more groups than are held in memory.
    TooManyGroups,
    ReportsBusy,
    /// The store can't be read.
    Unreadable(StoreFault),
    Panicked,
}

impl From<ParameterFault> for Problem {
    fn from(fault: ParameterFault) -> Self {
        Problem::BadField(fault.name, fault.problem)
    }
}

impl Problem {
    pub(super) fn answer(&self) -> AdminResponse {
        let (status, code) = self.row();
        let mut body = json!({ "code": code, "message": self.message() });
        if let Problem::BadConfig(faults) | Problem::BadTenant(faults) = self {
            body["faults"] = faults.iter().map(fault).collect();
        }
        let mut answer = answer(status, &body);
        let headers = answer.headers_mut();
        if let Problem::Unauthorized = self {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Problem::WrongMethod(offered) = self {
            headers.extend(HeaderValue::from_str(offered).map(|offered| (ALLOW, offered)));
        }
        if matches!(
            self,
            Problem::BodyTooLarge | Problem::SlowBody | Problem::BrokenBody | Problem::Cleartext
        ) {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        answer
    }

    /// Code of the problem, for programs.
    pub(super) const fn code(&self) -> &'static str {
        self.row().1
    }

    /// True if the change that was asked for may have been made, or a part of it.
    pub(super) const fn is_unclear(&self) -> bool {
        matches!(
            self,
            Problem::Unconfirmed(CommitFault::Unclear(_))
                | Problem::NotEntered(CommitFault::Unclear(_))
                | Problem::Unassured(CommitFault::Unclear(_))
                | Problem::RepricedInPart(_)
                | Problem::RevokedNotKept(_)
                | Problem::Panicked
        )
    }

    const fn row(&self) -> (StatusCode, &'static str) {
        match self {
            Problem::Off => (StatusCode::FORBIDDEN, "admin_api_off"),
            Problem::Unauthorized => (StatusCode::UNAUTHORIZED, "unauthorized"),
            Problem::ReadOnly => (StatusCode::FORBIDDEN, "read_only"),
            Problem::NoCertificate => (StatusCode::FORBIDDEN, "no_certificate"),
            Problem::Cleartext => (StatusCode::BAD_REQUEST, "cleartext"),
            Problem::ForeignHost => (StatusCode::FORBIDDEN, "foreign_host"),
            Problem::NotFound(_) => (StatusCode::NOT_FOUND, "not_found"),
            Problem::WrongMethod(_) => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
            Problem::WrongContent => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type"),
            Problem::BodyTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large"),
            Problem::SlowBody => (StatusCode::REQUEST_TIMEOUT, "client_timeout"),
            Problem::BrokenBody => (StatusCode::BAD_REQUEST, "broken_body"),
            Problem::BadJson(_) => (StatusCode::BAD_REQUEST, "bad_json"),
            Problem::BadField(..) => (StatusCode::BAD_REQUEST, "bad_field"),
            Problem::UnknownTenant(_) => (StatusCode::BAD_REQUEST, "unknown_tenant"),
            Problem::NoSuchTenant(_) => (StatusCode::NOT_FOUND, "no_such_tenant"),
            Problem::NoSuchEntry(_) => (StatusCode::NOT_FOUND, "no_such_entry"),
            Problem::IdTaken(_) => (StatusCode::CONFLICT, "id_taken"),
            Problem::NameTaken(_) => (StatusCode::CONFLICT, "name_taken"),
            Problem::ConfiguredTenant(_) => (StatusCode::CONFLICT, "configured_tenant"),
            Problem::ChangedMeanwhile(_) => (StatusCode::CONFLICT, "changed_meanwhile"),
            Problem::BadTenant(_) => (StatusCode::UNPROCESSABLE_ENTITY, "bad_tenant"),
            Problem::Configured { .. } => (StatusCode::CONFLICT, "configured_key"),
            Problem::NoSuchKey(_) => (StatusCode::NOT_FOUND, "no_such_key"),
            Problem::UnknownSecret { .. } => (StatusCode::NOT_FOUND, "unknown_secret"),
            Problem::Ended(_) => (StatusCode::CONFLICT, "key_ended"),
            Problem::NoSuchTask(_) => (StatusCode::NOT_FOUND, "no_such_task"),
            Problem::NoSuchOrphan(_) => (StatusCode::NOT_FOUND, "no_such_orphan"),
            Problem::TaskOwned(_) => (StatusCode::CONFLICT, "task_owned"),
            Problem::NoSuchDelivery(_) => (StatusCode::NOT_FOUND, "no_such_delivery"),
            Problem::Unconfirmed(CommitFault::NotMade(_))
            | Problem::Unassured(CommitFault::NotMade(_))
            | Problem::NotEntered(CommitFault::NotMade(_)) => {
                (StatusCode::SERVICE_UNAVAILABLE, "store_unavailable")
            }
            Problem::Unconfirmed(CommitFault::Unclear(_))
            | Problem::Unassured(CommitFault::Unclear(_))
            | Problem::NotEntered(CommitFault::Unclear(_)) => {
                (StatusCode::SERVICE_UNAVAILABLE, "outcome_unclear")
            }
            Problem::RepricedInPart(_) => (StatusCode::SERVICE_UNAVAILABLE, "repriced_in_part"),
            Problem::RevokedNotKept(_) => (StatusCode::SERVICE_UNAVAILABLE, "revoked_not_kept"),
            Problem::NoRandomness(_) => (StatusCode::SERVICE_UNAVAILABLE, "no_randomness"),
            Problem::NoFile => (StatusCode::CONFLICT, "no_config_file"),
            Problem::BadConfig(_) => (StatusCode::UNPROCESSABLE_ENTITY, "bad_config"),
            Problem::ReloadBusy => (StatusCode::SERVICE_UNAVAILABLE, "reload_busy"),
            Problem::TooManyGroups => (StatusCode::BAD_REQUEST, "too_many_groups"),
            Problem::ReportsBusy => (StatusCode::SERVICE_UNAVAILABLE, "reports_busy"),
            Problem::Unreadable(_) => (StatusCode::SERVICE_UNAVAILABLE, "store_unreadable"),
            Problem::Panicked => (StatusCode::INTERNAL_SERVER_ERROR, "internal_error"),
        }
    }

    fn message(&self) -> Cow<'static, str> {
        match self {
            Problem::Off => OFF.into(),
            Problem::Unauthorized => "send `Authorization: Bearer <the token in [admin]>`".into(),
            Problem::ReadOnly => READ_ONLY.into(),
            Problem::NoCertificate => NO_CERTIFICATE.into(),
            Problem::Cleartext => "this port speaks TLS: write https://".into(),
            Problem::ForeignHost => "over loopback, call this listener as localhost or 127.0.0.1".into(),
            Problem::NotFound(paths) => format!("there is {}", paths.join(", ")).into(),
            Problem::WrongMethod(offered) => format!("this path takes {offered}").into(),
            Problem::WrongContent => "the body must be JSON: send `Content-Type: application/json`".into(),
            Problem::BodyTooLarge => "the body is larger than 16 KiB".into(),
            Problem::SlowBody => "the body did not arrive within 10 seconds".into(),
            Problem::BrokenBody => "the body broke off".into(),
            Problem::BadJson(fault) => format!("the body is not what is expected: {fault}").into(),
            Problem::BadField(field, problem) => format!("`{field}` {problem}").into(),
            Problem::UnknownTenant(name) | Problem::NoSuchTenant(name) => {
                format!("no tenant `{name}` is configured; `dashgate tenants list` shows them").into()
            }
            Problem::NoSuchEntry(label) => format!(
                "the tenant has no entry `{label}`; `dashgate usage export` shows them. An entry that is older than \
                 `keep` in [usage] is gone: leave out `corrects`, and name it in the note"
            )
            .into(),
            Problem::IdTaken(whose) => whose.clone().into(),
            Problem::NameTaken(name) => {
                format!("a tenant has the name `{name}`, or had it: choose another one").into()
            }
            Problem::ConfiguredTenant(name) => {
                format!("`{name}` is a tenant of the configuration: change it there").into()
            }
            Problem::ChangedMeanwhile(name) => {
                format!("`{name}` was changed elsewhere at the same time: look at it, and ask again").into()
            }
            Problem::BadTenant(faults) => told(faults).into(),
            Problem::Configured { id, tenant } => format!(
                "`{id}` is a key of the configuration: change or remove it there, in `keys` of the tenant `{tenant}`, and \
                 reload"
            )
            .into(),
            Problem::NoSuchKey(id) => format!("there is no key `{id}`; `dashgate keys list` shows them").into(),
            Problem::UnknownSecret { is_mistyped } => {
                if *is_mistyped { MISTYPED_SECRET } else { UNKNOWN_SECRET }.into()
            }
            Problem::Ended(id) => {
                format!("`{id}` was revoked or has expired, and can't be rotated; create another key").into()
            }
            Problem::NoSuchTask(id) => format!(
                "no task `{id}` is known; `dashgate tasks list` shows those of the last two days, `dashgate orphans list` \
                 those that no client was told of"
            )
            .into(),
            Problem::NoSuchOrphan(id) => {
                format!("there is no orphan `{id}` on that account; `dashgate orphans list` shows them").into()
            }
            Problem::NoSuchDelivery(id) => {
                format!("there is no delivery `{id}`; `dashgate webhooks list` shows them").into()
            }
            Problem::TaskOwned(id) => format!("the task `{id}` has an owner already").into(),
            Problem::Unassured(CommitFault::Unclear(fault)) => format!(
                "it is not known yet whether it was done, as the store {fault}; once the store answers, look \
                 whether it was, and ask again"
            )
            .into(),
            Problem::Unconfirmed(CommitFault::NotMade(fault))
            | Problem::Unassured(CommitFault::NotMade(fault))
            | Problem::NotEntered(CommitFault::NotMade(fault)) => {
                format!("it was not done: the store {fault}").into()
            }
            Problem::Unconfirmed(CommitFault::Unclear(fault)) => format!(
                "it is not known whether it was done, as the store {fault}. If it was, it is undone once the store \
                 answers, and all secrets work as before; only a crash or a stop before that leaves it done. \
                 `dashgate keys list` shows what holds: look there, and then ask again"
            )
            .into(),
            Problem::NotEntered(CommitFault::Unclear(fault)) => format!(
                "it is not known whether it was entered, as the store {fault}; ask again with the same id, which counts \
                 once"
            )
            .into(),
            Problem::RepricedInPart(fault) => format!(
                "perhaps not all corrections were made, as the store {fault}; ask again: none is made twice"
            )
            .into(),
            Problem::RevokedNotKept(fault) => format!(
                "the key is refused from now on, but may work again after a restart, as the store {fault}; revoke it \
                 again once that is mended"
            )
            .into(),
            Problem::NoRandomness(error) => format!("the system gives no randomness: {error}").into(),
            Problem::NoFile => "there is no configuration file: start `dashgate serve` with one".into(),
            Problem::BadConfig(faults) => {
                format!("nothing was changed: the configuration has {} fault(s)", faults.len()).into()
            }
            Problem::ReloadBusy => "nothing was changed: too many reloads wait already; try again".into(),
            Problem::TooManyGroups => TOO_MANY_GROUPS.into(),
            Problem::ReportsBusy => "two reports run already; try again when one has ended".into(),
            Problem::Unreadable(fault) => format!("what is recorded can't be read: the store {fault}").into(),
            Problem::Panicked => "it failed inside; whether it was done, `dashgate audit` and the lists tell".into(),
        }
    }
}

/// All faults of settings that were refused.
fn told(faults: &[Fault]) -> String {
    let told: Vec<String> = faults.iter().map(ToString::to_string).collect();
    format!("nothing was changed: {}", told.join("; "))
}

impl From<getrandom::Error> for Problem {
    fn from(error: getrandom::Error) -> Self {
        Problem::NoRandomness(error)
    }
}

const OFF: &str = "the admin API is off: set `token` in [admin] of the configuration and reload it";
const MISTYPED_SECRET: &str = "no key has this secret: it has the form of a key that was made at run time, but a character \
                               is wrong, or it is not whole";
const UNKNOWN_SECRET: &str = "no key has this secret, and none that ended in the last 30 days had it";
const NO_CERTIFICATE: &str =
    "the admin API takes a client certificate of `client_ca` in [admin], beside the token";
const READ_ONLY: &str = "this token has the role \"read\": changes need one with the role \"operate\"";
const TOO_MANY_GROUPS: &str = "the report has more than 100000 rows: narrow it by `from`, `to`, `tenant` or `model`, or \
                               name fewer things in `by`";

/// A fault with the fields that `dashgate check` prints.
pub(super) fn fault(Fault { position, path, problem, hint }: &Fault) -> Value {
    let (line, column) = position.map(|Position { line, column }| (line, column)).unzip();
    json!({ "line": line, "column": column, "path": path, "problem": problem, "hint": hint })
}
