//! Tool search as clients see it: the list in place of the catalog, and calls through it.

use mcpool_core::{Raw, Result, RpcError, ServerRequest};
use mcpool_manager::Refresh;

use crate::{
    client::Client,
    fault,
    gateway::Gateway,
    outlet::Outlet,
    scope::Scope,
    tool_search::{self, Step},
};

impl Gateway {
    /// Whether tools are found and called through two others here.
    pub(crate) fn searches(&self, scope: &Scope) -> bool {
        match scope {
            Scope::Pool => self.0.tool_search,
            Scope::Profile(profile) => profile.tool_search().unwrap_or(self.0.tool_search),
            // As if the client were connected to it.
            Scope::Server(_) => false,
        }
    }

    /// Finds tools, or calls one: as if it had been called by its own name.
    pub(crate) async fn searched_call(
        &self,
        request: &ServerRequest,
        client: &Client,
        outlet: &Outlet,
    ) -> std::result::Result<Raw, RpcError> {
        let found = match tool_search::step(request) {
            Step::Find(arguments) => {
                let scope = &client.scope;
                let own = self.own_pools(client);
                let tools = self.0.catalog.tools(scope, Refresh::IfStale, &own).await;
                tool_search::find(
                    arguments.as_ref(),
                    |words| tools.index().rank(words),
                    tools.iter().map(|(name, entry)| (name, &*entry.tool)),
                    |name, tool| tools.entry(name, tool),
                )
            }
            Step::Call(call) => return self.call(&call, client, outlet).await,
            Step::Other => return self.call(request, client, outlet).await,
            Step::Wrong(why) => tool_search::wrong(why),
        };
        found.map_err(|error| fault::rpc(&error))
    }

    /// The result of `tools/list` where tools are searched, and whether every server has its part
    /// in what it says.
    pub(crate) async fn search_list(&self, client: &Client) -> Result<(Raw, bool)> {
        let (scope, own) = (&client.scope, self.own_pools(client));
        let tools = self.0.catalog.tools(scope, Refresh::IfStale, &own).await;
        let servers = self.0.manager.names().into_iter();
        let servers: Vec<_> = servers.filter(|name| scope.covers(name)).collect();
        let list = tool_search::list(&servers, &tools.cost())?;
        Ok((list, tools.is_complete()))
    }
}
