//! Names are made of text that is checked.

use std::str::FromStr;

use super::ServerName;
use crate::{Error, ErrorKind, is_unshowable};

impl ServerName {
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
        } else if matches!(name, "." | "..") {
            // `/servers/../mcp` is `/mcp` to every client that reads it as a URL.
            Some("is a step in a path and names nothing there".to_owned())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules() {
        for good in ["a", "my server", "a.b/c", "日本", "..."] {
            assert_eq!(ServerName::new(good).unwrap().as_str(), good);
        }
        for bad in ["", " a", "a ", "a\nb", ".", "..", &"x".repeat(129)] {
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
