//! The address of a database, as `store.url` writes it: `postgres://user:password@host:port/database?parameters`. The text
//! may have a password in it, so no fault repeats a part of it, and a [`DatabaseUrl`] shows hosts and database only.

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use percent_encoding::percent_decode_str;

use super::Secret;
use super::node::nearest;
use super::reader::ValueFault;
use crate::net::{authority, site};

/// The address of a database of PostgreSQL, and the credentials of the gateway there.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl {
    /// At least one. They are tried in this order, and the first that can be written is used.
    pub hosts: Vec<DatabaseHost>,
    pub database: String,
    pub user: String,
    pub password: Option<Secret>,
    pub tls: TlsMode,
    /// PEM of the authorities that are trusted in place of the public ones.
    pub root_certificates: Option<Arc<[u8]>>,
    /// Time until one host is connected, TLS and log-in included.
    pub connect_timeout: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DatabaseHost {
    /// A DNS name or an IP address, without brackets.
    Network { name: String, port: u16 },
    /// The directory of a Unix socket.
    Socket { directory: PathBuf, port: u16 },
}

/// Encryption of the connection, in libpq's words. Unix sockets are never encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsMode {
    Disable,
    /// TLS, not verified, where the server has it.
    Prefer,
    /// TLS, not verified.
    Require,
    /// The certificate is of a trusted authority.
    VerifyCa,
    /// The certificate is of a trusted authority, and names the host.
    VerifyFull,
}

impl TlsMode {
    pub const fn verifies(self) -> bool {
        match self {
            TlsMode::Disable | TlsMode::Prefer | TlsMode::Require => false,
            TlsMode::VerifyCa | TlsMode::VerifyFull => true,
        }
    }
}

impl DatabaseUrl {
    /// Tells whether the connection does not leave this machine.
    pub fn is_local(&self) -> bool {
        self.hosts.iter().all(DatabaseHost::is_local)
    }
}

impl DatabaseHost {
    fn is_socket(&self) -> bool {
        match self {
            DatabaseHost::Network { .. } => false,
            DatabaseHost::Socket { .. } => true,
        }
    }

    fn is_local(&self) -> bool {
        match self {
            DatabaseHost::Network { name, port } => {
                site::is_this_machine(authority::join(name, *port).as_bytes())
            }
            DatabaseHost::Socket { .. } => true,
        }
    }
}

/// Hosts and database, without user, password and parameters.
impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("postgres://")?;
        for (number, host) in self.hosts.iter().enumerate() {
            if number > 0 {
                f.write_char(',')?;
            }
            match host {
                DatabaseHost::Network { name, port } => f.write_str(&authority::join(name, *port))?,
                DatabaseHost::Socket { directory, port } => {
                    write!(f, "{}:{port}", directory.display().to_string().replace('/', "%2F"))?;
                }
            }
        }
        write!(f, "/{}", self.database)
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self} ({:?})", self.tls)
    }
}

/// A URL as written, and what it leaves to be read.
#[derive(Debug)]
pub(super) struct WrittenUrl {
    /// Without certificates.
    pub(super) url: DatabaseUrl,
    /// Path of the file with the certificates of trusted authorities.
    pub(super) root_file: Option<String>,
}

/// Reads `postgres://user[:password]@host[:port][,host[:port]]/database[?parameter=value&...]`.
pub(super) fn parse(written: &Secret) -> Result<WrittenUrl, ValueFault> {
    let rest = match written.expose().split_once("://") {
        Some(("postgres" | "postgresql", rest)) => rest,
        Some(_) | None => return Err(wrong("does not start with postgres://")),
    };
    if rest.contains('#') {
        return Err(wrong("has a # in it"));
    }
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (place, database) = rest.split_once('/').unwrap_or((rest, ""));
    if database.contains(['/', '@', ':']) {
        return Err(wrong(
            "has a `/`, `@` or `:` behind the host, as if one in the password were not encoded",
        ));
    }
    let parameters = Parameters::parse(query)?;
    let (user, place) = place.rsplit_once('@').unwrap_or(("", place));
    let (user, password) = match user.split_once(':') {
        Some((user, password)) => (decoded(user)?, Some(decoded(password)?)),
        None => (decoded(user)?, None),
    };
    if user.is_empty() {
        return Err(wrong("names no user"));
    }
    let database = decoded(database)?;
    if database.is_empty() {
        return Err(wrong("names no database"));
    }
    let hosts = match (place, parameters.socket) {
        ("", Some(directory)) => vec![DatabaseHost::Socket { directory, port: PORT }],
        (_, Some(_)) => return Err(wrong("names a host, and another as the parameter `host`")),
        (_, None) => place.split(',').map(host).collect::<Result<Vec<_>, _>>()?,
    };
    let sockets = hosts.iter().filter(|host| host.is_socket()).count();
    if sockets != 0 && sockets != hosts.len() {
        return Err(wrong("names a Unix socket beside other hosts"));
    }
    let mut url = DatabaseUrl {
        hosts,
        database: database.into_owned(),
        user: user.into_owned(),
        password: password.filter(|password| !password.is_empty()).map(|password| Secret::new(&*password)),
        tls: TlsMode::VerifyFull,
        root_certificates: None,
        connect_timeout: parameters.connect_timeout.unwrap_or(CONNECT_TIMEOUT),
    };
    let usual = if url.is_local() { TlsMode::Prefer } else { TlsMode::VerifyFull };
    url.tls = if sockets > 0 { TlsMode::Disable } else { parameters.tls.unwrap_or(usual) };
    if parameters.root_file.is_some() && !url.tls.verifies() {
        let problem = "has an sslrootcert, which only sslmode=verify-ca and verify-full look at";
        return Err(ValueFault::new(problem, "write sslmode=verify-full, or leave sslrootcert out"));
    }
    Ok(WrittenUrl { url, root_file: parameters.root_file })
}

fn host(written: &str) -> Result<DatabaseHost, ValueFault> {
    let (name, port) = match written.rsplit_once(':') {
        Some((name, port)) if name.starts_with('%') => (name, Some(port)),
        Some(_) | None => (written, None),
    };
    if name.starts_with('%') {
        let port = port.map_or(Ok(PORT), |port| port.parse().map_err(|_| wrong("has no valid port")))?;
        return Ok(DatabaseHost::Socket { directory: socket(name)?, port });
    }
    let (name, port) = authority::split(written).ok_or_else(|| wrong("has no valid host and port"))?;
    Ok(DatabaseHost::Network { name: name.to_ascii_lowercase(), port: port.unwrap_or(PORT) })
}

/// The directory of a Unix socket.
fn socket(written: &str) -> Result<PathBuf, ValueFault> {
    let directory = decoded(written)?;
    if directory.starts_with('/') {
        Ok(directory.into_owned().into())
    } else {
        Err(wrong("has a host that is neither a name nor the absolute path of a socket's directory"))
    }
}

#[derive(Default)]
struct Parameters {
    tls: Option<TlsMode>,
    root_file: Option<String>,
    connect_timeout: Option<Duration>,
    socket: Option<PathBuf>,
}

impl Parameters {
    fn parse(query: &str) -> Result<Self, ValueFault> {
        let mut found = Self::default();
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let value = decoded(value)?;
            match name {
                "sslmode" => found.tls = Some(tls_mode(&value)?),
                // The word stands for the public authorities, which are trusted anyway.
                "sslrootcert" if value == "system" => {}
                "sslrootcert" => found.root_file = Some(value.into_owned()).filter(|path| !path.is_empty()),
                "connect_timeout" => found.connect_timeout = Some(seconds(&value)?),
                "host" => found.socket = Some(socket(&value)?),
                // A gateway always looks for the host that can be written.
                "target_session_attrs" if value == "read-write" || value == "primary" => {}
                "target_session_attrs" => {
                    return Err(wrong("has a target_session_attrs other than `read-write`"));
                }
                name => return Err(unknown_parameter(name)),
            }
        }
        Ok(found)
    }
}

fn tls_mode(word: &str) -> Result<TlsMode, ValueFault> {
    let known = MODES.iter().find(|(name, _)| *name == word);
    known.map(|(_, mode)| *mode).ok_or_else(|| {
        let names: Vec<&str> = MODES.iter().map(|(name, _)| *name).collect();
        ValueFault::new("has an unknown sslmode", format!("known: {}", names.join(", ")))
    })
}

fn seconds(text: &str) -> Result<Duration, ValueFault> {
    let seconds = text.parse().ok().filter(|seconds| (1..=60).contains(seconds));
    let wrong = || ValueFault::new("has a wrong connect_timeout", "write whole seconds, from 1 to 60");
    seconds.map(Duration::from_secs).ok_or_else(wrong)
}

/// The parameter's name is not shown: an `&` or `?` in a password may have made it.
fn unknown_parameter(name: &str) -> ValueFault {
    let hint = match nearest(name, &PARAMETERS) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("known: {}", PARAMETERS.join(", ")),
    };
    ValueFault::new("has an unknown parameter", hint)
}

/// A part with its percent-encoding decoded.
fn decoded(part: &str) -> Result<Cow<'_, str>, ValueFault> {
    let is_escape = |rest: &str| rest.len() >= 2 && rest.as_bytes()[..2].iter().all(u8::is_ascii_hexdigit);
    if !part.split('%').skip(1).all(is_escape) {
        return Err(wrong("has a % without two hex digits behind it"));
    }
    let text = percent_decode_str(part).decode_utf8();
    let text = text.map_err(|_| wrong("has a part that is not UTF-8"))?;
    if text.chars().any(char::is_control) { Err(wrong("has a control character in it")) } else { Ok(text) }
}

fn wrong(problem: &str) -> ValueFault {
    ValueFault::new(
        problem,
        "write it like \"postgres://dashgate@db:5432/dashgate\", and the password into `password_file`; in the URL it \
         is percent-encoded: %40 for @, %2F for /, %3A for :, %25 for %",
    )
}

const PORT: u16 = 5432;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const PARAMETERS: [&str; 5] = ["sslmode", "sslrootcert", "connect_timeout", "host", "target_session_attrs"];
const MODES: [(&str, TlsMode); 5] = [
    ("disable", TlsMode::Disable),
    ("prefer", TlsMode::Prefer),
    ("require", TlsMode::Require),
    ("verify-ca", TlsMode::VerifyCa),
    ("verify-full", TlsMode::VerifyFull),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<WrittenUrl, String> {
        parse(&Secret::new(text)).map_err(|fault| format!("{}; {}", fault.problem, fault.hint))
    }

    fn url(text: &str) -> DatabaseUrl {
        read(text).unwrap_or_else(|fault| panic!("{text}: {fault}")).url
    }

    #[test]
    fn all_parts_are_read() {
        let written = read(
            "postgresql://me:p%40ss%2Fw@Db.example:6432,10.0.0.2/gate%20one?sslmode=verify-ca&sslrootcert=a%2Fca.pem\
             &connect_timeout=9&target_session_attrs=read-write",
        );
        let WrittenUrl { url, root_file } = written.expect("a URL");
        let network = |name: &str, port| DatabaseHost::Network { name: name.to_owned(), port };
        assert_eq!(url.hosts, [network("db.example", 6432), network("10.0.0.2", 5432)]);
        assert_eq!((&*url.database, &*url.user), ("gate one", "me"));
        assert_eq!(url.password.as_ref().map(Secret::expose), Some("p@ss/w"));
        assert_eq!((url.tls, url.connect_timeout), (TlsMode::VerifyCa, Duration::from_secs(9)));
        assert_eq!(root_file.as_deref(), Some("a/ca.pem"));
        assert_eq!(url.to_string(), "postgres://db.example:6432,10.0.0.2:5432/gate one");
        let debug = format!("{url:?}");
        assert!(!debug.contains("p@ss") && !debug.contains("me@"), "{debug}");
    }

    #[test]
    fn sockets_are_directories() {
        let socket = |port| [DatabaseHost::Socket { directory: "/run/pg".into(), port }];
        for (text, port) in [
            ("postgres://me@%2Frun%2Fpg/db", 5432),
            ("postgres://me@%2frun%2fpg:5433/db", 5433),
            ("postgres://me@/db?host=/run/pg", 5432),
        ] {
            assert_eq!(url(text).hosts, socket(port), "{text}");
        }
        assert_eq!(url("postgres://me@%2Frun%2Fpg:5433/db").to_string(), "postgres://%2Frun%2Fpg:5433/db");
    }

    #[test]
    fn a_host_elsewhere_is_verified_unless_the_url_says_otherwise() {
        for (text, expected) in [
            ("postgres://me@db/db", TlsMode::VerifyFull),
            ("postgres://me@10.0.0.1/db", TlsMode::VerifyFull),
            ("postgres://me@127.0.0.1,db/db", TlsMode::VerifyFull),
            ("postgres://me@127.0.0.1/db", TlsMode::Prefer),
            ("postgres://me@[::1]:5433/db", TlsMode::Prefer),
            ("postgres://me@localhost,127.0.0.2/db", TlsMode::Prefer),
            ("postgres://me@%2Frun,%2Ftmp/db?sslmode=require", TlsMode::Disable),
            ("postgres://me@db/db?sslmode=disable", TlsMode::Disable),
            ("postgres://me@localhost/db?sslmode=verify-full&sslrootcert=system", TlsMode::VerifyFull),
        ] {
            assert_eq!(url(text).tls, expected, "{text}");
        }
    }

    #[test]
    fn no_fault_shows_a_part_of_the_url() {
        for text in [
            "",
            "hunter2",
            "mysql://me:hunter2@db/db",
            "postgres://db/db",
            "postgres://me:hunter2@/db",
            "postgres://me:hunter2@db",
            "postgres://me:hunter2@db/",
            "postgres://:hunter2@db/db",
            "postgres://me:hunter2@db:0/db",
            "postgres://me:hunter2@db:hunter2/db",
            "postgres://me:hunter2@d b/db",
            "postgres://me:hunter2@db,/db",
            "postgres://me:hunter2@db,%2Frun/db",
            "postgres://me:a#hunter2@db/db",
            "postgres://me:a/hunter2@db/db",
            "postgres://me:1/hunter2@db/db",
            "postgres://me:a?hunter2@db/db",
            "postgres://me:1/x?hunter2@db/db",
            "postgres://me:hunter2%@db/db",
            "postgres://me:hunter2%4@db/db",
            "postgres://me:hunter2%é@db/db",
            "postgres://me:hunter2%ff@db/db",
            "postgres://me:hunter2%00@db/db",
            "postgres://me@db/db?hunter2",
            "postgres://me@db/db?sslmode=hunter2",
            "postgres://me@db/db?sslmode=require&sslrootcert=hunter2",
            "postgres://me@127.0.0.1/db?sslrootcert=hunter2",
            "postgres://me@db/db?connect_timeout=hunter2",
            "postgres://me@db/db?connect_timeout=0",
            "postgres://me@db/db?target_session_attrs=standby",
            "postgres://me@db/db?host=/hunter2",
            "postgres://me@/db?host=hunter2",
        ] {
            let fault = read(text).err().unwrap_or_else(|| panic!("{text} is taken"));
            assert!(!fault.contains("hunter2"), "{text}: {fault}");
        }
    }

    #[test]
    fn an_unknown_parameter_is_refused_with_the_known_ones() {
        let fault = |text: &str| read(text).expect_err("a fault");
        let known = "known: sslmode, sslrootcert, connect_timeout, host, target_session_attrs";
        assert!(fault("postgres://me@db/db?application=1").ends_with(known));
        assert!(fault("postgres://me@db/db?sslmod=require").ends_with("did you mean `sslmode`?"));
        let modes = "known: disable, prefer, require, verify-ca, verify-full";
        assert!(fault("postgres://me@db/db?sslmode=allow").ends_with(modes));
    }
}
