//! Who the client says it is.

use serde::Serialize;

/// Who the client says it is, to every server (`clientInfo`).
///
/// ```
/// use mcpool_client::{ClientInfo, StandardFactory};
///
/// let info = ClientInfo::new("agent", "1.2.0").with_title("The agent");
/// let factory = StandardFactory::new().with_client_info(info);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ClientInfo {
    /// The name of the program.
    pub name: String,
    /// Its version.
    pub version: String,
    /// A name for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Where more is said of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub website_url: Option<String>,
}

impl ClientInfo {
    /// A program and its version.
    #[must_use]
    pub fn new(name: impl Into<String>, version: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            version: version.into(),
            title: None,
            website_url: None,
        }
    }

    /// Sets a name for people.
    #[must_use]
    pub fn with_title(mut self, title: impl Into<String>) -> Self {
        self.title = Some(title.into());
        self
    }

    /// Sets where more is said of it.
    #[must_use]
    pub fn with_website_url(mut self, url: impl Into<String>) -> Self {
        self.website_url = Some(url.into());
        self
    }
}

impl Default for ClientInfo {
    /// `mcpool` and its version.
    fn default() -> Self {
        Self::new("mcpool", env!("CARGO_PKG_VERSION"))
    }
}
