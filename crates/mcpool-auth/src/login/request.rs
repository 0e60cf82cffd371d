//! What a login is asked for with.

use mcpool_core::OAuthSpec;

use crate::grant::{Grant, GrantKey};

/// Whose login it is, and what for.
pub(crate) struct LoginRequest<'a> {
    pub(crate) spec: &'a OAuthSpec,
    pub(crate) identity: &'a ClientIdentity,
    pub(crate) key: &'a GrantKey,
    /// The grant that there was, whose registration may be used again.
    pub(crate) earlier: Option<&'a Grant>,
    pub(crate) scopes: Vec<String>,
    pub(crate) redirect_uri: &'a str,
}

/// What this client is called, and where its metadata document is, unless the spec says.
#[derive(Debug, Clone)]
pub(crate) struct ClientIdentity {
    pub(crate) name: String,
    pub(crate) metadata_url: Option<String>,
}
