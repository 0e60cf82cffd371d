//! The verbs of [`ConnectionManager`], one by one.
#![allow(
    deprecated,
    reason = "the log level is deprecated by MCP 2026-07-28, spoken by older servers"
)]

use std::{future::Future, sync::Arc, time::Duration};

use mcpool_core::{
    Client, ProbeReport, Result, ServerName, ServerSpec,
    model::{
        CallToolResult, CompleteRequestParams, CompleteResult, GetPromptResult, JsonObject,
        LoggingLevel, Prompt, ReadResourceResult, Resource, ResourceTemplate, Tool,
    },
};
use serde_json::Value;

use super::BlockingManager;
#[cfg(doc)]
use crate::ConnectionManager;
use crate::{
    CallOptions, ConfigDiff, Items, Listing, Refresh, ServerStatus, StartReport, ToolSnapshot,
};

/// The verbs that wait.
impl BlockingManager {
    /// [`ConnectionManager::start`], waited for.
    ///
    /// # Errors
    /// Those of the verb, and those of every verb here: see [`BlockingManager`].
    pub fn start(&self, specs: Vec<ServerSpec>) -> Result<StartReport> {
        self.run(move |m| async move { m.start(specs).await })?
    }

    /// [`ConnectionManager::apply`], waited for.
    ///
    /// # Errors
    /// Those of the verb, and those of every verb here: see [`BlockingManager`].
    pub fn apply(&self, specs: Vec<ServerSpec>) -> Result<ConfigDiff> {
        self.run(move |m| async move { m.apply(specs).await })?
    }

    /// [`ConnectionManager::remove`], waited for.
    ///
    /// # Errors
    /// Those of the verb, and those of every verb here: see [`BlockingManager`].
    pub fn remove(&self, name: &str) -> Result<()> {
        let name = name.to_owned();
        self.run(move |m| async move { m.remove(&name).await })?
    }

    /// [`ConnectionManager::connect`], waited for.
    ///
    /// # Errors
    /// Those of the verb, and those of every verb here: see [`BlockingManager`].
    pub fn connect(&self, name: &str) -> Result<()> {
        let name = name.to_owned();
        self.run(move |m| async move { m.connect(&name).await })?
    }

    /// [`ConnectionManager::connect_with`], waited for.
    ///
    /// # Errors
    /// Those of the verb, and those of every verb here: see [`BlockingManager`].
    pub fn connect_with(&self, name: &str, max_retries: u32) -> Result<()> {
        let name = name.to_owned();
        self.run(move |m| async move { m.connect_with(&name, max_retries).await })?
    }

    /// [`ConnectionManager::connect_all`], waited for.
    ///
    /// # Errors
    /// Those of every verb here: see [`BlockingManager`].
    pub fn connect_all(&self) -> Result<Vec<(ServerName, Result<()>)>> {
        self.run(move |m| async move { m.connect_all().await })
    }

    /// [`ConnectionManager::disconnect`], waited for.
    ///
    /// # Errors
    /// Those of the verb, and those of every verb here: see [`BlockingManager`].
    pub fn disconnect(&self, name: &str) -> Result<()> {
        let name = name.to_owned();
        self.run(move |m| async move { m.disconnect(&name).await })?
    }

    /// [`ConnectionManager::disconnect_all`], waited for.
    ///
    /// # Errors
    /// Those of every verb here: see [`BlockingManager`].
    pub fn disconnect_all(&self) -> Result<()> {
        self.run(move |m| async move { m.disconnect_all().await })
    }

    /// [`ConnectionManager::enable`], waited for.
    ///
    /// # Errors
    /// Those of the verb, and those of every verb here: see [`BlockingManager`].
    pub fn enable(&self, name: &str) -> Result<()> {
        let name = name.to_owned();
        self.run(move |m| async move { m.enable(&name).await })?
    }

    /// [`ConnectionManager::disable`], waited for.
    ///
    /// # Errors
    /// Those of the verb, and those of every verb here: see [`BlockingManager`].
    pub fn disable(&self, name: &str) -> Result<()> {
        let name = name.to_owned();
        self.run(move |m| async move { m.disable(&name).await })?
    }

    /// [`ConnectionManager::ready_client`], waited for.
    ///
    /// # Errors
    /// Those of the verb, and those of every verb here: see [`BlockingManager`].
    pub fn ready_client(&self, name: &str, within: Duration) -> Result<Arc<dyn Client>> {
        let name = name.to_owned();
        self.run(move |m| async move { m.ready_client(&name, within).await })?
    }

    /// [`ConnectionManager::isolated`], waited for.
    ///
    /// # Errors
    /// Those of the verb, and those of every verb here: see [`BlockingManager`].
    pub fn isolated(&self, name: &str) -> Result<Arc<dyn Client>> {
        let name = name.to_owned();
        self.run(move |m| async move { m.isolated(&name).await })?
    }

    /// [`ConnectionManager::call_tool`], waited for.
    ///
    /// # Errors
    /// Those of the verb, and those of every verb here: see [`BlockingManager`].
    pub fn call_tool(
        &self,
        server: &str,
        tool: &str,
        arguments: Option<JsonObject>,
        options: &CallOptions,
    ) -> Result<CallToolResult> {
        let server = server.to_owned();
        let tool = tool.to_owned();
        let options = options.clone();
        self.run(move |m| async move { m.call_tool(&server, &tool, arguments, &options).await })?
    }

    /// [`ConnectionManager::call`], waited for.
    ///
    /// # Errors
    /// Those of the verb, and those of every verb here: see [`BlockingManager`].
    pub fn call(
        &self,
        qualified_name: &str,
        arguments: Option<JsonObject>,
        options: &CallOptions,
    ) -> Result<CallToolResult> {
        let qualified_name = qualified_name.to_owned();
        let options = options.clone();
        self.run(move |m| async move { m.call(&qualified_name, arguments, &options).await })?
    }

    /// [`ConnectionManager::read_resource`], waited for.
    ///
    /// # Errors
    /// Those of the verb, and those of every verb here: see [`BlockingManager`].
    pub fn read_resource(
        &self,
        server: &str,
        uri: &str,
        options: &CallOptions,
    ) -> Result<ReadResourceResult> {
        let server = server.to_owned();
        let uri = uri.to_owned();
        let options = options.clone();
        self.run(move |m| async move { m.read_resource(&server, &uri, &options).await })?
    }

    /// [`ConnectionManager::get_prompt`], waited for.
    ///
    /// # Errors
    /// Those of the verb, and those of every verb here: see [`BlockingManager`].
    pub fn get_prompt(
        &self,
        server: &str,
        prompt: &str,
        arguments: Option<JsonObject>,
        options: &CallOptions,
    ) -> Result<GetPromptResult> {
        let server = server.to_owned();
        let prompt = prompt.to_owned();
        let options = options.clone();
        self.run(move |m| async move { m.get_prompt(&server, &prompt, arguments, &options).await })?
    }

    /// [`ConnectionManager::complete`], waited for.
    ///
    /// # Errors
    /// Those of the verb, and those of every verb here: see [`BlockingManager`].
    pub fn complete(
        &self,
        server: &str,
        params: CompleteRequestParams,
        options: &CallOptions,
    ) -> Result<CompleteResult> {
        let server = server.to_owned();
        let options = options.clone();
        self.run(move |m| async move { m.complete(&server, params, &options).await })?
    }

    /// [`ConnectionManager::request`], waited for.
    ///
    /// # Errors
    /// Those of the verb, and those of every verb here: see [`BlockingManager`].
    pub fn request(
        &self,
        server: &str,
        method: &str,
        params: Option<Value>,
        options: &CallOptions,
    ) -> Result<Value> {
        let server = server.to_owned();
        let method = method.to_owned();
        let options = options.clone();
        self.run(move |m| async move { m.request(&server, &method, params, &options).await })?
    }

    /// [`ConnectionManager::subscribe`], waited for.
    ///
    /// # Errors
    /// Those of the verb, and those of every verb here: see [`BlockingManager`].
    pub fn subscribe(&self, server: &str, uri: &str, options: &CallOptions) -> Result<()> {
        let server = server.to_owned();
        let uri = uri.to_owned();
        let options = options.clone();
        self.run(move |m| async move { m.subscribe(&server, &uri, &options).await })?
    }

    /// [`ConnectionManager::unsubscribe`], waited for.
    ///
    /// # Errors
    /// Those of the verb, and those of every verb here: see [`BlockingManager`].
    pub fn unsubscribe(&self, server: &str, uri: &str, options: &CallOptions) -> Result<()> {
        let server = server.to_owned();
        let uri = uri.to_owned();
        let options = options.clone();
        self.run(move |m| async move { m.unsubscribe(&server, &uri, &options).await })?
    }

    /// [`ConnectionManager::set_log_level`], waited for.
    ///
    /// # Errors
    /// Those of the verb, and those of every verb here: see [`BlockingManager`].
    pub fn set_log_level(
        &self,
        server: &str,
        level: LoggingLevel,
        options: &CallOptions,
    ) -> Result<()> {
        let server = server.to_owned();
        let options = options.clone();
        self.run(move |m| async move { m.set_log_level(&server, level, &options).await })?
    }

    /// [`ConnectionManager::tools`], waited for.
    ///
    /// # Errors
    /// Those of every verb here: see [`BlockingManager`].
    pub fn tools(&self, refresh: Refresh) -> Result<Arc<ToolSnapshot>> {
        self.run(move |m| async move { m.tools(refresh).await })
    }

    /// [`ConnectionManager::server_tools`], waited for.
    ///
    /// # Errors
    /// Those of the verb, and those of every verb here: see [`BlockingManager`].
    pub fn server_tools(&self, name: &str, refresh: Refresh) -> Result<Arc<Listing<Tool>>> {
        let name = name.to_owned();
        self.run(move |m| async move { m.server_tools(&name, refresh).await })?
    }

    /// [`ConnectionManager::prompts`], waited for.
    ///
    /// # Errors
    /// Those of every verb here: see [`BlockingManager`].
    pub fn prompts(&self, refresh: Refresh) -> Result<Items<Prompt>> {
        self.run(move |m| async move { m.prompts(refresh).await })
    }

    /// [`ConnectionManager::resources`], waited for.
    ///
    /// # Errors
    /// Those of every verb here: see [`BlockingManager`].
    pub fn resources(&self, refresh: Refresh) -> Result<Items<Resource>> {
        self.run(move |m| async move { m.resources(refresh).await })
    }

    /// [`ConnectionManager::resource_templates`], waited for.
    ///
    /// # Errors
    /// Those of every verb here: see [`BlockingManager`].
    pub fn resource_templates(&self, refresh: Refresh) -> Result<Items<ResourceTemplate>> {
        self.run(move |m| async move { m.resource_templates(refresh).await })
    }

    /// [`ConnectionManager::health_check`], waited for.
    ///
    /// # Errors
    /// Those of the verb, and those of every verb here: see [`BlockingManager`].
    pub fn health_check(&self, name: &str) -> Result<ProbeReport> {
        let name = name.to_owned();
        self.run(move |m| async move { m.health_check(&name).await })?
    }

    /// [`ConnectionManager::health_check_all`], waited for.
    ///
    /// # Errors
    /// Those of every verb here: see [`BlockingManager`].
    pub fn health_check_all(&self) -> Result<Vec<(ServerName, Result<ProbeReport>)>> {
        self.run(move |m| async move { m.health_check_all().await })
    }

    /// [`ConnectionManager::cancel_all_tasks`], waited for.
    ///
    /// # Errors
    /// Those of every verb here: see [`BlockingManager`].
    pub fn cancel_all_tasks(&self) -> Result<usize> {
        self.run(move |m| async move { m.cancel_all_tasks().await })
    }
}

/// The verbs that do not wait.
impl BlockingManager {
    /// [`ConnectionManager::plan`].
    ///
    /// # Errors
    /// Those of the verb.
    pub fn plan(&self, specs: &[ServerSpec]) -> Result<ConfigDiff> {
        self.manager.plan(specs)
    }

    /// [`ConnectionManager::add`].
    ///
    /// # Errors
    /// Those of the verb.
    pub fn add(&self, spec: ServerSpec) -> Result<()> {
        self.manager.add(spec)
    }

    /// [`ConnectionManager::report_connection_lost`].
    ///
    /// # Errors
    /// Those of the verb.
    pub fn report_connection_lost(&self, name: &str) -> Result<()> {
        self.manager.report_connection_lost(name)
    }

    /// [`ConnectionManager::is_reconnecting`].
    ///
    /// # Errors
    /// Those of the verb.
    pub fn is_reconnecting(&self, name: &str) -> Result<bool> {
        self.manager.is_reconnecting(name)
    }

    /// [`ConnectionManager::client`].
    ///
    /// # Errors
    /// Those of the verb.
    pub fn client(&self, name: &str) -> Result<Arc<dyn Client>> {
        self.manager.client(name)
    }

    /// [`ConnectionManager::names`].
    #[must_use]
    pub fn names(&self) -> Vec<ServerName> {
        self.manager.names()
    }

    /// [`ConnectionManager::spec`].
    ///
    /// # Errors
    /// Those of the verb.
    pub fn spec(&self, name: &str) -> Result<Arc<ServerSpec>> {
        self.manager.spec(name)
    }

    /// [`ConnectionManager::invalidate`].
    ///
    /// # Errors
    /// Those of the verb.
    pub fn invalidate(&self, name: &str) -> Result<()> {
        self.manager.invalidate(name)
    }

    /// [`ConnectionManager::status`].
    ///
    /// # Errors
    /// Those of the verb.
    pub fn status(&self, name: &str) -> Result<ServerStatus> {
        self.manager.status(name)
    }

    /// [`ConnectionManager::status_all`].
    #[must_use]
    pub fn status_all(&self) -> Vec<ServerStatus> {
        self.manager.status_all()
    }

    /// [`ConnectionManager::task_names`].
    #[must_use]
    pub fn task_names(&self) -> Vec<String> {
        self.manager.task_names()
    }

    /// [`ConnectionManager::is_shut_down`].
    #[must_use]
    pub fn is_shut_down(&self) -> bool {
        self.manager.is_shut_down()
    }

    /// [`ConnectionManager::spawn_task`], on the manager's own runtime.
    ///
    /// # Errors
    /// Those of the verb.
    pub fn spawn_task(
        &self,
        name: impl Into<String>,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> Result<()> {
        self.manager.spawn_task(name, task)
    }
}
