use std::{borrow::Borrow, fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{Error, ErrorKind, is_unshowable};

/// The name under which an application knows one server.
///
/// A name is not empty, has at most [`ServerName::MAX_LEN`] bytes, no character that
/// [cannot be shown](crate::is_unshowable), and no white space at either end. Cloning it is one reference count.
///
/// ```
/// use mcpool_core::ServerName;
///
/// let name: ServerName = "github".parse()?;
/// assert_eq!(name.as_str(), "github");
/// assert!(" github".parse::<ServerName>().is_err());
/// # Ok::<(), mcpool_core::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServerName(Arc<str>);

impl ServerName {
    /// The longest name, in bytes.
    pub const MAX_LEN: usize = 128;

    /// Checks and makes a name.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidSpec`] says which rule the name breaks.
    pub fn new(name: impl AsRef<str>) -> Result<Self, Error> {
        let name = name.as_ref();
        let problem = if name.is_empty() {
            Some("is empty".to_owned())
        } else if name.len() > Self::MAX_LEN {
            Some(format!(
                "has {} bytes, at most {} are allowed",
                name.len(),
                Self::MAX_LEN
            ))
        } else if name.chars().any(is_unshowable) {
            Some("contains a control or invisible character".to_owned())
        } else if name.trim() != name {
            Some("begins or ends with white space".to_owned())
        } else {
            None
        };
        match problem {
            None => Ok(Self(name.into())),
            Some(problem) => Err(Error::new(
                ErrorKind::InvalidSpec,
                format!("the server name {name:?} {problem}"),
            )),
        }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl FromStr for ServerName {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self, Error> {
        Self::new(s)
    }
}

impl TryFrom<String> for ServerName {
    type Error = Error;

    fn try_from(s: String) -> Result<Self, Error> {
        Self::new(s)
    }
}

impl TryFrom<&str> for ServerName {
    type Error = Error;

    fn try_from(s: &str) -> Result<Self, Error> {
        Self::new(s)
    }
}

impl From<ServerName> for String {
    fn from(name: ServerName) -> Self {
        name.0.as_ref().to_owned()
    }
}

impl Borrow<str> for ServerName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for ServerName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules() {
        for good in ["a", "my server", "a.b/c", "日本"] {
            assert_eq!(ServerName::new(good).unwrap().as_str(), good);
        }
        for bad in ["", " a", "a ", "a\nb", &"x".repeat(129)] {
            let error = ServerName::new(bad).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidSpec, "{bad:?}");
        }
    }

    #[test]
    fn deserializing_checks() {
        assert!(serde_json::from_str::<ServerName>("\"ok\"").is_ok());
        assert!(serde_json::from_str::<ServerName>("\"\"").is_err());
    }
}
