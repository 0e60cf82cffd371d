//! The pool's key, and what is sealed with it before it leaves the process.

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

/// The key that the gateways of a pool share. NATS never has it.
#[derive(Clone)]
pub struct PoolKey(XChaCha20Poly1305);

impl PoolKey {
    /// A key as text: 32 bytes in base64, as `openssl rand -base64 32` makes them.
    ///
    /// # Errors
    /// `InvalidArgument` for anything else. The error holds nothing of the text.
    pub fn from_text(key: &Secret) -> Result<Self> {
        let bytes = BASE64_STANDARD.decode(key.expose().trim()).ok();
        let key = bytes.and_then(|bytes| <[u8; KEY_BYTES]>::try_from(bytes).ok());
        let key = key.ok_or_else(|| {
            Error::new(
                ErrorKind::InvalidArgument,
                "the key of a pool is 32 bytes in base64",
            )
        })?;
        Ok(Self(XChaCha20Poly1305::new(&key.into())))
    }

    /// Seals bytes for a place: they open there and nowhere else.
    pub(crate) fn seal(&self, place: &str, bytes: &[u8]) -> Result<Vec<u8>> {
        let nonce: [u8; NONCE_BYTES] = rand::random();
        let payload = Payload {
            msg: bytes,
            aad: place.as_bytes(),
        };
        let sealed = self.0.encrypt(&XNonce::from(nonce), payload);
        let sealed = sealed
            .map_err(|_| Error::new(ErrorKind::Internal, "what is to be sealed is too long"))?;
        let mut all = nonce.to_vec();
        all.extend(sealed);
        Ok(all)
    }

    /// Opens what was sealed for this place with this key; `None` for anything else.
    pub(crate) fn open(&self, place: &str, all: &[u8]) -> Option<Vec<u8>> {
        let (nonce, sealed) = all.split_first_chunk::<NONCE_BYTES>()?;
        let payload = Payload {
            msg: sealed,
            aad: place.as_bytes(),
        };
        self.0.decrypt(&XNonce::from(*nonce), payload).ok()
    }
}

impl fmt::Debug for PoolKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PoolKey")
    }
}
