//! Errors in words that a user understands, and without what strangers put into them.

use mcpool_core::{Error, ErrorKind};

/// A login was refused, or is needed: nothing that trying again would change.
pub(crate) fn refused(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::AuthRequired, message)
}

pub(crate) fn no_pkce() -> &'static str {
    "refused for safety: the authorization server does not say that it supports PKCE with S256"
}
