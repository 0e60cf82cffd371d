//! Sealed text: what is given to a client to bring back, and what nobody else can read, change or
//! make. XChaCha20-Poly1305, as URL-safe base64.
//!
//! Each text has a purpose, which is bound into it: a session token is no request state.
//!
//! `mcpool-nats` seals what a pool stores in its own `sealed.rs`: the two crates share only crates
//! that work without ciphers, and nothing that is sealed.

use std::{fmt, sync::Arc};

use arc_swap::ArcSwap;
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use chacha20poly1305::{
    XChaCha20Poly1305, XNonce,
    aead::{Aead, KeyInit, Payload},
};
use mcpool_core::{Error, ErrorKind, Result};

/// Bytes of a key.
const KEY_BYTES: usize = 32;

/// Bytes of a nonce. It is long enough to be random: XChaCha20-Poly1305 was made for that.
const NONCE_BYTES: usize = 24;

/// The longest sealed text that is looked at.
pub(crate) const MAX_SEALED_BYTES: usize = 64 * 1024;

/// The keys that seal what clients bring back: one that seals and opens, and older ones that still
/// open.
///
/// Replicas that share them accept each other's sessions, and a restart with the same key goes on
/// with the sessions of before. To change the key, give the old one as an older key until every
/// session that it sealed has expired.
///
/// Cloning shares them.
#[derive(Clone)]
pub struct SealingKeys(Arc<ArcSwap<Ciphers>>);

/// The keys as they are now.
#[derive(Clone)]
struct Ciphers {
    current: XChaCha20Poly1305,
    older: Vec<XChaCha20Poly1305>,
}

impl SealingKeys {
    /// A random key, which nobody else has and which ends with the process.
    #[must_use]
    pub fn random() -> Self {
        let key: [u8; KEY_BYTES] = rand::random();
        Self::of(XChaCha20Poly1305::new(&key.into()))
    }

    fn of(current: XChaCha20Poly1305) -> Self {
        let older = Vec::new();
        Self(Arc::new(ArcSwap::from_pointee(Ciphers { current, older })))
    }

    /// A key as text: 32 bytes in base64, URL-safe or not, padded or not, or in hexadecimal digits.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) when it is none; the error holds nothing
    /// of the text.
    pub fn from_text(key: &str) -> Result<Self> {
        Ok(Self::of(cipher(key)?))
    }

    /// Adds a key that still opens, and does not seal any more.
    ///
    /// # Errors
    /// As [`from_text`](Self::from_text).
    pub fn with_older(self, key: &str) -> Result<Self> {
        let mut ciphers = Ciphers::clone(&self.0.load());
        ciphers.older.push(cipher(key)?);
        Ok(Self(Arc::new(ArcSwap::from_pointee(ciphers))))
    }

    /// Takes the keys of `other` in place of its own, in every clone.
    pub fn replace(&self, other: &Self) {
        self.0.store(other.0.load_full());
    }

    /// Seals bytes for a purpose.
    pub(crate) fn seal(&self, purpose: &str, bytes: &[u8]) -> Result<String> {
        let nonce: [u8; NONCE_BYTES] = rand::random();
        let payload = Payload {
            msg: bytes,
            aad: purpose.as_bytes(),
        };
        let sealed = self
            .0
            .load()
            .current
            .encrypt(&XNonce::from(nonce), payload)
            .map_err(|_| Error::new(ErrorKind::Internal, "what is to be sealed is too long"))?;
        let mut all = nonce.to_vec();
        all.extend(sealed);
        Ok(BASE64_URL_SAFE_NO_PAD.encode(all))
    }

    /// Opens what was sealed for this purpose with one of the keys; `None` for anything else.
    pub(crate) fn open(&self, purpose: &str, text: &str) -> Option<Vec<u8>> {
        if text.len() > MAX_SEALED_BYTES {
            return None;
        }
        let all = BASE64_URL_SAFE_NO_PAD.decode(text).ok()?;
        let (nonce, sealed) = all.split_first_chunk::<NONCE_BYTES>()?;
        let nonce = XNonce::from(*nonce);
        let ciphers = self.0.load();
        std::iter::once(&ciphers.current)
            .chain(&ciphers.older)
            .find_map(|key| {
                let payload = Payload {
                    msg: sealed,
                    aad: purpose.as_bytes(),
                };
                key.decrypt(&nonce, payload).ok()
            })
    }
}

fn cipher(text: &str) -> Result<XChaCha20Poly1305> {
    let text = text.trim();
    let bytes = match text.len() {
        64 => hexadecimal(text),
        _ => {
            let plain: String = text
                .trim_end_matches('=')
                .chars()
                .map(|c| match c {
                    '+' => '-',
                    '/' => '_',
                    c => c,
                })
                .collect();
            BASE64_URL_SAFE_NO_PAD.decode(plain).ok()
        }
    };
    let key = bytes.and_then(|bytes| <[u8; KEY_BYTES]>::try_from(bytes).ok());
    key.map(|key| XChaCha20Poly1305::new(&key.into()))
        .ok_or_else(|| {
            Error::new(
                ErrorKind::InvalidArgument,
                "a sealing key is 32 bytes in base64, or 64 hexadecimal digits",
            )
        })
}

fn hexadecimal(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text
        .chars()
        .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect::<Option<_>>()?;
    Some(
        digits
            .chunks(2)
            .map(|pair| pair.iter().fold(0, |byte, digit| byte * 16 + digit))
            .collect(),
    )
}

impl fmt::Debug for SealingKeys {
    /// How many older keys there are, and nothing of any.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealingKeys")
            .field("older", &self.0.load().older.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_for_its_purpose_alone_and_unchanged_alone() {
        let keys = SealingKeys::random();
        let sealed = keys.seal("session", b"text").unwrap();
        assert!(sealed.bytes().all(|byte| byte.is_ascii_graphic()));
        assert_eq!(keys.open("session", &sealed).as_deref(), Some(&b"text"[..]));
        assert_ne!(sealed, keys.seal("session", b"text").unwrap());
        assert!(keys.open("state", &sealed).is_none());
        assert!(SealingKeys::random().open("session", &sealed).is_none());
        for at in 0..sealed.len() {
            let mut changed = sealed.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert!(keys.open("session", &changed).is_none(), "byte {at}");
        }
        for bad in ["", "A", "ü", &"A".repeat(MAX_SEALED_BYTES + 1)] {
            assert!(keys.open("session", bad).is_none());
        }
    }

    #[test]
    fn an_older_key_opens_and_does_not_seal() {
        let (old, new) = ("00".repeat(32), "11".repeat(32));
        let before = SealingKeys::from_text(&old).unwrap();
        let after = SealingKeys::from_text(&new)
            .unwrap()
            .with_older(&old)
            .unwrap();
        let sealed = before.seal("session", b"text").unwrap();
        assert!(after.open("session", &sealed).is_some());
        let sealed = after.seal("session", b"text").unwrap();
        assert!(before.open("session", &sealed).is_none());
    }

    #[test]
    fn replaced_keys_are_replaced_everywhere() {
        let (old, new) = ("00".repeat(32), "11".repeat(32));
        let keys = SealingKeys::from_text(&old).unwrap();
        let shared = keys.clone();
        let before = shared.seal("p", b"x").unwrap();
        let next = SealingKeys::from_text(&new)
            .unwrap()
            .with_older(&old)
            .unwrap();
        keys.replace(&next);
        assert!(shared.open("p", &before).is_some());
        let after = shared.seal("p", b"x").unwrap();
        assert!(
            SealingKeys::from_text(&new)
                .unwrap()
                .open("p", &after)
                .is_some()
        );
    }

    #[test]
    fn keys_are_read_in_the_usual_writings() {
        let bytes = [0xfb_u8; 32];
        let sealed = |text: &str| {
            SealingKeys::from_text(text)
                .unwrap()
                .seal("p", b"x")
                .unwrap()
        };
        let plain = SealingKeys::from_text(&BASE64_URL_SAFE_NO_PAD.encode(bytes)).unwrap();
        for text in [
            "fb".repeat(32),
            "FB".repeat(32),
            format!("{}\n", base64::prelude::BASE64_STANDARD.encode(bytes)),
        ] {
            assert!(plain.open("p", &sealed(&text)).is_some(), "{text}");
        }
        for bad in ["", "abc", &"zz".repeat(32), &"00".repeat(31)] {
            let error = SealingKeys::from_text(bad).unwrap_err();
            assert!(bad.is_empty() || !error.to_string().contains(bad));
        }
    }
}
