//! The HTTP client for those whom the operator has named: an authorization server, a collector of
//! traces.

use std::{error::Error as StdError, sync::Arc, time::Duration};

use mcpool_core::{Error, ErrorKind, Result};
use reqwest::{Client, redirect::Policy};
use rustls::ClientConfig;
use rustls_platform_verifier::BuilderVerifierExt as _;

/// A client with the certificates that the system trusts, which gives up after `timeout`.
pub(crate) fn client(timeout: Duration) -> Result<Client> {
    let failed = |error: &dyn StdError| {
        Error::new(
            ErrorKind::Internal,
            format!("no TLS can be spoken: {error}"),
        )
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_platform_verifier())
        .map_err(|error| failed(&error))?
        .with_no_client_auth();
    Client::builder()
        .tls_backend_preconfigured(tls)
        // It is who was named, and nobody else.
        .redirect(Policy::none())
        .timeout(timeout)
        .build()
        .map_err(|error| failed(&error))
}
