//! The names of a pool: pools, workers and gateways, epochs.

use std::{fmt, str::FromStr, sync::Arc};

use mcpool_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

/// The longest name of a pool, a worker or a gateway, in bytes.
const MAX_NAME: usize = 64;

/// The name of a pool: 1 to 64 of `A-Z a-z 0-9 _ -`. It is a token of every subject.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PoolName(Arc<str>);

/// The name of a worker or of a gateway, unique in its pool: 1 to 64 of `A-Z a-z 0-9 _ -`.
///
/// A worker's is the name of its instances as well: it has at most one of each server.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Identity(Arc<str>);

fn checked(what: &str, name: &str) -> Result<Arc<str>> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(plain) {
        return Ok(name.into());
    }
    Err(Error::new(
        ErrorKind::InvalidArgument,
        format!("the name of a {what} has 1 to {MAX_NAME} of `A-Z a-z 0-9 _ -`, not {name:?}"),
    ))
}

impl Identity {
    /// A name that nobody else has: 128 random bits.
    #[must_use]
    pub fn random() -> Self {
        Self(random_token().into())
    }
}

/// 128 random bits as a token of a subject.
pub(crate) fn random_token() -> String {
    format!("{:032x}", rand::random::<u128>())
}

macro_rules! name {
    ($name:ident, $what:literal) => {
        impl $name {
            /// Checks and makes a name.
            ///
            /// # Errors
            /// `InvalidArgument` for any other text.
            pub fn new(name: impl AsRef<str>) -> Result<Self> {
                checked($what, name.as_ref()).map(Self)
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(name: &str) -> Result<Self> {
                Self::new(name)
            }
        }

        impl TryFrom<String> for $name {
            type Error = Error;

            fn try_from(name: String) -> Result<Self> {
                Self::new(name)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0.as_ref().to_owned()
            }
        }
    };
}

name!(PoolName, "pool");
name!(Identity, "worker or a gateway");

/// Counts the owners of a server that runs once in a pool: each has a higher one. 0 where there
/// is no lease.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Epoch(u64);

impl Epoch {
    /// The epoch of a server without a lease.
    pub const NONE: Self = Self(0);

    /// The epoch of this number: for a lease in KV its revision.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How a server is shared in its pool.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Sharing {
    /// One instance in the pool, by a lease.
    One,
    /// A process of its own for each session, which ends with it.
    Each,
    /// As many equal instances as workers have it; any serves any session. A word of a
    /// newer minor version, unknown here, is read as this: such a server can be called.
    #[default]
    #[serde(other)]
    Many,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_tokens_of_subjects() {
        for good in ["a", "pool-1", "A_b", &"x".repeat(64)] {
            assert_eq!(PoolName::new(good).unwrap().as_str(), good);
            assert_eq!(Identity::new(good).unwrap().as_str(), good);
        }
        for bad in ["", "a.b", "a b", "*", ">", "ä", "a\n", &"x".repeat(65)] {
            assert!(PoolName::new(bad).is_err(), "{bad:?}");
            assert!(Identity::new(bad).is_err(), "{bad:?}");
        }
        assert!(serde_json::from_str::<PoolName>("\"a.b\"").is_err());
        assert_ne!(Identity::random(), Identity::random());
    }

    #[test]
    fn a_word_for_sharing_is_read_back_and_a_newer_one_is_many() {
        for sharing in [Sharing::One, Sharing::Many, Sharing::Each] {
            let text = serde_json::to_string(&sharing).unwrap();
            assert_eq!(serde_json::from_str::<Sharing>(&text).unwrap(), sharing);
        }
        let newer = serde_json::from_str::<Sharing>("\"some\"").unwrap();
        assert_eq!(newer, Sharing::Many);
    }
}
