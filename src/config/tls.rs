//! `tls` of a listener: the server's certificate and key, and the authorities of clients' certificates. All faults are
//! found here, before a handshake could fail.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{InconsistentKeys, RootCertStore, ServerConfig};
use sha2::{Digest, Sha256};

use super::node::Node;
use super::reader::{ConfigReader, Located, Location, ValueFault};
use super::secret::bytes_in_file;
use crate::net::certificate;

/// TLS settings of a listener. Two are equal if they were made from files with the same bytes.
#[derive(Clone)]
pub struct Tls {
    pub server: Arc<ServerConfig>,
    /// Verifier of clients' certificates; `None` if clients are not asked for a certificate.
    pub clients: Option<Arc<dyn ClientCertVerifier>>,
    sha256: [u8; 32],
}

impl PartialEq for Tls {
    fn eq(&self, other: &Self) -> bool {
        self.sha256 == other.sha256
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("asks_clients", &self.clients.is_some()).finish_non_exhaustive()
    }
}

/// The table as written, with its files read. A `None` was left out, or has its fault already.
pub(super) struct RawTls {
    location: Location,
    certificate: Option<Located<Vec<u8>>>,
    key: Option<Located<Vec<u8>>>,
    client_ca: Option<Located<Vec<u8>>>,
    client_crl: Option<Located<Vec<u8>>>,
    /// `client_ca` is written, readable or not.
    pub(super) asks_clients: bool,
}

pub(super) fn read(node: &Node<'_>) -> Option<RawTls> {
    let mut table = node.table(HINT)?;
    let certificate =
        table.required("cert", "a PEM file: the server's certificate, then those that issued it");
    let key = table.required("key", "a PEM file: the certificate's private key");
    let (client_ca, client_crl) = (table.field("client_ca"), table.field("client_crl"));
    let asks_clients = table.has("client_ca");
    if let Some(node) = client_crl.as_ref().filter(|_| !asks_clients) {
        let hint = "give the authorities that sign clients' certificates as client_ca";
        node.reader.fault(&node.location, "revokes certificates that nobody is asked for", hint);
    }
    let file = RawTls {
        location: node.location.clone(),
        certificate: certificate.and_then(pem),
        key: key.and_then(pem),
        client_ca: client_ca.and_then(pem),
        client_crl: client_crl.and_then(pem),
        asks_clients,
    };
    table.finish();
    Some(file)
}

fn pem(node: Node<'_>) -> Option<Located<Vec<u8>>> {
    let (value, _) = bytes_in_file(&node, MAX_PEM_BYTES)?;
    Some(Located { value, location: node.location })
}

/// Checks the settings of a listener that offers these ALPN protocols, the preferred one first.
pub(super) fn check(
    reader: &ConfigReader<'_>,
    file: &RawTls,
    protocols: &[&[u8]],
    now: SystemTime,
) -> Option<Tls> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let (certificate, key) = (file.certificate.as_ref(), file.key.as_ref());
    let chain = certificate.and_then(|written| {
        let chain = reader.check(written, |pem: &Vec<u8>| chain(pem))?;
        in_time(reader, &written.location, &chain[0], now).then_some(chain)
    });
    let parsed = key.and_then(|written| reader.check(written, |pem: &Vec<u8>| private_key(pem)));
    let identity = chain.zip(parsed).zip(key).and_then(|((chain, key), written)| {
        let certified = CertifiedKey::from_der(chain, key, &provider).map_err(|error| mismatch(&error));
        certified.map_err(|wrong| reader.fault(&written.location, wrong.problem, wrong.hint)).ok()
    });
    let clients = match &file.client_ca {
        Some(written) => Some(clients(reader, written, file.client_crl.as_ref(), &provider)?),
        None if file.asks_clients => return None,
        None => None,
    };
    let server = server(identity?, clients.clone(), protocols, &provider);
    let server = server.map_err(|error| reader.fault(&file.location, error.to_string(), HINT)).ok()?;
    let mut digest = Sha256::new();
    for part in [certificate, key, file.client_ca.as_ref(), file.client_crl.as_ref()] {
        let part = part.map_or(&[][..], |written| &written.value);
        digest.update(part.len().to_le_bytes());
        digest.update(part);
    }
    Some(Tls { server: Arc::new(server), clients, sha256: digest.finalize().into() })
}

fn server(
    identity: CertifiedKey,
    clients: Option<Arc<dyn ClientCertVerifier>>,
    protocols: &[&[u8]],
    provider: &Arc<CryptoProvider>,
) -> Result<ServerConfig, rustls::Error> {
    let builder =
        ServerConfig::builder_with_provider(Arc::clone(provider)).with_safe_default_protocol_versions()?;
    let resolver = Arc::new(SingleCertAndKey::from(identity));
    let mut server = match clients {
        None => {
            let mut server = builder.with_no_client_auth().with_cert_resolver(resolver);
            server.ticketer = aws_lc_rs::Ticketer::new()?;
            server
        }
        // Sessions are not resumed: a resumed session would skip the check of the client's certificate.
        Some(clients) => {
            let mut server = builder.with_client_cert_verifier(clients).with_cert_resolver(resolver);
            server.session_storage = Arc::new(NoServerSessionStorage {});
            server.send_tls13_tickets = 0;
            server
        }
    };
    // The server's order of ciphers is by strength; a client's order may be arbitrary.
    server.ignore_client_order = true;
    server.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(server)
}

fn clients(
    reader: &ConfigReader<'_>,
    authorities_written: &Located<Vec<u8>>,
    revoked: Option<&Located<Vec<u8>>>,
    provider: &Arc<CryptoProvider>,
) -> Option<Arc<dyn ClientCertVerifier>> {
    let roots: RootCertStore = reader.check(authorities_written, |pem: &Vec<u8>| authorities(pem))?;
    let revoked_place = revoked.map_or(&authorities_written.location, |written| &written.location);
    let lists = match revoked {
        Some(written) => reader.check(written, |pem: &Vec<u8>| revocations(pem))?,
        None => Vec::new(),
    };
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .with_crls(lists)
        .only_check_end_entity_revocation()
        .allow_unauthenticated()
        .build();
    verifier.map_err(|error| reader.fault(revoked_place, format!("can't be used: {error}"), CRL_HINT)).ok()
}

/// Parses certificate authorities; at least one is required.
pub(super) fn authorities(pem: &[u8]) -> Result<RootCertStore, ValueFault> {
    let wrong = |problem: &str| ValueFault::new(problem, "give certificate authorities as PEM");
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|_| wrong("is not valid PEM"))?;
        store.add(certificate).map_err(|_| wrong("has a certificate that cannot be read"))?;
    }
    if store.is_empty() { Err(wrong("has no certificate in it")) } else { Ok(store) }
}

fn chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, ValueFault> {
    let wrong = |problem: &str| {
        ValueFault::new(problem, "give the server's certificate as PEM, then those that issued it")
    };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let chain = chain.map_err(|_| wrong("is not valid PEM"))?;
    if chain.is_empty() {
        return Err(wrong("has no certificate in it"));
    }
    if chain.iter().any(|one| certificate::validity(one).is_none()) {
        return Err(wrong("has a certificate that cannot be read"));
    }
    Ok(chain)
}

/// Notes a fault for a certificate that is not valid now, and a warning for one that expires soon.
fn in_time(
    reader: &ConfigReader<'_>,
    location: &Location,
    certificate: &CertificateDer<'_>,
    now: SystemTime,
) -> bool {
    let Some(validity) = certificate::validity(certificate) else { return false };
    let moment = |time| humantime::format_rfc3339_seconds(time);
    if validity.ends <= now {
        reader.fault(location, format!("expired at {}", moment(validity.ends)), "get a new certificate");
        return false;
    }
    if validity.begins > now {
        let problem = format!("is not valid before {}", moment(validity.begins));
        reader.fault(location, problem, "wait, or look at this host's clock");
        return false;
    }
    if validity.ends < now + SOON {
        reader.warn(
            location,
            format!("expires soon, at {}", moment(validity.ends)),
            "put a new one into the file",
        );
    }
    true
}

fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, ValueFault> {
    PrivateKeyDer::from_pem_slice(pem)
        .map_err(|_| ValueFault::new("has no private key in it", "give one as PEM, without a passphrase"))
}

fn mismatch(error: &rustls::Error) -> ValueFault {
    if let rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) = error {
        return ValueFault::new("is not the key of the certificate", "give the two that belong together");
    }
    ValueFault::new(
        "is no key that can sign here",
        "make it with RSA of 2048 bits or more, ECDSA, or Ed25519",
    )
}

fn revocations(pem: &[u8]) -> Result<Vec<CertificateRevocationListDer<'static>>, ValueFault> {
    let lists: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(pem).collect();
    let lists = lists.map_err(|_| ValueFault::new("is not valid PEM", CRL_HINT))?;
    if lists.is_empty() { Err(ValueFault::new("has no revocation list in it", CRL_HINT)) } else { Ok(lists) }
}

const HINT: &str = "write it like tls = { cert = \"tls.crt\", key = \"tls.key\" }";
const CRL_HINT: &str = "give the revocation lists of client_ca's authorities as PEM";
const MAX_PEM_BYTES: u64 = 4 * 1024 * 1024;
/// Certificates are usually renewed a month before they expire.
const SOON: Duration = Duration::from_secs(14 * 24 * 3600);
