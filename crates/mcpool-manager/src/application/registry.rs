//! The tasks of the application that run, by name.

use std::{collections::BTreeMap, sync::Mutex};

use tokio_util::sync::CancellationToken;

use crate::server::lock;

/// The tasks that run, by name.
#[derive(Default)]
pub(crate) struct Registry(pub(super) Mutex<BTreeMap<String, RegisteredTask>>);

impl Registry {
    /// The names of the tasks that run, in order.
    pub(crate) fn names(&self) -> Vec<String> {
        lock(&self.0).keys().cloned().collect()
    }
}

#[derive(Clone)]
pub(super) struct RegisteredTask {
    pub(super) cancel: CancellationToken,
    pub(super) ended: CancellationToken,
}
