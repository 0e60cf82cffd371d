//! rmcp's errors in words that a user understands, and without what strangers put into them.

use std::error::Error as _;

use mcpool_core::{Error, ErrorKind};
use rmcp::transport::auth::{AuthError, ProtectedResourceMetadataInvalidReason};

use crate::http::{HttpFailure, OAuthHttp, redacted, shorten};

/// What was being done when an error arose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Finding the authorization server.
    Discovery,
    /// Registering the client.
    Registration,
    /// Taking the browser's redirect.
    Callback,
}

/// A login was refused, or is needed: nothing that trying again would change.
pub(crate) fn refused(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::AuthRequired, message)
}

/// A request of ours brought no answer.
pub(crate) fn from_http(failure: &HttpFailure) -> Error {
    match failure {
        HttpFailure::Refused(why) => refused(format!("refused for safety: {why}")),
        HttpFailure::Unreachable { .. } => Error::new(ErrorKind::Connect, failure.to_string()),
        HttpFailure::BadAnswer(why) => Error::new(ErrorKind::Protocol, why.clone()),
    }
}

/// An error of rmcp. What our own HTTP layer saw says more than rmcp's text, which drops its
/// sources.
pub(crate) fn from_rmcp(error: &AuthError, step: Step, http: &OAuthHttp) -> Error {
    if let Some(failure) = http.failure() {
        return from_http(&failure);
    }
    match error {
        AuthError::AuthorizationServerMismatch {
            expected_issuer,
            received_issuer,
        } => refused(match step {
            Step::Callback => format!(
                "refused for safety: the answer came from {}, but the login was started at {} \
                 (RFC 9207)",
                shorten(received_issuer),
                shorten(expected_issuer)
            ),
            _ => format!(
                "refused for safety: the metadata of {} says that it is {} (RFC 8414)",
                shorten(expected_issuer),
                shorten(received_issuer)
            ),
        }),
        AuthError::AuthorizationServerMissingIssuer { expected_issuer } => {
            let expected = shorten(expected_issuer);
            refused(match step {
                Step::Callback => format!(
                    "refused for safety: {expected} promised to name itself in its answer, and \
                     the answer names nobody (RFC 9207)"
                ),
                _ => format!("the metadata of {expected} does not name its issuer (RFC 8414)"),
            })
        }
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
            _ => Error::new(
                ErrorKind::AuthRequired,
                format!("the server's metadata at {} cannot be used", redacted(url)),
            ),
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
        AuthError::InternalError(text) if text.contains("state not found") => refused(
            "this redirect belongs to no login that is waiting: it was used before, or is from \
             another login; start the login again",
        ),
        _ => from_answer(step, http, error),
    }
}

fn from_answer(step: Step, http: &OAuthHttp, error: &AuthError) -> Error {
    let what = match step {
        Step::Discovery => "the authorization server could not be found out",
        Step::Registration => {
            "the authorization server did not register this client; configure a client id"
        }
        Step::Callback => "the login was not completed",
    };
    match http.oauth_error() {
        Some(answer) if answer.status >= 500 => {
            Error::new(ErrorKind::HttpStatus, format!("{what}: {answer}"))
                .with_http_status(answer.status)
        }
        Some(answer) => refused(format!("{what}: {answer}")),
        None => refused(format!("{what}: {}", describe(error))),
    }
}

/// rmcp's own words, without the answers of strangers that some variants quote.
fn describe(error: &AuthError) -> String {
    match error {
        AuthError::RegistrationFailed(_) => "it refused without a reason".to_owned(),
        AuthError::TokenExchangeFailed(_) | AuthError::ClientCredentialsError(_)
            if error.source().is_none() =>
        {
            let text = error.to_string();
            shorten(text.rsplit(": ").next().unwrap_or_default())
        }
        _ => shorten(&error.to_string()),
    }
}

pub(crate) fn no_pkce() -> &'static str {
    "refused for safety: the authorization server does not say that it supports PKCE with S256"
}
