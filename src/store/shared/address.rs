//! From the configuration's URL to the address of a database.

use std::sync::Arc;

use rustls::ClientConfig;
use tokio_postgres::Config;
use tokio_postgres::config::{SslMode, TargetSessionAttrs};

use super::connect::DatabaseAddress;
use crate::config::{DatabaseHost, DatabaseUrl, TlsMode};
use crate::net::partial_trust::{Verification, client_config};

impl DatabaseAddress {
    /// The address that a configuration names.
    ///
    /// # Errors
    /// A fault of the certificates, which the check of the configuration finds too.
    pub(in crate::store) fn of(url: &DatabaseUrl) -> Result<Self, rustls::Error> {
        let (mode, tls) = tls(url)?;
        let hosts = url.hosts.iter().map(|host| {
            let mut settings = Config::new();
            match host {
                DatabaseHost::Network { name, port } => settings.host(&**name).port(*port),
                DatabaseHost::Socket { directory, port } => settings.host_path(directory).port(*port),
            };
            settings.user(&*url.user).dbname(&*url.database);
            if let Some(password) = &url.password {
                settings.password(password.expose());
            }
            settings.ssl_mode(mode).connect_timeout(url.connect_timeout);
            // After a fail-over the host that was the primary may be up, and take no changes.
            settings.target_session_attrs(TargetSessionAttrs::ReadWrite);
            settings
        });
        Ok(Self::new(hosts.collect(), tls, url.to_string().into()))
    }
}

fn tls(url: &DatabaseUrl) -> Result<(SslMode, Option<Arc<ClientConfig>>), rustls::Error> {
    let (mode, verification) = match url.tls {
        TlsMode::Disable => return Ok((SslMode::Disable, None)),
        TlsMode::Prefer => (SslMode::Prefer, Verification::Encrypted),
        TlsMode::Require => (SslMode::Require, Verification::Encrypted),
        TlsMode::VerifyCa => (SslMode::Require, Verification::Authority),
        TlsMode::VerifyFull => (SslMode::Require, Verification::AuthorityAndName),
    };
    Ok((mode, Some(client_config(url.root_certificates.as_deref(), verification)?)))
}
