//! The tasks of the application that run, by name.

use std::{collections::BTreeMap, sync::Mutex};

use tokio_util::sync::CancellationToken;

/// The tasks that run, by name.
#[derive(Default)]
pub(crate) struct Registry(pub(super) Mutex<BTreeMap<String, Entry>>);

#[derive(Clone)]
pub(super) struct Entry {
    pub(super) cancel: CancellationToken,
    pub(super) ended: CancellationToken,
}
