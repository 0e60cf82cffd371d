//! Errors of rmcp's discovery, in words that a user understands.

use mcpool_core::{Error, ErrorKind};
use rmcp::transport::auth::{AuthError, ProtectedResourceMetadataInvalidReason};

use crate::{
    error::{no_pkce, refused},
    http::OAuthHttp,
    shown::{redacted, shorten},
};

/// An error of rmcp's discovery. What our own HTTP layer saw says more than rmcp's text, which
/// drops its sources.
pub(super) fn from_discovery(error: &AuthError, http: &OAuthHttp) -> Error {
    if let Some(failure) = http.failure() {
        return failure.into();
    }
    match error {
        AuthError::AuthorizationServerMismatch {
            expected_issuer,
            received_issuer,
        } => refused(format!(
            "refused for safety: the metadata of {} says that it is {} (RFC 8414)",
            shorten(expected_issuer),
            shorten(received_issuer)
        )),
        AuthError::AuthorizationServerMissingIssuer { expected_issuer } => refused(format!(
            "the metadata of {} does not name its issuer (RFC 8414)",
            shorten(expected_issuer)
        )),
        AuthError::ProtectedResourceMetadataInvalid { url, reason } => match &**reason {
            ProtectedResourceMetadataInvalidReason::ResourceMismatch {
                reference,
                permitted,
            } => refused(format!(
                "refused for safety: the server at {} says that it is {}, and no token for \
                 another server is asked for (RFC 9728)",
                redacted(reference),
                redacted(permitted)
            )),
            _ => refused(format!(
                "the server's metadata at {} cannot be used",
                redacted(url)
            )),
        },
        AuthError::PkceUnsupported => refused(no_pkce()),
        AuthError::NoAuthorizationSupport => {
            refused("the server wants credentials but names no authorization server")
        }
        AuthError::AuthorizationServersUnavailable {
            authorization_servers,
            ..
        } => refused(format!(
            "the server names {} as its authorization server, which published no metadata that \
             may be used",
            shorten(&authorization_servers.join(", "))
        )),
        AuthError::DiscoveryRequestFailed { url, source } => Error::new(
            ErrorKind::Connect,
            format!(
                "the authorization metadata at {} could not be read: {}",
                redacted(url),
                shorten(&source.to_string())
            ),
        ),
        _ => {
            let what = "the authorization server could not be found out";
            match http.oauth_error() {
                Some(answer) if answer.status >= 500 => {
                    Error::new(ErrorKind::HttpStatus, format!("{what}: {answer}"))
                        .with_http_status(answer.status)
                }
                Some(answer) => refused(format!("{what}: {answer}")),
                None => refused(format!("{what}: {}", shorten(&error.to_string()))),
            }
        }
    }
}
