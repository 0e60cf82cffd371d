//! The clients that the manager has connected and not yet closed: what a shutdown has to kill when
//! its deadline has passed.

use std::{
    collections::HashMap,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use mcpool_core::Client;

/// All of them.
#[derive(Default)]
pub(crate) struct OpenClients(Mutex<Listed>);

#[derive(Default)]
struct Listed {
    next: u64,
    clients: HashMap<u64, Arc<dyn Client>>,
    /// Whether nobody takes a client off the list any more but who kills it.
    forced: bool,
}

/// One of them. Dropping it takes the client off the list: it was closed, or its supervisor went
/// with its runtime.
pub(crate) struct Open {
    client: Arc<dyn Client>,
    key: u64,
    list: Arc<OpenClients>,
}

impl OpenClients {
    /// Puts a client on the list.
    pub(crate) fn keep(self: &Arc<Self>, client: Arc<dyn Client>) -> Open {
        let mut listed = self.listed();
        let key = listed.next;
        listed.next += 1;
        listed.clients.insert(key, Arc::clone(&client));
        Open {
            client,
            key,
            list: Arc::clone(self),
        }
    }

    /// From now on clients stay on the list until they are [taken](Self::take).
    pub(crate) fn force(&self) {
        self.listed().forced = true;
    }

    /// All that are on the list.
    pub(crate) fn take(&self) -> Vec<Arc<dyn Client>> {
        mem::take(&mut self.listed().clients)
            .into_values()
            .collect()
    }

    fn listed(&self) -> MutexGuard<'_, Listed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    pub(crate) fn client(&self) -> &Arc<dyn Client> {
        &self.client
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut listed = self.list.listed();
        if listed.forced {
            return;
        }
        // Dropped without the lock: a client of somebody else's may do anything then.
        let client = listed.clients.remove(&self.key);
        drop(listed);
        drop(client);
    }
}
