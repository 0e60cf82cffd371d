//! HTTP clients for those whom the operator has named: an authorization server, a collector of
//! traces, other replicas.

use std::{error::Error as StdError, sync::Arc, time::Duration};

use mcpool_core::{Error, ErrorKind, Result};
use reqwest::{Client, ClientBuilder, redirect::Policy};
use rustls::ClientConfig;
use rustls_platform_verifier::BuilderVerifierExt as _;

/// A client with the certificates that the system trusts, which gives up after `timeout`.
pub(crate) fn client(timeout: Duration) -> Result<Client> {
    build(builder()?.timeout(timeout))
}

/// A client with the certificates that the system trusts, to be set up.
pub(crate) fn builder() -> Result<ClientBuilder> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_platform_verifier())
        .map_err(|error| failed(&error))?
        .with_no_client_auth();
    Ok(Client::builder()
        .tls_backend_preconfigured(tls)
        // It is who was named, and nobody else.
        .redirect(Policy::none()))
}

/// Builds what was set up.
pub(crate) fn build(builder: ClientBuilder) -> Result<Client> {
    builder.build().map_err(|error| failed(&error))
}

fn failed(error: &dyn StdError) -> Error {
    Error::new(
        ErrorKind::Internal,
        format!("no TLS can be spoken: {error}"),
    )
}
