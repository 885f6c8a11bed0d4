//! A self-signed certificate for 127.0.0.1.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::CertifiedKey;
use tempfile::TempDir;
use tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig, version};

/// The certificate and its key, in files that all peers read.
pub(crate) struct Identity {
    directory: TempDir,
}

impl Identity {
    pub(crate) fn make() -> io::Result<Identity> {
        let names = ["127.0.0.1".to_owned(), "localhost".to_owned()];
        let CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed(names).map_err(io::Error::other)?;
        let directory = tempfile::tempdir()?;
        std::fs::write(directory.path().join(CERTIFICATE), cert.pem())?;
        std::fs::write(directory.path().join(KEY), signing_key.serialize_pem())?;
        // HAProxy takes both from one file.
        std::fs::write(directory.path().join(BOTH), cert.pem() + &signing_key.serialize_pem())?;
        Ok(Identity { directory })
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn certificate(&self) -> PathBuf {
        self.path().join(CERTIFICATE)
    }

    pub(crate) fn key(&self) -> PathBuf {
        self.path().join(KEY)
    }

    pub(crate) fn both(&self) -> PathBuf {
        self.path().join(BOTH)
    }

    /// TLS configuration of the load: TLS 1.3 with one suite, so that all peers use the same.
    pub(crate) fn client(&self) -> io::Result<Arc<ClientConfig>> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(self.path())? {
            roots.add(certificate).map_err(io::Error::other)?;
        }
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&version::TLS13])
            .map_err(io::Error::other)?;
        Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
    }
}

/// TLS configuration of the mock, with the same suite.
pub(crate) fn server(directory: &Path) -> io::Result<Arc<ServerConfig>> {
    let key = PrivateKeyDer::from_pem_file(directory.join(KEY)).map_err(io::Error::other)?;
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&version::TLS13])
        .map_err(io::Error::other)?;
    let config = builder.with_no_client_auth().with_single_cert(certificates(directory)?, key);
    config.map(Arc::new).map_err(io::Error::other)
}

fn certificates(directory: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let pem = CertificateDer::pem_file_iter(directory.join(CERTIFICATE)).map_err(io::Error::other)?;
    pem.collect::<Result<_, _>>().map_err(io::Error::other)
}

fn provider() -> Arc<CryptoProvider> {
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites = vec![aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256];
    Arc::new(provider)
}

const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
const BOTH: &str = "tls.pem";
