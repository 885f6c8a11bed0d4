//! Clients' certificates: the tenants that they belong to, and whether they are still valid.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use foldhash::fast::RandomState;
use parking_lot::Mutex;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;

use super::key::CredentialFault;
use crate::net::certificate;

/// The certificate that a client presented in the handshake of its connection.
pub struct ClientCertificate {
    /// The client's own certificate first; at least one.
    chain: Vec<CertificateDer<'static>>,
    names: Vec<Box<str>>,
    verification: Mutex<LastVerification>,
}

/// Result of the last verification.
struct LastVerification {
    verifier: Arc<dyn ClientCertVerifier>,
    holds: bool,
    until: SystemTime,
}

impl ClientCertificate {
    /// The certificate of a chain that a handshake has just verified; `None` if the chain is empty.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        verifier: &Arc<dyn ClientCertVerifier>,
        now: SystemTime,
    ) -> Option<Arc<Self>> {
        let names = certificate::names(chain.first()?);
        let verification = Mutex::new(LastVerification {
            verifier: Arc::clone(verifier),
            holds: true,
            until: now + VERIFICATION_KEPT,
        });
        Some(Arc::new(Self { chain, names, verification }))
    }

    /// Tells whether the certificate is valid under the `current` verifier. A connection may last longer than its
    /// certificate, and longer than the revocation list of its handshake.
    pub fn holds(&self, current: &Arc<dyn ClientCertVerifier>, now: SystemTime) -> bool {
        let mut verification = self.verification.lock();
        if !Arc::ptr_eq(&verification.verifier, current) || now >= verification.until {
            let time = UnixTime::since_unix_epoch(now.duration_since(UNIX_EPOCH).unwrap_or_default());
            let holds = current.verify_client_cert(&self.chain[0], &self.chain[1..], time).is_ok();
            *verification =
                LastVerification { verifier: Arc::clone(current), holds, until: now + VERIFICATION_KEPT };
        }
        verification.holds
    }
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCertificate").field("names", &self.names).finish_non_exhaustive()
    }
}

/// Index of the certificate names of all tenants.
#[derive(Debug, Default)]
pub(super) struct CertificateIndex {
    pub(super) verifier: Option<Arc<dyn ClientCertVerifier>>,
    /// Tenant of each name.
    by_name: HashMap<Arc<str>, usize, RandomState>,
    /// Tenants with certificate names, whose callers must present a certificate.
    required: HashSet<usize, RandomState>,
}

/// A tenant, identified by one of its certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CertificateHolder {
    pub(super) tenant: usize,
    /// The name as the configuration writes it. Logs and metrics show it where they would show a key id.
    pub(super) name: Arc<str>,
}

impl CertificateIndex {
    pub(super) fn note(&mut self, name: &Arc<str>, tenant: usize) {
        self.by_name.insert(Arc::clone(name), tenant);
        self.required.insert(tenant);
    }

    /// The tenant of a name in certificates.
    pub(super) fn tenant_of(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// True if the tenant has certificate names.
    pub(super) fn requires(&self, tenant: usize) -> bool {
        self.required.contains(&tenant)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// Finds the tenant of a certificate. `None` if there is no certificate, or if it belongs to no tenant.
    ///
    /// # Errors
    /// `Revoked` if the certificate is not valid any more, `OtherCertificate` if it has names of two tenants.
    pub(super) fn holder(
        &self,
        certificate: Option<&Arc<ClientCertificate>>,
        now: SystemTime,
    ) -> Result<Option<CertificateHolder>, CredentialFault> {
        let Some((verifier, certificate)) = self.verifier.as_ref().zip(certificate) else { return Ok(None) };
        if !certificate.holds(verifier, now) {
            return Err(CredentialFault::Revoked);
        }
        let mut found = certificate.names.iter().filter_map(|name| self.by_name.get_key_value(&**name));
        let Some((name, &tenant)) = found.next() else { return Ok(None) };
        if found.any(|(_, other)| *other != tenant) {
            return Err(CredentialFault::OtherCertificate);
        }
        Ok(Some(CertificateHolder { tenant, name: Arc::clone(name) }))
    }

    /// Checks that the bearer of a key of the tenant may call with this certificate, or without one.
    ///
    /// # Errors
    /// `NoCertificate` or `OtherCertificate`.
    pub(super) fn check(
        &self,
        tenant: usize,
        holder: Option<&CertificateHolder>,
    ) -> Result<(), CredentialFault> {
        match holder {
            Some(holder) if holder.tenant != tenant => Err(CredentialFault::OtherCertificate),
            None if self.requires(tenant) => Err(CredentialFault::NoCertificate),
            Some(_) | None => Ok(()),
        }
    }
}

/// Time for which the result of a verification is kept. To verify a certificate takes some 100 µs.
const VERIFICATION_KEPT: Duration = Duration::from_secs(60);
