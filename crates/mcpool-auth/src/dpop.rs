//! DPoP (RFC 9449): tokens bound to a key, and a fresh proof of that key for every request.

#[cfg(feature = "dpop")]
mod key;
#[cfg(not(feature = "dpop"))]
mod no_key;

#[cfg(feature = "dpop")]
pub(crate) use key::DpopKey;
#[cfg(not(feature = "dpop"))]
pub(crate) use no_key::DpopKey;

/// The one algorithm that we sign with: every DPoP server has to know it (RFC 9449, section 11.6
/// asks for an asymmetric one, and this is the one that all of them implement).
pub(crate) const ALGORITHM: &str = "ES256";
