//! Where the tokens of logins are kept.

use std::sync::Arc;

use mcpool::{
    auth::{FileStore, MemoryStore, OAuth, TokenStore},
    config::settings::CredentialStore,
};

use crate::exit::Failure;

/// Logins, with their tokens where the config says.
pub(crate) fn oauth(store: CredentialStore) -> Result<OAuth, Failure> {
    let store: Arc<dyn TokenStore> = match (FileStore::in_data_dir(), store) {
        (Ok(files), CredentialStore::Keyring) => keyring(files)?,
        (Ok(files), _) => Arc::new(files),
        // Without a home there are no logins, and servers that need none work all the same.
        (Err(error), _) => {
            tracing::warn!(%error, "logins are forgotten when the program ends");
            Arc::new(MemoryStore::new())
        }
    };
    Ok(OAuth::new(store))
}

#[cfg(feature = "keyring")]
fn keyring(locks: FileStore) -> Result<Arc<dyn TokenStore>, Failure> {
    Ok(Arc::new(mcpool::auth::KeyringStore::new(locks)))
}

#[cfg(not(feature = "keyring"))]
fn keyring(_locks: FileStore) -> Result<Arc<dyn TokenStore>, Failure> {
    Err(Failure::usage(
        "the config keeps tokens in the keyring, and this program was built without it; build it \
         with the feature `keyring`, or remove `credentials` from the config",
    ))
}
