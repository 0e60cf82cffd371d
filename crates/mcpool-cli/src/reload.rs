//! Follows the config while a command runs: good changes are applied, others are reported.

use std::sync::Arc;

use mcpool::{
    ConnectionManager, Error, ErrorKind, ServerSpec,
    config::{Admission, Loaded, Reload, TrustStore, Watcher},
};

/// Applies every good change of the config, with the command's own wishes, and reports every
/// other. Ends with the watcher.
pub(crate) async fn follow(
    manager: ConnectionManager,
    mut watcher: Watcher,
    adjust: impl Fn(&Loaded, &mut Vec<ServerSpec>),
) {
    while let Some(change) = next(&mut watcher).await {
        let result = match change {
            Ok(loaded) => {
                let mut specs = loaded.servers.clone();
                adjust(&loaded, &mut specs);
                manager.apply(specs).await.map(drop)
            }
            Err(error) => Err(error),
        };
        if let Err(error) = result {
            manager.config_rejected(&error);
        }
    }
}

/// The next change of the config, or why it is not used; `None` when the watcher has ended.
pub(crate) async fn next(watcher: &mut Watcher) -> Option<Result<Loaded, Error>> {
    Some(match watcher.next().await? {
        Reload::Applied(loaded) => admitted(&loaded).await,
        rejected => Err(rejected
            .rejection()
            .unwrap_or_else(|| Error::new(ErrorKind::InvalidSpec, "the config was rejected"))),
    })
}

/// Nobody can be asked in the middle: what a project's file wants again is refused.
async fn admitted(loaded: &Arc<Loaded>) -> Result<Loaded, Error> {
    let loaded = Arc::clone(loaded);
    let admit = move || TrustStore::of_user()?.admit(&loaded);
    let admission = tokio::task::spawn_blocking(admit).await.map_err(|error| {
        Error::new(ErrorKind::Internal, "the config was given up").with_source(error)
    })?;
    match admission? {
        Admission::Granted(loaded) => Ok(*loaded),
        Admission::Asked(requests) => Err(TrustStore::refusal(&requests)),
        _ => Err(TrustStore::refusal(&[])),
    }
}
