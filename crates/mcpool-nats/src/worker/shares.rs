//! How the servers of a worker are shared.

use std::collections::HashMap;

use mcpool_core::{Requester as _, ServerName};
use mcpool_manager::ServerHandle;

use crate::identity::Sharing;

/// What was set, over what the spec of a server says, which may change while the worker runs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shares(HashMap<ServerName, Sharing>);

impl Shares {
    pub(super) fn set(&mut self, server: ServerName, sharing: Sharing) {
        self.0.insert(server, sharing);
    }

    /// How a server is shared now.
    pub(crate) fn of(&self, server: &ServerHandle) -> Sharing {
        if let Some(set) = self.0.get(server.server()) {
            return *set;
        }
        match server.spec() {
            Ok(spec) if spec.sharing == mcpool_core::Sharing::Client => Sharing::Each,
            _ => Sharing::Many,
        }
    }
}
