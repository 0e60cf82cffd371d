//! Which server a request of a client goes to: the one that all share, or the client's own instance.

use std::sync::Arc;

use mcpool_core::{Requester as _, Result, ServerName};
use mcpool_manager::{CallOptions, ConnectionManager, ServerHandle};

use crate::{
    client::Client,
    gateway::Gateway,
    hub::{MAX_WAIT, Resource, ask_for_level},
    outlet::Outlet,
    own::{Owner, Presence, Way},
    relay::ClientCaller,
};

/// A server as one client reaches it.
pub(crate) struct Reached {
    pub(crate) handle: ServerHandle,
    /// The client, where the instance is its own.
    pub(crate) owner: Option<Owner>,
}

impl Reached {
    /// A resource of it.
    pub(crate) fn resource(&self, uri: &str) -> Resource {
        Resource {
            owner: self.owner.as_ref().map(|owner| Arc::clone(&owner.key)),
            server: self.handle.server().clone(),
            uri: uri.to_owned(),
        }
    }
}

impl Gateway {
    /// A stream of a client begins that stays. On it the client can be asked what belongs to no
    /// request of it.
    pub(crate) fn present_on_stream(
        &self,
        client: Client,
        key: Arc<str>,
        outlet: Outlet,
    ) -> Presence {
        let owner = client.owner();
        let caller = ClientCaller::new(client, Some(key), outlet, None);
        let way = Way::Stream(Arc::new(caller));
        self.0.hub.own().present(&owner, way)
    }

    /// The client's own instances that are connected.
    pub(crate) fn own_pools(&self, client: &Client) -> Vec<(ServerName, ConnectionManager)> {
        let own = self.0.hub.own();
        match own.is_empty() {
            true => Vec::new(),
            false => own.pools(&client.owner().key),
        }
    }

    /// The server of this name, as a client reaches it.
    ///
    /// # Errors
    /// `UnknownServer`, `Closed`; `Overloaded` where clients do not share it and there are too
    /// many instances.
    pub(crate) fn reach(&self, client: &Client, server: &ServerName) -> Result<Reached> {
        let waits = CallOptions::new().with_max_wait(MAX_WAIT);
        let handle = self.0.manager.server(server.as_str())?;
        if !self.0.hub.own().is_for_clients(&handle)? {
            return Ok(Reached {
                handle: handle.with_call_options(waits),
                owner: None,
            });
        }
        let owner = client.owner();
        let instance = self.0.hub.own().of(&owner, &handle)?;
        let level = client
            .listener
            .as_ref()
            .and_then(|listener| listener.level());
        if let Some(level) = level.filter(|_| instance.is_new) {
            ask_for_level(instance.handle.clone(), level);
        }
        Ok(Reached {
            handle: instance.handle.with_call_options(waits),
            owner: Some(owner),
        })
    }
}
