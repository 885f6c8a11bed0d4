//! Callers: the tenant that a request speaks for, identified by a key, by a certificate, or by both.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use super::browser_token::{PresentedToken, TokenSigner};
use super::certificate::{CertificateHolder, ClientCertificate};
use super::directory::{ConfiguredKey, Directory, Tenant};
use super::key::{CredentialFault, KeyDigest, VirtualKey};
use super::keyring::{IssuedKey, Keyring};
use crate::config::Limits;
use crate::net::networks::Networks;

/// A tenant, identified by one of its keys or certificates. The caller keeps the directory in which it was found.
#[derive(Debug, Clone)]
pub struct Caller {
    directory: Arc<Directory>,
    tenant: usize,
    credential: Credential,
    /// Limits of the key, where it has some of its own.
    limits: Option<Arc<Limits>>,
    /// The tenant's certificate of the connection, beside the key or instead of a key.
    certificate: Option<Arc<ClientCertificate>>,
    /// End of the browser token by which the caller has shown its key.
    token_ends: Option<SystemTime>,
    used_before: Option<SystemTime>,
}

#[derive(Debug, Clone)]
enum Credential {
    /// Index of a key of the configuration.
    Configured(usize),
    /// A key made at run time.
    Issued(Arc<IssuedKey>),
    /// The name in the certificate; there is no key.
    Certificate(Arc<str>),
}

/// A key or a certificate that does not let its bearer in.
#[derive(Debug)]
pub struct RefusedCredential {
    pub fault: CredentialFault,
    /// Whose key it is, as far as that is known: the log says who used a revoked key.
    pub holder: Option<KeyHolder>,
}

/// The holder of a key that does not let its bearer in.
#[derive(Debug, Clone)]
pub enum KeyHolder {
    Caller(Caller),
    /// A key made at run time whose tenant is not configured, or whose id a key of the configuration has taken.
    Unlisted(Arc<IssuedKey>),
}

/// Identifies the caller by a key, a certificate, or both; `None` where the request has neither.
///
/// # Errors
/// Why the key or the certificate does not let its bearer in, and who that is.
pub fn identify(
    directory: &Arc<Directory>,
    keyring: &Keyring,
    key: Option<VirtualKey<'_>>,
    certificate: Option<&Arc<ClientCertificate>>,
    now: SystemTime,
) -> Result<Option<Caller>, RefusedCredential> {
    let holder = directory.certificates.holder(certificate, now)?;
    let certificate = certificate.cloned().filter(|_| holder.is_some());
    let caller = match (key, holder) {
        (None, None) => return Ok(None),
        (None, Some(CertificateHolder { tenant, name })) => {
            Caller { certificate, ..Caller::new(directory, tenant, Credential::Certificate(name)) }
        }
        (Some(key), holder) => {
            let caller = match key.as_browser_token() {
                Some(token) => by_token(directory, keyring, token, now)?,
                None => by_key(directory, keyring, key, now)?,
            };
            if let Err(fault) = directory.certificates.check(caller.tenant, holder.as_ref()) {
                return Err(caller.refused(fault));
            }
            Caller { certificate, ..caller }
        }
    };
    Ok(Some(caller))
}

/// The caller of a sidecar, whom the connection's address alone identifies; `None` if the gateway is not a sidecar.
pub fn sidecar_caller(directory: &Arc<Directory>) -> Option<Caller> {
    directory.sidecar_key.map(|index| Caller::configured(directory, index))
}

/// Finds the holder of a key: among the keys of the configuration first, then on the keyring.
fn by_key(
    directory: &Arc<Directory>,
    keyring: &Keyring,
    key: VirtualKey<'_>,
    now: SystemTime,
) -> Result<Caller, RefusedCredential> {
    let digest = key.digest();
    let (caller, fault) = if let Some(index) = directory.by_digest.get(&digest) {
        (Caller::configured(directory, *index), directory.keys[*index].fault(now))
    } else {
        let Some(issued) = keyring.find(&digest) else {
            return Err(
                if key.is_mistyped() { CredentialFault::Mistyped } else { CredentialFault::Unknown }.into()
            );
        };
        let Some(tenant) = tenant_of(directory, &issued) else {
            let fault = issued.fault(now).unwrap_or(CredentialFault::Unknown);
            return Err(RefusedCredential { fault, holder: Some(KeyHolder::Unlisted(issued)) });
        };
        let fault = issued.fault(now);
        (Caller::new(directory, tenant, Credential::Issued(issued)), fault)
    };
    match fault {
        None => Ok(caller),
        Some(fault) => Err(caller.refused(fault)),
    }
}

/// Finds the holder of the key that made a browser token.
fn by_token(
    directory: &Arc<Directory>,
    keyring: &Keyring,
    token: &[u8],
    now: SystemTime,
) -> Result<Caller, RefusedCredential> {
    let token = PresentedToken::read(token).ok_or(CredentialFault::Mistyped)?;
    let is_of = |digest: &KeyDigest| keyring.signer.verify(&token, digest, now);
    let (caller, fault) = match directory.by_id.get(token.key_id()).copied() {
        Some(index) => {
            let key = &directory.keys[index];
            key.digest().copied().filter(is_of).ok_or(CredentialFault::Unknown)?;
            (Caller::configured(directory, index), key.fault(now))
        }
        None => {
            // The newest secret first: the others are behind a lock.
            let newest = keyring.named(token.key_id()).filter(|secret| is_of(secret.digest()));
            let earlier =
                || keyring.secrets(token.key_id()).into_iter().find(|secret| is_of(secret.digest()));
            let issued = newest.or_else(earlier).ok_or(CredentialFault::Unknown)?;
            let tenant = tenant_of(directory, &issued).ok_or(CredentialFault::Unknown)?;
            let fault = issued.fault(now);
            (Caller::new(directory, tenant, Credential::Issued(issued)), fault)
        }
    };
    let caller = Caller { token_ends: Some(token.ends_at()), ..caller };
    match fault.or_else(|| caller.token_fault(directory, now)) {
        None => Ok(caller),
        Some(fault) => Err(caller.refused(fault)),
    }
}

/// The tenant of a key made at run time. `None` if the tenant is not configured, or if a key of the configuration has
/// the same id.
fn tenant_of(directory: &Directory, issued: &IssuedKey) -> Option<usize> {
    let tenant = directory.tenants_by_name.get(&issued.tenant).copied();
    tenant.filter(|_| !directory.by_id.contains_key(&*issued.id))
}

impl KeyHolder {
    /// The tenant's name, which may not be configured any more.
    pub fn tenant_name(&self) -> &Arc<str> {
        match self {
            KeyHolder::Caller(caller) => &caller.tenant().name,
            KeyHolder::Unlisted(key) => &key.tenant,
        }
    }

    /// The loggable name of the key.
    pub fn key_id(&self) -> &str {
        match self {
            KeyHolder::Caller(caller) => caller.key_id(),
            KeyHolder::Unlisted(key) => &key.id,
        }
    }
}

impl From<CredentialFault> for RefusedCredential {
    fn from(fault: CredentialFault) -> Self {
        Self { fault, holder: None }
    }
}

impl Caller {
    fn new(directory: &Arc<Directory>, tenant: usize, credential: Credential) -> Self {
        let limits = match &credential {
            Credential::Issued(key) => key.limits_over(&directory.tenants[tenant].limits).map(Arc::new),
            Credential::Configured(_) | Credential::Certificate(_) => None,
        };
        let directory = Arc::clone(directory);
        let (certificate, token_ends, used_before) = (None, None, None);
        Self { directory, tenant, credential, limits, certificate, token_ends, used_before }
    }

    fn configured(directory: &Arc<Directory>, index: usize) -> Self {
        Self::new(directory, directory.keys[index].tenant, Credential::Configured(index))
    }

    fn refused(self, fault: CredentialFault) -> RefusedCredential {
        RefusedCredential { fault, holder: Some(KeyHolder::Caller(self)) }
    }

    /// True if the caller has shown no key: its connection alone identifies it, and a browser lets every web page use
    /// that connection.
    pub fn is_keyless(&self) -> bool {
        match &self.credential {
            Credential::Configured(index) => self.directory.keys[*index].digest.is_none(),
            Credential::Issued(_) => false,
            Credential::Certificate(_) => true,
        }
    }

    /// True if the caller's key was made at run time.
    pub fn is_issued(&self) -> bool {
        match &self.credential {
            Credential::Issued(_) => true,
            Credential::Configured(_) | Credential::Certificate(_) => false,
        }
    }

    /// The caller's key, if it was made at run time.
    pub fn issued(&self) -> Option<&Arc<IssuedKey>> {
        match &self.credential {
            Credential::Issued(key) => Some(key),
            Credential::Configured(_) | Credential::Certificate(_) => None,
        }
    }

    /// The loggable name of the caller's key, or of its certificate where it has no key. No key id has `:` or `=` in
    /// it, so a key id is never equal to a certificate's name.
    pub fn key_id(&self) -> &str {
        match &self.credential {
            Credential::Configured(index) => &self.directory.keys[*index].id,
            Credential::Issued(key) => &key.id,
            Credential::Certificate(name) => name,
        }
    }

    /// [`Caller::key_id`] for what outlives the call, shared where the configuration or the certificate has it.
    pub fn shared_key_id(&self) -> Arc<str> {
        match &self.credential {
            Credential::Configured(index) => Arc::clone(&self.directory.keys[*index].id),
            Credential::Issued(key) => Arc::from(&*key.id),
            Credential::Certificate(name) => Arc::clone(name),
        }
    }

    /// Notes that the caller's key is used.
    pub fn note_use(&mut self, now: SystemTime) {
        let last = match &self.credential {
            Credential::Configured(index) => &*self.directory.keys[*index].last_use,
            Credential::Issued(key) => &key.last_use,
            Credential::Certificate(_) => return,
        };
        self.used_before = last.at();
        last.note(now);
    }

    /// The last use of the caller's key before this call.
    pub fn used_before(&self) -> Option<SystemTime> {
        self.used_before
    }

    /// When the caller's key ends; `None`: never, or there is no key.
    pub fn expires(&self) -> Option<SystemTime> {
        match &self.credential {
            Credential::Configured(index) => self.directory.keys[*index].expires,
            Credential::Issued(key) => key.ends().moment(),
            Credential::Certificate(_) => None,
        }
    }

    /// True if the caller may call from the address: its key's own addresses count, else those of its tenant.
    pub fn may_call_from(&self, address: IpAddr) -> bool {
        let is_in = |networks: &Networks| networks.is_empty() || networks.contain(address);
        let of_tenant = || is_in(&self.tenant().addresses);
        match &self.credential {
            Credential::Configured(index) => match &self.directory.keys[*index].addresses {
                own if own.is_empty() => of_tenant(),
                own => is_in(own),
            },
            Credential::Issued(key) => match key.details() {
                Some(details) if !details.addresses.is_empty() => is_in(&details.addresses),
                Some(_) | None => of_tenant(),
            },
            Credential::Certificate(_) => of_tenant(),
        }
    }

    /// The tenant, narrowed to what its browser tokens may do for a caller with one.
    pub fn tenant(&self) -> &Tenant {
        let tenant = &self.directory.tenants[self.tenant];
        match &tenant.tokens {
            Some(tokens) if self.is_browser() => &tokens.scope,
            Some(_) | None => tenant,
        }
    }

    /// Limits of the caller's key, or else of each key of its tenant.
    pub fn limits(&self) -> &Limits {
        self.limits.as_deref().unwrap_or(&self.directory.tenants[self.tenant].limits)
    }

    /// Limits of the caller's key as they stand now, with the settings that its tenant has now.
    pub fn limits_now<'t>(&self, tenant: &'t Tenant) -> Cow<'t, Limits> {
        let own = self.issued().and_then(|key| key.limits_over(&tenant.limits));
        own.map_or(Cow::Borrowed(&tenant.limits), Cow::Owned)
    }

    /// True if the caller has shown a browser token in place of its key.
    pub fn is_browser(&self) -> bool {
        self.token_ends.is_some()
    }

    /// The origin of the pages that may use the caller's browser token, where it is for one origin.
    pub fn page(&self) -> Option<&str> {
        let tokens = self.directory.tenants[self.tenant].tokens.as_ref().filter(|_| self.is_browser());
        tokens.and_then(|tokens| tokens.rules.origin.as_deref())
    }

    /// A browser token for the caller's key, which ends at `ends_at`; `None` if there is no secret to sign with yet, or the
    /// caller has no key.
    pub fn browser_token(&self, signer: &TokenSigner, ends_at: SystemTime) -> Option<String> {
        let digest = match &self.credential {
            Credential::Configured(index) => self.directory.keys[*index].digest()?,
            Credential::Issued(key) => key.digest(),
            Credential::Certificate(_) => return None,
        };
        signer.sign(self.key_id(), digest, ends_at)
    }

    pub fn directory(&self) -> &Arc<Directory> {
        &self.directory
    }

    /// Why the caller's key or certificate, which was valid before, is not valid at `now`; `None` while it is valid.
    /// `current` is the directory in force.
    pub fn fault(&self, current: &Arc<Directory>, now: SystemTime) -> Option<CredentialFault> {
        let of_key = self.key_fault(current, now).or_else(|| self.certificate_fault(current, now));
        of_key.or_else(|| self.token_fault(current, now))
    }

    /// Why the caller's browser token is not valid; `None` where it is, and where the caller has none.
    fn token_fault(&self, current: &Directory, now: SystemTime) -> Option<CredentialFault> {
        let ends_at = self.token_ends?;
        let name = &self.directory.tenants[self.tenant].name;
        if current.tenant(name).is_none_or(|tenant| tenant.tokens.is_none()) {
            return Some(CredentialFault::Revoked);
        }
        (ends_at <= now).then_some(CredentialFault::Expired)
    }

    fn key_fault(&self, current: &Arc<Directory>, now: SystemTime) -> Option<CredentialFault> {
        let unchanged = Arc::ptr_eq(current, &self.directory);
        match &self.credential {
            Credential::Configured(index) if unchanged => self.directory.keys[*index].fault(now),
            Credential::Configured(index) => {
                let digest = self.directory.keys[*index].digest?;
                let configured = current.by_digest.get(&digest).map(|index| &current.keys[*index]);
                let tenant = current.tenants_by_name.get(&self.tenant().name);
                let own = |key: &&ConfiguredKey| Some(&key.tenant) == tenant;
                configured.filter(own).map_or(Some(CredentialFault::Revoked), |key| key.fault(now))
            }
            Credential::Issued(key) => {
                let stays = unchanged || tenant_of(current, key).is_some();
                if stays { key.fault(now) } else { Some(CredentialFault::Revoked) }
            }
            Credential::Certificate(_) => None,
        }
    }

    fn certificate_fault(&self, current: &Arc<Directory>, now: SystemTime) -> Option<CredentialFault> {
        let unchanged = Arc::ptr_eq(current, &self.directory);
        if self.certificate.is_none() && (unchanged || current.certificates.is_empty()) {
            return None;
        }
        let holder = match current.certificates.holder(self.certificate.as_ref(), now) {
            Ok(holder) => holder,
            Err(fault) => return Some(fault),
        };
        let tenant = current.tenants_by_name.get(&self.tenant().name).copied();
        match &self.credential {
            Credential::Certificate(_) => {
                let stays = tenant.is_some() && holder.map(|holder| holder.tenant) == tenant;
                (!stays).then_some(CredentialFault::Revoked)
            }
            Credential::Configured(_) | Credential::Issued(_) => {
                current.certificates.check(tenant?, holder.as_ref()).err()
            }
        }
    }
}
