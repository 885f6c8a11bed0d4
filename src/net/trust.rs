//! TLS as a client: the server's certificate is verified, and the crypto provider (aws-lc-rs) is passed explicitly.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{CertificateError, ClientConfig, Error, RootCertStore};

/// Verification of a server, and the name that its certificate must have.
pub type ServerTls = (Arc<ClientConfig>, ServerName<'static>);

/// Certificate and key, in PEM, for servers that ask for a client certificate.
#[derive(Debug, Clone, Copy)]
pub struct Identity<'a> {
    pub certificate: &'a [u8],
    pub key: &'a [u8],
}

/// Makes a configuration that trusts the public authorities and the authorities in `ca_pem`.
///
/// # Errors
/// A fault of the certificates in `ca_pem`, or of the identity.
pub fn client_config(
    ca_pem: Option<&[u8]>,
    identity: Option<Identity<'_>>,
) -> Result<Arc<ClientConfig>, Error> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(pem) = ca_pem {
        let authorities = certificates(pem)?;
        if authorities.is_empty() {
            return Err(Error::General("there is no certificate in it".to_owned()));
        }
        for certificate in authorities {
            roots.add(certificate)?;
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(Identity { certificate, key }) => {
            let key = PrivateKeyDer::from_pem_slice(key)
                .map_err(|_| Error::General("there is no private key in it".to_owned()))?;
            builder.with_client_auth_cert(certificates(certificate)?, key)?
        }
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let read: Result<_, _> = CertificateDer::pem_slice_iter(pem).collect();
    read.map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))
}
