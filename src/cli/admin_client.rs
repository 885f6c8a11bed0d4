//! Client of a running gateway's admin API, and the options that every command which uses it takes.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use clap::Args;
use http_body_util::Full;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, StatusCode, Uri};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rustls::pki_types::ServerName;
use serde_json::Value;

use super::columns::Columns;
use crate::net::fetch::{LONG_ANSWER, fetch};
use crate::net::{Identity, ServerTls, client_config};

/// How the gateway is reached.
#[derive(Debug, Args)]
pub struct AdminOptions {
    /// The gateway's admin listener.
    #[arg(long, global = true, value_name = "URL", env = "DASHGATE_ADMIN_URL", default_value = USUAL_URL)]
    admin: String,
    /// A file with the admin token; without it the token is taken from $DASHGATE_ADMIN_TOKEN.
    #[arg(long, global = true, value_name = "FILE", env = "DASHGATE_ADMIN_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// Certificate authorities (PEM) to trust beside the public ones, for an https URL.
    #[arg(long, global = true, value_name = "FILE", env = "DASHGATE_ADMIN_CA")]
    ca: Option<PathBuf>,
    /// Our certificate (PEM), where the admin listener has `client_ca`.
    #[arg(long, global = true, value_name = "FILE", requires = "cert_key", env = "DASHGATE_ADMIN_CERT")]
    cert: Option<PathBuf>,
    /// Its private key (PEM).
    #[arg(long, global = true, value_name = "FILE", requires = "cert", env = "DASHGATE_ADMIN_KEY")]
    cert_key: Option<PathBuf>,
}

/// Why a command failed.
#[derive(Debug)]
pub struct AdminFailure {
    /// The problem, and what to do about it.
    pub problem: String,
    /// True for wrong usage; nothing was sent.
    pub usage: bool,
    /// The gateway's code for it, if the gateway has refused the call.
    pub code: Option<String>,
}

/// Client of the gateway's admin API.
pub(super) struct AdminClient {
    listener: Listener,
    token: HeaderValue,
}

/// Client of what the admin listener shows without a token.
pub(super) struct HealthClient(Listener);

/// Readiness of a gateway.
pub(super) struct GatewayReadiness {
    /// `None` if it is.
    pub problem: Option<String>,
    /// The answer's JSON.
    pub answer: Value,
}

/// Pages of a list, one after another.
struct ListPages {
    path: String,
    /// Place behind which the next page begins; `None` once there is none.
    after: Option<String>,
}

impl ListPages {
    fn new(path: &str) -> Self {
        let mark = if path.contains('?') { '&' } else { '?' };
        Self { path: format!("{path}{mark}limit={PAGE}"), after: Some(String::new()) }
    }

    const fn is_over(&self) -> bool {
        self.after.is_none()
    }

    async fn next(&mut self, gateway: &AdminClient) -> Result<Value, AdminFailure> {
        let after = self.after.take().unwrap_or_default();
        let after = utf8_percent_encode(&after, NON_ALPHANUMERIC);
        let page = gateway.call(Method::GET, &format!("{}&after={after}", self.path), None).await?;
        // Pages of the ledger name the next one `after`.
        self.after = page["next"].as_str().or(page["after"].as_str()).map(str::to_owned);
        Ok(page)
    }
}

/// The parameters that are given, as a query with its mark; empty where there are none.
pub(super) fn query<const N: usize>(parameters: [(&str, &Option<String>); N]) -> String {
    let given = parameters.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?)));
    let mut query = String::new();
    for (name, value) in given {
        query.push(if query.is_empty() { '?' } else { '&' });
        query.extend([name, "="].into_iter().chain(utf8_percent_encode(value, NON_ALPHANUMERIC)));
    }
    query
}

/// The gateway's admin listener.
struct Listener {
    authority: String,
    tls: Option<ServerTls>,
}

impl Listener {
    fn new(options: &AdminOptions) -> Result<Self, AdminFailure> {
        let (authority, host) = authority(&options.admin)?;
        let tls = host.map(|host| trusted(options, host)).transpose()?;
        Ok(Self { authority, tls })
    }

    async fn fetch(&self, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes), AdminFailure> {
        let answer = fetch(&self.authority, self.tls.as_ref(), None, request, LONG_ANSWER).await;
        answer.map_err(|fault| {
            failed(format!("{fault}; is the gateway running, and its admin listener there? See --admin"))
        })
    }

    fn not_an_admin_listener(&self, status: StatusCode) -> String {
        format!("{} answered {status}, and not as an admin listener does; see --admin", self.authority)
    }
}

impl HealthClient {
    pub(super) fn new(options: &AdminOptions) -> Result<Self, AdminFailure> {
        Listener::new(options).map(Self)
    }

    /// Asks whether the gateway is ready.
    pub(super) async fn readiness(&self) -> Result<GatewayReadiness, AdminFailure> {
        let request = Request::builder().uri("/readyz").header(HOST, &self.0.authority);
        let request = request.body(Full::default()).map_err(|error| failed(error.to_string()))?;
        let (status, body) = self.0.fetch(request).await?;
        let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
        let Some(state) = answer["status"].as_str() else {
            return Err(failed(self.0.not_an_admin_listener(status)));
        };
        let problem = (!status.is_success()).then(|| match answer["problem"].as_str() {
            Some(problem) => format!("not ready ({state}): {problem}"),
            None => format!("not ready: {state}"),
        });
        Ok(GatewayReadiness { problem, answer })
    }
}

impl AdminClient {
    pub(super) fn new(options: &AdminOptions, token: Option<String>) -> Result<Self, AdminFailure> {
        let token = match &options.token_file {
            Some(path) => Some(read_token(path)?),
            None => token,
        };
        let token = token.filter(|token| !token.is_empty()).ok_or_else(|| {
            misused(
                "give --token-file, or set DASHGATE_ADMIN_TOKEN, to the `token` in [admin] of the gateway's \
                 configuration",
            )
        })?;
        let mut token = HeaderValue::try_from(format!("Bearer {token}"))
            .map_err(|_| misused("the admin token holds what no token can, perhaps a line end"))?;
        token.set_sensitive(true);
        Ok(Self { listener: Listener::new(options)?, token })
    }

    /// Asks, and returns the answer's JSON.
    pub(super) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Value, AdminFailure> {
        let (status, body) = self.send(method, path, body).await?;
        let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
        if status.is_success() && answer.is_object() {
            return Ok(answer);
        }
        Err(self.failure(status, &answer))
    }

    /// Shows each item of a list as a line of JSON, page by page, so that any number of items can be shown. `name` is the list's
    /// name in an answer.
    pub(super) async fn list(&self, path: &str, name: &str, show: impl Fn(&str)) -> Result<(), AdminFailure> {
        self.each(path, name, |item| show(&json_line(item))).await
    }

    /// Passes each item of a list, page by page.
    pub(super) async fn each(
        &self,
        path: &str,
        name: &str,
        mut take: impl FnMut(&Value),
    ) -> Result<(), AdminFailure> {
        let mut pages = ListPages::new(path);
        while !pages.is_over() {
            let page = pages.next(self).await?;
            page[name].as_array().into_iter().flatten().for_each(&mut take);
        }
        Ok(())
    }

    /// Shows a list page by page as a table under `heads`, with the cells that `cells` makes of each item. `name` is the list's
    /// name in an answer. Returns the last page.
    pub(super) async fn table<const N: usize>(
        &self,
        path: &str,
        name: &str,
        heads: [&str; N],
        mut cells: impl FnMut(&Value) -> [String; N],
        show: impl Fn(&str),
    ) -> Result<Value, AdminFailure> {
        let mut columns = Columns::default();
        let mut lines = vec![heads.map(str::to_owned).to_vec()];
        let mut pages = ListPages::new(path);
        loop {
            let page = pages.next(self).await?;
            lines.extend(page[name].as_array().into_iter().flatten().map(|item| cells(item).to_vec()));
            show(&columns.lines(&lines, N));
            lines.clear();
            if pages.is_over() {
                return Ok(page);
            }
        }
    }

    /// Asks for a text that is no JSON.
    pub(super) async fn text(&self, path: &str) -> Result<String, AdminFailure> {
        let (status, body) = self.send(Method::GET, path, None).await?;
        if status.is_success() {
            return Ok(String::from_utf8_lossy(&body).into_owned());
        }
        Err(self.failure(status, &serde_json::from_slice(&body).unwrap_or_default()))
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<(StatusCode, Bytes), AdminFailure> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, &self.listener.authority)
            .header(AUTHORIZATION, &self.token);
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let body = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        let request = request.body(Full::new(body)).map_err(|error| failed(error.to_string()))?;
        self.listener.fetch(request).await
    }

    /// The failure that an answer tells.
    fn failure(&self, status: StatusCode, answer: &Value) -> AdminFailure {
        let message = answer["message"].as_str();
        let mut message = message.map_or_else(|| self.listener.not_an_admin_listener(status), str::to_owned);
        // A refusal of a tenant's settings has the faults in its message.
        let faults = answer["faults"].as_array().filter(|_| answer["code"] == "bad_config");
        for fault in faults.into_iter().flatten() {
            let [line, column, path, problem] =
                ["line", "column", "path", "problem"].map(|name| cell(fault, name));
            message += &format!("\n{line}:{column}: {path}: {problem}");
        }
        let hint = match status {
            _ if answer["request_id"].is_string() => {
                "\nThat is the listener for clients: give the URL of the admin listener with --admin"
            }
            StatusCode::UNAUTHORIZED => "; --token-file or DASHGATE_ADMIN_TOKEN is not the gateway's token",
            _ => "",
        };
        AdminFailure {
            code: answer["code"].as_str().map(str::to_owned),
            ..failed(format!("{message}{hint}"))
        }
    }
}

const fn failed(problem: String) -> AdminFailure {
    AdminFailure { problem, usage: false, code: None }
}

/// Reads a file with a token, whose last line end is no part of it.
fn read_token(path: &Path) -> Result<String, AdminFailure> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| misused(&format!("{} can't be read: {error}", path.display())))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// Host and port of a URL; for https also the name that the certificate must have.
fn authority(url: &str) -> Result<(String, Option<String>), AdminFailure> {
    let wrong = || misused("--admin takes a URL like http://127.0.0.1:8081 or https://gateway:8081");
    let uri: Uri = url.parse().map_err(|_| wrong())?;
    let usual = match uri.scheme_str() {
        Some("http") => 80,
        Some("https") => 443,
        Some(_) | None => return Err(wrong()),
    };
    let authority = uri.authority().filter(|_| matches!(uri.path(), "" | "/")).ok_or_else(wrong)?;
    let host = authority.host();
    let name = (usual == 443).then(|| host.trim_matches(['[', ']']).to_owned());
    Ok((format!("{host}:{}", authority.port_u16().unwrap_or(usual)), name))
}

fn trusted(options: &AdminOptions, host: String) -> Result<ServerTls, AdminFailure> {
    let read = |path: &PathBuf| {
        std::fs::read(path).map_err(|error| misused(&format!("{} can't be read: {error}", path.display())))
    };
    let ca = options.ca.as_ref().map(read).transpose()?;
    let certificate = options.cert.as_ref().map(read).transpose()?;
    let key = options.cert_key.as_ref().map(read).transpose()?;
    let identity = certificate.as_ref().zip(key.as_ref());
    let identity = identity.map(|(certificate, key)| Identity { certificate, key });
    let config = client_config(ca.as_deref(), identity)
        .map_err(|error| misused(&format!("--ca, --cert or --cert-key can't be used: {error}")))?;
    let name = ServerName::try_from(host).map_err(|_| misused("--admin names no host"))?;
    Ok((config, name))
}

/// Checks that a name may stand in a path or a query as it is. The error does not show the name, which may be a secret.
pub(super) fn segment(text: &str) -> Result<&str, AdminFailure> {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if !text.is_empty() && text.len() <= 64 && text.bytes().all(fine) {
        return Ok(text);
    }
    Err(misused("a name has 1 to 64 letters, digits, dots, underscores and hyphens"))
}

pub(super) fn misused(problem: &str) -> AdminFailure {
    AdminFailure { problem: problem.to_owned(), usage: true, code: None }
}

/// A field of an item as the cell of a table.
pub(super) fn cell(item: &Value, name: &str) -> String {
    match &item[name] {
        Value::Null => "-".to_owned(),
        Value::String(text) if text.is_empty() => "-".to_owned(),
        Value::String(text) => text.clone(),
        other @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => other.to_string(),
    }
}

/// An item of a list as a line of JSON.
pub(super) fn json_line(item: &Value) -> String {
    format!("{item}\n")
}

const USUAL_URL: &str = "http://127.0.0.1:8081";
/// Items of a page: as many as the admin API gives.
const PAGE: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_admin_url_is_a_host_and_a_port() {
        let authority = |url: &str| authority(url).ok();
        let plain = |host: &str| Some((host.to_owned(), None));
        let tls = |host: &str, name: &str| Some((host.to_owned(), Some(name.to_owned())));
        assert_eq!(authority("http://127.0.0.1:8081"), plain("127.0.0.1:8081"));
        assert_eq!(authority("http://[::1]:1/"), plain("[::1]:1"));
        assert_eq!(authority("http://gateway"), plain("gateway:80"));
        assert_eq!(authority("https://gateway/"), tls("gateway:443", "gateway"));
        assert_eq!(authority("https://[::1]:8081"), tls("[::1]:8081", "::1"));
        for wrong in ["", "127.0.0.1:8081", "ftp://gateway", "http://gateway/admin", "http://"] {
            assert_eq!(authority(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_token_is_needed() {
        let options = AdminOptions {
            admin: USUAL_URL.to_owned(),
            token_file: None,
            ca: None,
            cert: None,
            cert_key: None,
        };
        for token in [None, Some(String::new()), Some("a\nb".to_owned())] {
            assert!(AdminClient::new(&options, token).is_err_and(|failure| failure.usage));
        }
        assert!(AdminClient::new(&options, Some("t".to_owned())).is_ok());
    }
}
