//! TLS: rustls with ring, passed explicitly, and the platform's idea of whom to trust.

use std::{path::Path, sync::Arc};

use mcpool_core::{Error, ErrorKind, Result, is_exhausted};
use rustls::{
    ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, pem::PemObject},
};
use rustls_platform_verifier::Verifier;

use crate::pin::Pinned;

/// How large a file of certificates may be; that of a whole system has a quarter of it.
const CA_FILE_LIMIT: u64 = 1024 * 1024;

/// Reads a PEM file of certificates. Blocks.
pub(crate) fn read_ca_file(path: &Path) -> Result<Arc<[u8]>> {
    let pem = mcpool_files::read_regular(path, CA_FILE_LIMIT).map_err(|error| {
        let kind = match is_exhausted(&error) {
            true => ErrorKind::Exhausted,
            false => ErrorKind::InvalidSpec,
        };
        let message = format!("cannot read the CA file {}: {error}", path.display());
        Error::new(kind, message).with_source(error)
    })?;
    if certificates(&pem)?.is_empty() {
        return Err(Error::new(
            ErrorKind::InvalidSpec,
            format!("the CA file {} holds no PEM certificate", path.display()),
        ));
    }
    Ok(pem.into())
}

/// Trusts whom the platform trusts, and these certificates: as authorities, and as the server's
/// own.
pub(crate) fn trusting_platform(extra_ca: Option<&[u8]>) -> Result<ClientConfig> {
    let extra = extra_ca.map(certificates).transpose()?.unwrap_or_default();
    let (provider, builder) = builder()?;
    let pins = extra.clone();
    let verifier = Verifier::new_with_extra_roots(extra, provider).map_err(|error| {
        Error::new(
            ErrorKind::InvalidSpec,
            "TLS has no root certificates to trust: install the system's CA certificates, or \
             set ca_file",
        )
        .with_source(error)
    })?;
    Ok(with_alpn(
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Pinned::new(verifier, pins)))
            .with_no_client_auth(),
    ))
}

/// Trusts nobody: for clients that never speak TLS.
pub(crate) fn trusting_nobody() -> Result<ClientConfig> {
    let (_, builder) = builder()?;
    Ok(with_alpn(
        builder
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth(),
    ))
}

fn builder() -> Result<(
    Arc<CryptoProvider>,
    ConfigBuilder<ClientConfig, WantsVerifier>,
)> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| {
            Error::new(ErrorKind::Internal, "TLS cannot be set up").with_source(error)
        })?;
    Ok((provider, builder))
}

fn with_alpn(mut config: ClientConfig) -> ClientConfig {
    // reqwest sets this for configurations of its own making only.
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| {
            Error::new(ErrorKind::InvalidSpec, "the CA file is not valid PEM").with_source(error)
        })
}
