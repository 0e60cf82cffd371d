//! Where the tokens of logins are kept.

use std::sync::Arc;

use mcpool::{
    auth::{FileStore, MemoryStore, OAuth, TokenStore},
    config::{Loaded, Loader, settings::CredentialStore},
};

use crate::{config_files, exit::Failure};

/// Logins, with their tokens where the config says, else where the user's own config says.
pub(crate) fn oauth(loaded: &Loaded) -> Result<OAuth, Failure> {
    let wanted = loaded
        .pool()
        .credentials
        .or_else(of_user)
        .unwrap_or_default();
    let store: Arc<dyn TokenStore> = match (FileStore::in_data_dir(), wanted) {
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

/// What the user's own file says, whichever file the servers come from. What is wrong with it is
/// reported where it is used.
fn of_user() -> Option<CredentialStore> {
    let path = config_files::user_file().filter(|path| path.is_file())?;
    Loader::new()
        .with_user_file(path)
        .load()
        .ok()?
        .pool()
        .credentials
}

#[cfg(feature = "keyring")]
fn keyring(locks: FileStore) -> Result<Arc<dyn TokenStore>, Failure> {
    Ok(Arc::new(mcpool::auth::KeyringStore::new(locks)))
}

#[cfg(not(feature = "keyring"))]
fn keyring(_locks: FileStore) -> Result<Arc<dyn TokenStore>, Failure> {
    Err(Failure::usage(crate::text!(
        "the config keeps tokens in the keyring, and this program was built without it; build it \
         with the feature `keyring`, or remove `credentials` from the config"
    )))
}
