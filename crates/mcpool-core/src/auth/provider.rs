//! Which credentials a server gets.

use std::{fmt, sync::Arc};

use async_trait::async_trait;

use super::Authenticator;
use crate::{Result, ServerSpec};

/// Knows which server has which [`Authenticator`]. The client factory asks it at each connect.
#[async_trait]
pub trait AuthenticatorProvider: Send + Sync {
    /// What authorizes the HTTP requests to this server; `None` when nothing does.
    ///
    /// The spec is resolved: no `${…}` is left in it. Not asked for stdio servers.
    ///
    /// # Errors
    /// When the stored credentials cannot be read.
    async fn authenticator(&self, spec: &ServerSpec) -> Result<Option<Arc<dyn Authenticator>>>;

    /// Waits until there are other credentials for this server than those that it last refused, or
    /// until it is worth trying again:
    /// see [`ClientFactory::credentials_changed`](crate::ClientFactory::credentials_changed).
    ///
    /// The spec is resolved. The default waits for ever.
    async fn credentials_changed(&self, _spec: &ServerSpec) {
        std::future::pending().await
    }
}

impl fmt::Debug for dyn AuthenticatorProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuthenticatorProvider")
    }
}
