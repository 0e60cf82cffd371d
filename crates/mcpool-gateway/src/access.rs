//! Who may use the gateway over HTTP: keys that clients send as bearer tokens.
//!
//! A key is 32 random bytes, so its SHA-256 is enough to recognise it by and tells nothing of it.

use std::{collections::HashMap, fmt, sync::Arc};

use axum::http::{HeaderMap, header};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use mcpool_core::{Error, ErrorKind, Result, Secret};
use sha2::{Digest as _, Sha256};

/// What a key begins with, so that people and scanners know one when they see it.
const PREFIX: &str = "mcpool_";

/// The keys by which clients are known. Without any, whoever reaches the gateway may use it.
///
/// It is written as lines, `NAME sha256:HEX`; empty lines and those that begin with `#` are
/// skipped.
///
/// ```
/// use mcpool_gateway::AccessKeys;
///
/// let (key, line) = AccessKeys::issue("ada")?;
/// let keys = AccessKeys::read(&line)?;
/// assert_eq!(keys.principal(key.expose()).as_deref(), Some("ada"));
/// assert_eq!(keys.principal("mcpool_guess"), None);
/// # Ok::<(), mcpool_core::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct AccessKeys(HashMap<[u8; 32], Arc<str>>);

impl AccessKeys {
    /// Makes a key for a principal: the key, to be shown once, and the line to be kept.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for a name that is empty or holds white
    /// space.
    pub fn issue(name: &str) -> Result<(Secret, String)> {
        check_name(name)?;
        let bytes: [u8; 32] = rand::random();
        let key = format!("{PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(bytes));
        let digest: String = hash(&key)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        Ok((Secret::new(key), format!("{name} sha256:{digest}")))
    }

    /// Reads lines.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) that says which line is none.
    pub fn read(lines: &str) -> Result<Self> {
        let mut keys = HashMap::new();
        for (number, line) in lines.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let parsed = line
                .split_once(char::is_whitespace)
                .and_then(|(name, digest)| {
                    let digits = digest.trim().strip_prefix("sha256:")?;
                    Some((name, digest_of(digits)?))
                });
            let (name, digest) = parsed.ok_or_else(|| {
                Error::new(
                    ErrorKind::InvalidArgument,
                    format!("line {} is no `NAME sha256:HEX`", number + 1),
                )
            })?;
            keys.insert(digest, name.into());
        }
        Ok(Self(keys))
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whose key this is. What is compared is its SHA-256, so that the time it takes tells nothing
    /// of any key.
    #[must_use]
    pub fn principal(&self, key: &str) -> Option<Arc<str>> {
        self.0.get(&hash(key)).map(Arc::clone)
    }

    /// Whose request this is: `Ok(None)` where keys are not asked for.
    ///
    /// # Errors
    /// Nobody's.
    pub(crate) fn of_request(
        &self,
        headers: &HeaderMap,
    ) -> std::result::Result<Option<Arc<str>>, Nobody> {
        if self.is_empty() {
            return Ok(None);
        }
        let value = headers.get(header::AUTHORIZATION).ok_or(Nobody)?;
        let (scheme, key) = value
            .to_str()
            .ok()
            .and_then(|value| value.split_once(' '))
            .ok_or(Nobody)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(Nobody);
        }
        self.principal(key.trim()).map(Some).ok_or(Nobody)
    }
}

/// A request without a key that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Nobody;

fn check_name(name: &str) -> Result<()> {
    let is_plain = |c: char| !c.is_whitespace() && !c.is_control();
    if !name.is_empty() && !name.starts_with('#') && name.chars().all(is_plain) {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::InvalidArgument,
        "the name of a key is one word that does not begin with `#`",
    ))
}

fn hash(key: &str) -> [u8; 32] {
    Sha256::digest(key.as_bytes()).into()
}

fn digest_of(digits: &str) -> Option<[u8; 32]> {
    if digits.len() != 64 || !digits.is_ascii() {
        return None;
    }
    let mut digest = [0; 32];
    for (at, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(digits.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(digest)
}

impl fmt::Debug for AccessKeys {
    /// Whose there are.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.values()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(
        keys: &AccessKeys,
        value: Option<&str>,
    ) -> std::result::Result<Option<Arc<str>>, Nobody> {
        let mut headers = HeaderMap::new();
        if let Some(value) = value {
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
        }
        keys.of_request(&headers)
    }

    #[test]
    fn a_key_is_recognised_and_cannot_be_had_from_what_is_kept() {
        let (key, line) = AccessKeys::issue("ada").unwrap();
        assert!(!line.contains(key.expose()));
        let other = AccessKeys::issue("bob").unwrap().1;
        let keys = AccessKeys::read(&format!("# keys\n\n{line}\n  {other}\n")).unwrap();
        let bearer = format!("bEARER {}", key.expose());
        assert_eq!(asked(&keys, Some(&bearer)), Ok(Some("ada".into())));
        for wrong in ["", "Bearer", "Bearer x", "Basic YWRhOng=", &line] {
            assert_eq!(asked(&keys, Some(wrong)), Err(Nobody), "{wrong}");
        }
        assert_eq!(asked(&keys, None), Err(Nobody));
        assert_eq!(asked(&AccessKeys::default(), None), Ok(None));
    }

    #[test]
    fn lines_that_are_none_are_named() {
        for bad in [
            "ada",
            "ada sha256:00",
            "ada md5:00",
            &format!("ada sha256:{}", "zz".repeat(32)),
        ] {
            let error = AccessKeys::read(&format!("# x\n{bad}")).unwrap_err();
            assert!(error.message().contains("line 2"), "{error}");
        }
        for bad in ["", "a b", "#a", "a\n"] {
            assert!(AccessKeys::issue(bad).is_err(), "{bad:?}");
        }
    }
}
