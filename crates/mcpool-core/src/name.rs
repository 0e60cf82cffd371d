//! The names of servers and of tools in the pool.

mod checked;

use std::{borrow::Borrow, fmt, sync::Arc};

use serde::{Deserialize, Serialize};

/// The name under which an application knows one server.
///
/// A name is not empty, has at most [`ServerName::MAX_LEN`] bytes, no character that
/// [cannot be shown](crate::is_unshowable), and no white space at either end. It stands in paths, so it is
/// neither `.` nor `..`. Cloning it is one reference count.
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
