//! The pool's key, and what is sealed with it before it leaves the process.
//!
//! `mcpool-gateway` seals what its clients bring back in its own `seal.rs`: the two crates share
//! only crates that work without ciphers, and nothing that is sealed.

use std::fmt;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use chacha20poly1305::{
    XChaCha20Poly1305, XNonce,
    aead::{Aead, KeyInit, Payload},
};
use mcpool_core::{Error, ErrorKind, Result, Secret};

/// Bytes of a key.
const KEY_BYTES: usize = 32;

/// Bytes of a nonce. It is long enough to be random: XChaCha20-Poly1305 was made for that.
const NONCE_BYTES: usize = 24;

/// The key that the gateways of a pool share, and older ones that still open. NATS never has them.
///
/// To change the key, give the old one as an older key to every gateway: what is saved from then
/// on is sealed with the new one.
#[derive(Clone)]
pub struct PoolKey {
    current: XChaCha20Poly1305,
    older: Vec<XChaCha20Poly1305>,
}

impl PoolKey {
    /// A key as text: 32 bytes in base64, as `openssl rand -base64 32` makes them.
    ///
    /// # Errors
    /// `InvalidArgument` for anything else. The error holds nothing of the text.
    pub fn from_text(key: &Secret) -> Result<Self> {
        Ok(Self {
            current: cipher(key)?,
            older: Vec::new(),
        })
    }

    /// Adds a key that still opens, and does not seal any more.
    ///
    /// # Errors
    /// As [`from_text`](Self::from_text).
    pub fn with_older(mut self, key: &Secret) -> Result<Self> {
        self.older.push(cipher(key)?);
        Ok(self)
    }

    /// Seals bytes for a place: they open there and nowhere else.
    pub(crate) fn seal(&self, place: &str, bytes: &[u8]) -> Result<Vec<u8>> {
        let nonce: [u8; NONCE_BYTES] = rand::random();
        let payload = Payload {
            msg: bytes,
            aad: place.as_bytes(),
        };
        let sealed = self.current.encrypt(&XNonce::from(nonce), payload);
        let sealed = sealed
            .map_err(|_| Error::new(ErrorKind::Internal, "what is to be sealed is too long"))?;
        let mut all = nonce.to_vec();
        all.extend(sealed);
        Ok(all)
    }

    /// Opens what was sealed for this place with one of the keys; `None` for anything else.
    pub(crate) fn open(&self, place: &str, all: &[u8]) -> Option<Vec<u8>> {
        let (nonce, sealed) = all.split_first_chunk::<NONCE_BYTES>()?;
        let nonce = XNonce::from(*nonce);
        std::iter::once(&self.current)
            .chain(&self.older)
            .find_map(|key| {
                let payload = Payload {
                    msg: sealed,
                    aad: place.as_bytes(),
                };
                key.decrypt(&nonce, payload).ok()
            })
    }
}

fn cipher(key: &Secret) -> Result<XChaCha20Poly1305> {
    let bytes = BASE64_STANDARD.decode(key.expose().trim()).ok();
    let key = bytes.and_then(|bytes| <[u8; KEY_BYTES]>::try_from(bytes).ok());
    key.map(|key| XChaCha20Poly1305::new(&key.into()))
        .ok_or_else(|| {
            Error::new(
                ErrorKind::InvalidArgument,
                "the key of a pool is 32 bytes in base64",
            )
        })
}

impl fmt::Debug for PoolKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PoolKey")
    }
}
