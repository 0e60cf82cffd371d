//! The verbs of the lists: tools, prompts, resources and templates of all servers.

use std::sync::Arc;

use futures::future;
use mcpool_core::{
    Error, Listing, Reply, Result, ServerName, ServerState,
    model::{Prompt, Resource, ResourceTemplate, Tool},
};

use crate::{
    catalog::cache::CachedList,
    catalog::fetch::{self, Listed},
    catalog::view::ToolSnapshot,
    manager::ConnectionManager,
    observe::metrics,
    request::options::Refresh,
    server::Server,
};

/// The lists of one server that are known from elsewhere, each where it is:
/// [`ServerHandle::seed`](crate::ServerHandle::seed).
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct KnownLists {
    /// Its tools.
    pub tools: Option<Listing<Tool>>,
    /// Its prompts.
    pub prompts: Option<Listing<Prompt>>,
    /// Its resources.
    pub resources: Option<Listing<Resource>>,
    /// Its resource templates.
    pub templates: Option<Listing<ResourceTemplate>>,
}

/// The items of one kind of all servers.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Items<T> {
    /// The items, by server and in each server's order.
    pub entries: Vec<(ServerName, Reply<T>)>,
    /// The servers whose list is missing, or is not the newest, and why.
    pub problems: Vec<(ServerName, Error)>,
}

impl ConnectionManager {
    /// The tools of all servers under unique names, at one moment.
    ///
    /// Lists that are stale are fetched first, in parallel; a server that fails, or cannot be
    /// reached, is a problem in the snapshot and delays no other. One that is disabled or was
    /// disconnected by a caller has no tools here. A lazy server whose tools nobody has listed yet
    /// is connected for it. Before the first server is added, and after the shutdown
    /// ([`is_shut_down`](ConnectionManager::is_shut_down)), the snapshot is empty.
    ///
    pub async fn tools(&self, refresh: Refresh) -> Arc<ToolSnapshot> {
        let problems = self.refresh::<Tool>(refresh).await.1;
        let snapshot = self.shared.view.snapshot();
        if problems.is_empty() {
            snapshot
        } else {
            Arc::new(snapshot.with_problems(problems))
        }
    }

    /// The prompts of all servers.
    ///
    pub async fn prompts(&self, refresh: Refresh) -> Items<Prompt> {
        self.items(refresh).await
    }

    /// The resources of all servers.
    ///
    pub async fn resources(&self, refresh: Refresh) -> Items<Resource> {
        self.items(refresh).await
    }

    /// The resource templates of all servers.
    ///
    pub async fn resource_templates(&self, refresh: Refresh) -> Items<ResourceTemplate> {
        self.items(refresh).await
    }

    async fn items<T: Listed>(&self, refresh: Refresh) -> Items<T> {
        let (lists, problems) = self.refresh::<T>(refresh).await;
        let entries = lists
            .into_iter()
            .flat_map(|(name, list)| {
                let items: Vec<Reply<T>> = list.items.to_vec();
                items.into_iter().map(move |item| (name.clone(), item))
            })
            .collect();
        Items { entries, problems }
    }

    /// The lists of all servers that take part, and what is wrong with the others.
    async fn refresh<T: Listed>(
        &self,
        refresh: Refresh,
    ) -> (
        Vec<(ServerName, Arc<CachedList<T>>)>,
        Vec<(ServerName, Error)>,
    ) {
        let servers = self.shared.all();
        let fetches = servers
            .iter()
            // Who is switched off, or was sent away, is no problem: it is not there.
            .filter(|s| !s.is_absent())
            .map(|server| async move {
                let result = self.first_list::<T>(server, refresh).await;
                (server, result)
            });
        let mut lists = Vec::new();
        let mut problems = Vec::new();
        for (server, result) in future::join_all(fetches).await {
            match result {
                Ok(list) => {
                    metrics::catalog_age(&server.name, list.age());
                    if let Some(error) = &list.stale {
                        problems.push((server.name.clone(), error.clone()));
                    }
                    if server.shows_tools() {
                        lists.push((server.name.clone(), list));
                    }
                }
                Err(error) => problems.push((server.name.clone(), error)),
            }
        }
        (lists, problems)
    }

    /// The list of one server, without waiting for one that is known to fail at the moment.
    async fn first_list<T: Listed>(
        &self,
        server: &Arc<Server>,
        refresh: Refresh,
    ) -> Result<Arc<CachedList<T>>> {
        if refresh != Refresh::Cached {
            let mut state = server.watch();
            let failing = |state: &ServerState| {
                matches!(state, ServerState::Backoff { .. })
                    || matches!(state, ServerState::Connecting { attempt } if *attempt > 1)
            };
            let is_failing = failing(&state.borrow_and_update());
            if !is_failing {
                tokio::select! {
                    list = fetch::get::<T>(&self.shared, server, refresh) => return list,
                    // The connect failed while we waited: the others must not wait for this.
                    _ = state.wait_for(failing) => {}
                }
            }
            return fetch::last_good::<T>(server, server.not_ready(None));
        }
        fetch::get::<T>(&self.shared, server, refresh).await
    }
}
