//! The verbs of the observation: status and events.

use crate::{
    manager::ConnectionManager,
    observe::{
        events::EventStream,
        status::{self, ServerStatus},
    },
};

impl ConnectionManager {
    /// What is known of every server now, by name.
    #[must_use]
    pub fn status_all(&self) -> Vec<ServerStatus> {
        self.shared
            .all()
            .iter()
            .map(|server| status::of(server, self.shared.view.count(&server.name)))
            .collect()
    }

    /// What happens from now on.
    #[must_use]
    pub fn events(&self) -> EventStream {
        self.shared.events.subscribe()
    }
}
