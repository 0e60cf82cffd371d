//! Who may use the gateway over HTTP: keys that clients send as bearer tokens.
//!
//! A key is 32 random bytes, so its SHA-256 is enough to recognise it by and reveals nothing of it.

use std::{collections::HashMap, fmt, sync::Arc, time::SystemTime};

use arc_swap::ArcSwap;
use axum::http::{HeaderMap, header};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use mcpool_core::{Error, ErrorKind, Result, Secret};
use sha2::{Digest as _, Sha256};

use crate::grant::Grant;

/// What a key begins with, so that people and scanners know one when they see it.
const PREFIX: &str = "mcpool_";

type Grants = HashMap<[u8; 32], Grant>;

/// The keys by which clients are known.
///
/// They are written as lines, `NAME sha256:HEX` and then what the key allows: `profile=NAME`,
/// `rate=N`, `in-flight=N`, `max-body=BYTES`, `expires=2026-12-31T00:00:00Z`. Empty lines and those
/// that begin with `#` are skipped. Cloning shares them.
///
/// ```
/// use mcpool_gateway::{AccessKeys, Grant};
///
/// let (key, line) = AccessKeys::issue(&Grant::new("ada")?);
/// let keys = AccessKeys::read(&line)?;
/// assert_eq!(keys.grant(key.expose()).unwrap().name(), "ada");
/// assert_eq!(keys.grant("mcpool_guess"), None);
/// # Ok::<(), mcpool_core::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct AccessKeys(Arc<ArcSwap<Grants>>);

impl AccessKeys {
    /// Makes a key: the key, to be shown once, and the line to be kept.
    #[must_use]
    pub fn issue(grant: &Grant) -> (Secret, String) {
        let bytes: [u8; 32] = rand::random();
        let key = format!("{PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(bytes));
        let digest: String = hash(&key)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let words = grant.to_string();
        let (name, rest) = words.split_once(' ').unwrap_or((&words, ""));
        let line = format!("{name} sha256:{digest} {rest}");
        (Secret::new(key), line.trim_end().to_owned())
    }

    /// Reads lines.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) that says which line is none.
    pub fn read(lines: &str) -> Result<Self> {
        let mut keys = Grants::new();
        for (number, line) in lines.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (digest, grant) = Self::read_line(line).ok_or_else(|| {
                Error::new(
                    ErrorKind::InvalidArgument,
                    format!(
                        "line {} is no `NAME sha256:HEX`, with profile=, rate=, in-flight=, \
                         max-body= or expires= behind it",
                        number + 1
                    ),
                )
            })?;
            keys.insert(digest, grant);
        }
        Ok(Self(Arc::new(ArcSwap::from_pointee(keys))))
    }

    fn read_line(line: &str) -> Option<([u8; 32], Grant)> {
        let mut words = line.split_whitespace();
        let name = words.next()?;
        let digest = digest_of(words.next()?.strip_prefix("sha256:")?)?;
        Some((digest, Grant::read(name, words)?))
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.load().is_empty()
    }

    /// What the keys allow, by name; of one name, what expires first before the rest.
    #[must_use]
    pub fn grants(&self) -> Vec<Grant> {
        let mut grants: Vec<Grant> = self.0.load().values().cloned().collect();
        grants.sort_by(|a, b| {
            let order = |grant: &Grant| (grant.expires().is_none(), grant.expires());
            let names = a.name().cmp(b.name());
            names
                .then_with(|| order(a).cmp(&order(b)))
                .then_with(|| a.profile().cmp(&b.profile()))
        });
        grants
    }

    /// Takes the keys of `other` in place of its own, in every clone. Who has none of them is
    /// refused from the next request on.
    pub fn replace(&self, other: &Self) {
        self.0.store(other.0.load_full());
    }

    /// What a key allows; `None` for one that is unknown, or has expired. What is compared is its
    /// SHA-256, so that the time it takes reveals nothing of any key.
    #[must_use]
    pub fn grant(&self, key: &str) -> Option<Grant> {
        let grant = self.0.load().get(&hash(key)).cloned()?;
        let is_good = grant.expires().is_none_or(|at| at > SystemTime::now());
        is_good.then_some(grant)
    }
}

/// The bearer token of a request (RFC 6750, section 2.1).
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
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
        let grants = self.grants();
        let names = grants.iter().map(Grant::name);
        f.debug_set().entries(names).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_key_is_recognised_and_cannot_be_had_from_what_is_kept() {
        let (key, line) = AccessKeys::issue(&Grant::new("ada").unwrap());
        assert!(!line.contains(key.expose()));
        let other = AccessKeys::issue(&Grant::new("bob").unwrap()).1;
        let keys = AccessKeys::read(&format!("# keys\n\n{line}\n  {other}\n")).unwrap();
        assert_eq!(keys.grant(key.expose()).unwrap().name(), "ada");
        for wrong in ["", "x", &line] {
            assert_eq!(keys.grant(wrong), None, "{wrong}");
        }
        let names: Vec<String> = keys
            .grants()
            .iter()
            .map(|grant| grant.name().to_owned())
            .collect();
        assert_eq!(names, ["ada", "bob"]);
    }

    #[test]
    fn bearer_tokens_are_read() {
        let said = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
            bearer(&headers).map(str::to_owned)
        };
        assert_eq!(said("bEARER  x ").as_deref(), Some("x"));
        for wrong in ["", "Bearer", "Basic YWRhOng="] {
            assert_eq!(said(wrong), None, "{wrong}");
        }
        assert_eq!(bearer(&HeaderMap::new()), None);
    }

    #[test]
    fn what_a_key_allows_is_kept_with_it() {
        let at = humantime::parse_rfc3339("2030-01-02T03:04:05Z").unwrap();
        let grant = Grant::new("ada")
            .unwrap()
            .with_profile("reading")
            .unwrap()
            .with_rate(7)
            .with_in_flight(3)
            .with_max_body_bytes(1_000)
            .with_expiry(at);
        let (key, line) = AccessKeys::issue(&grant);
        assert!(
            line.ends_with(
                " profile=reading rate=7 in-flight=3 max-body=1000 expires=2030-01-02T03:04:05Z"
            ),
            "{line}"
        );
        assert_eq!(
            AccessKeys::read(&line).unwrap().grant(key.expose()),
            Some(grant)
        );
    }

    #[test]
    fn a_key_ends_when_it_expires_or_is_taken_away() {
        let grant = Grant::new("ada").unwrap();
        let past = SystemTime::now() - Duration::from_secs(1);
        let (expired, line) = AccessKeys::issue(&grant.clone().with_expiry(past));
        assert_eq!(
            AccessKeys::read(&line).unwrap().grant(expired.expose()),
            None
        );
        let (key, line) = AccessKeys::issue(&grant);
        let keys = AccessKeys::read(&line).unwrap();
        let shared = keys.clone();
        keys.replace(&AccessKeys::default());
        assert_eq!(shared.grant(key.expose()), None);
    }

    #[test]
    fn lines_that_are_none_are_named() {
        let good = AccessKeys::issue(&Grant::new("ada").unwrap()).1;
        for bad in [
            "ada",
            "ada sha256:00",
            "ada md5:00",
            &format!("ada sha256:{}", "zz".repeat(32)),
            &format!("{good} rate=fast"),
            &format!("{good} expires=tomorrow"),
            &format!("{good} restricted=yes"),
            &format!("{good} profile="),
        ] {
            let error = AccessKeys::read(&format!("# x\n{bad}")).unwrap_err();
            assert!(error.message().contains("line 2"), "{error}");
        }
        for bad in ["", "a b", "#a", "a\n"] {
            assert!(Grant::new(bad).is_err(), "{bad:?}");
        }
    }
}
