//! `dashgate keys`: a client of a running gateway's admin API.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use clap::{Args, Subcommand};
use http_body_util::Full;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, StatusCode, Uri};
use rustls::pki_types::ServerName;
use serde_json::{Value, json};

use crate::net::fetch::{LONG_ANSWER, fetch};
use crate::net::{Identity, ServerTls, client_config};

/// Manage the virtual keys of a running gateway, through its admin API.
///
/// The admin token is taken from $DASHGATE_ADMIN_TOKEN. A secret is shown once, when it is made: only its
/// digest is kept. Exits with 0 when it is done, 1 when not, 64 for bad usage.
#[derive(Debug, Args)]
pub struct KeysOptions {
    /// The gateway's admin listener.
    #[arg(long, global = true, value_name = "URL", env = "DASHGATE_ADMIN_URL", default_value = USUAL_URL)]
    admin: String,
    /// Certificate authorities (PEM) to trust beside the public ones, for an https URL.
    #[arg(long, global = true, value_name = "FILE", env = "DASHGATE_ADMIN_CA")]
    ca: Option<PathBuf>,
    /// Our certificate (PEM), where the admin listener has `client_ca`.
    #[arg(long, global = true, value_name = "FILE", requires = "key", env = "DASHGATE_ADMIN_CERT")]
    cert: Option<PathBuf>,
    /// Its private key (PEM).
    #[arg(long, global = true, value_name = "FILE", requires = "cert", env = "DASHGATE_ADMIN_KEY")]
    key: Option<PathBuf>,
    #[command(subcommand)]
    command: KeysCommand,
}

#[derive(Debug, Subcommand)]
enum KeysCommand {
    /// Make a key for a tenant, and show its secret once.
    Create {
        #[arg(long, value_name = "NAME")]
        tenant: String,
        /// The key's name in logs and lists; without it, one is made.
        #[arg(long)]
        id: Option<String>,
        /// When it ends: "30d", or "2030-01-01T00:00:00Z". Without it, never.
        #[arg(long, value_name = "WHEN")]
        expires: Option<String>,
    },
    /// List all keys, those of the configuration too.
    List {
        /// List the keys of this tenant only.
        #[arg(long, value_name = "NAME")]
        tenant: Option<String>,
    },
    /// Give a key a new secret, and show it once. The old one goes on working for a while.
    Rotate {
        id: String,
        /// For how long the old secret still works; "0s" ends it at once.
        #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = duration)]
        grace: String,
    },
    /// End a key for good: it is refused from now on, and what it has open is cut.
    Revoke { id: String },
}

fn duration(text: &str) -> Result<String, humantime::DurationError> {
    humantime::parse_duration(text).map(|_: Duration| text.to_owned())
}

/// Why the command failed.
#[derive(Debug)]
pub struct KeysFailure {
    /// The problem, and what to do about it.
    pub problem: String,
    /// True for wrong usage; nothing was sent.
    pub usage: bool,
}

/// Runs the command; `show` prints its output.
///
/// # Errors
/// The [`KeysFailure`].
pub async fn run(
    options: &KeysOptions,
    token: Option<String>,
    show: impl Fn(&str),
) -> Result<(), KeysFailure> {
    let gateway = AdminClient::new(options, token)?;
    match &options.command {
        KeysCommand::Create { tenant, id, expires } => {
            let asked = json!({ "tenant": tenant, "id": id, "expires": expires });
            let made = gateway.call(Method::POST, "/admin/keys", Some(asked)).await?;
            show(&describe(&made, "made"));
        }
        KeysCommand::Rotate { id, grace } => {
            let path = format!("/admin/keys/{}/rotate", segment(id)?);
            let made = gateway.call(Method::POST, &path, Some(json!({ "grace": grace }))).await?;
            show(&describe(&made, "rotated"));
        }
        KeysCommand::Revoke { id } => {
            gateway.call(Method::DELETE, &format!("/admin/keys/{}", segment(id)?), None).await?;
            show(&format!("{id}: revoked; it is refused from now on, and what it has open is cut\n"));
        }
        KeysCommand::List { tenant } => list(&gateway, tenant.as_deref(), show).await?,
    }
    Ok(())
}

/// Lists the keys page by page, so that any number can be listed.
async fn list(gateway: &AdminClient, tenant: Option<&str>, show: impl Fn(&str)) -> Result<(), KeysFailure> {
    let tenant = tenant.map(segment).transpose()?;
    let mut path = format!("/admin/keys?limit={PAGE}");
    if let Some(tenant) = tenant {
        let _ = write!(path, "&tenant={tenant}");
    }
    let mut page = gateway.call(Method::GET, &path, None).await?;
    show(&row(["ID", "TENANT", "SOURCE", "STATUS", "CREATED", "EXPIRES", "OLD SECRET UNTIL"]));
    loop {
        for key in page["keys"].as_array().into_iter().flatten() {
            let text = |name: &str| key[name].as_str().unwrap_or("-");
            let old = key["old_until"].as_array().into_iter().flatten().filter_map(Value::as_str);
            let old = old.max().unwrap_or("-");
            let (id, tenant, source) = (text("id"), text("tenant"), text("source"));
            show(&row([id, tenant, source, text("status"), text("created_at"), text("expires_at"), old]));
        }
        let Some(next) = page["next"].as_str() else { return Ok(()) };
        page = gateway.call(Method::GET, &format!("{path}&after={}", segment(next)?), None).await?;
    }
}

fn row([id, tenant, source, status, created, expires, old]: [&str; 7]) -> String {
    format!("{id:<24} {tenant:<16} {source:<7} {status:<9} {created:<20} {expires:<20} {old}\n")
}

fn describe(made: &Value, what: &str) -> String {
    let text = |name: &str| made[name].as_str().unwrap_or("-");
    let mut output = format!("{}: {what}, for the tenant {}", text("id"), text("tenant"));
    if let Some(until) = made["expires_at"].as_str() {
        let _ = write!(output, ", until {until}");
    }
    if let Some(until) = made["old_until"].as_str() {
        let _ = write!(output, "; the old secret works until {until}");
    }
    let _ = write!(output, "\n\n  {}\n\nKeep it now: it is not shown again.\n", text("key"));
    output
}

/// Checks that a name may stand in a path or a query as it is. The error does not show the name, which may be a secret.
fn segment(text: &str) -> Result<&str, KeysFailure> {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if !text.is_empty() && text.len() <= 64 && text.bytes().all(fine) {
        return Ok(text);
    }
    Err(misused("a name has 1 to 64 letters, digits, dots, underscores and hyphens"))
}

fn misused(problem: &str) -> KeysFailure {
    KeysFailure { problem: problem.to_owned(), usage: true }
}

/// Client of the gateway's admin API.
struct AdminClient {
    authority: String,
    tls: Option<ServerTls>,
    token: HeaderValue,
}

impl AdminClient {
    fn new(options: &KeysOptions, token: Option<String>) -> Result<Self, KeysFailure> {
        let (authority, host) = authority(&options.admin)?;
        let token = token.filter(|token| !token.is_empty()).ok_or_else(|| {
            misused("set DASHGATE_ADMIN_TOKEN to the `token` in [admin] of the gateway's configuration")
        })?;
        let mut token = HeaderValue::try_from(format!("Bearer {token}"))
            .map_err(|_| misused("DASHGATE_ADMIN_TOKEN holds what no token can, perhaps a line end"))?;
        token.set_sensitive(true);
        let tls = host.map(|host| trusted(options, host)).transpose()?;
        Ok(Self { authority, tls, token })
    }

    async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Result<Value, KeysFailure> {
        let failed = |problem: String| KeysFailure { problem, usage: false };
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, &self.authority)
            .header(AUTHORIZATION, &self.token);
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let body = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        let request = request.body(Full::new(body)).map_err(|error| failed(error.to_string()))?;
        let answer = fetch(&self.authority, self.tls.as_ref(), None, request, LONG_ANSWER).await;
        let (status, body) = answer.map_err(|fault| {
            failed(format!("{fault}; is the gateway running, and its admin listener there? See --admin"))
        })?;
        let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
        if status.is_success() && answer.is_object() {
            return Ok(answer);
        }
        let message = answer["message"].as_str().map_or_else(
            || {
                format!(
                    "{} answered {status}, and not as an admin listener does; see --admin",
                    self.authority
                )
            },
            str::to_owned,
        );
        let hint = match status {
            _ if answer["request_id"].is_string() => {
                "\nThat is the listener for clients: give the URL of the admin listener with --admin"
            }
            StatusCode::UNAUTHORIZED => "; DASHGATE_ADMIN_TOKEN is not the gateway's token",
            _ => "",
        };
        Err(failed(format!("{message}{hint}")))
    }
}

/// Host and port of a URL; for https also the name that the certificate must have.
fn authority(url: &str) -> Result<(String, Option<String>), KeysFailure> {
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

fn trusted(options: &KeysOptions, host: String) -> Result<ServerTls, KeysFailure> {
    let read = |path: &PathBuf| {
        std::fs::read(path).map_err(|error| misused(&format!("{} can't be read: {error}", path.display())))
    };
    let ca = options.ca.as_ref().map(read).transpose()?;
    let certificate = options.cert.as_ref().map(read).transpose()?;
    let key = options.key.as_ref().map(read).transpose()?;
    let identity = certificate.as_ref().zip(key.as_ref());
    let identity = identity.map(|(certificate, key)| Identity { certificate, key });
    let config = client_config(ca.as_deref(), identity)
        .map_err(|error| misused(&format!("--ca, --cert or --key can't be used: {error}")))?;
    let name = ServerName::try_from(host).map_err(|_| misused("--admin names no host"))?;
    Ok((config, name))
}

const USUAL_URL: &str = "http://127.0.0.1:8081";
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
        let (admin, command) = (USUAL_URL.to_owned(), KeysCommand::List { tenant: None });
        let options = KeysOptions { admin, ca: None, cert: None, key: None, command };
        for token in [None, Some(String::new()), Some("a\nb".to_owned())] {
            assert!(AdminClient::new(&options, token).is_err_and(|failure| failure.usage));
        }
        assert!(AdminClient::new(&options, Some("t".to_owned())).is_ok());
    }
}
