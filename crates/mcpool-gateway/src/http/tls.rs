//! TLS from PEM files.

use std::{fmt, sync::Arc};

use arc_swap::ArcSwap;
use mcpool_core::{Error, ErrorKind, Result};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio_rustls::TlsAcceptor;

/// A certificate and its key, by which the gateway speaks TLS 1.2 and 1.3. Cloning shares them.
#[derive(Clone)]
pub struct Tls(Arc<ArcSwap<ServerConfig>>);

impl Tls {
    /// Reads a chain of certificates, the gateway's own first, and the private key of that
    /// (PKCS #8, PKCS #1 or SEC 1), both as PEM.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) when they are none, or do not belong
    /// together; the error holds nothing of the key.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self> {
        let refused = |why: &str| Error::new(ErrorKind::InvalidArgument, why.to_owned());
        let chain: Vec<_> = CertificateDer::pem_slice_iter(chain)
            .collect::<std::result::Result<_, _>>()
            .map_err(|_| refused("the certificates are no PEM"))?;
        if chain.is_empty() {
            return Err(refused("there is no certificate"));
        }
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|_| refused("there is no private key as PEM"))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
            .map_err(|error| {
                refused("certificate and key cannot be used together").with_source(error)
            })?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(Arc::new(ArcSwap::from_pointee(config))))
    }

    /// Takes the certificate and key of `other` in place of its own, in every clone: connections
    /// that are made from now on have them.
    pub fn replace(&self, other: &Self) {
        self.0.store(other.0.load_full());
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.0.load_full())
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}
