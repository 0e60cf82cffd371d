//! Which servers a command is about, by the words that name them.

use std::sync::atomic::Ordering;

use mcpool::{
    ConnectionManager, ReconnectPolicy, Refresh, ServerHandle, ServerName, ServerSpec, StartMode,
    config::Problem,
};

use super::App;
use crate::{
    arguments::Given,
    config_files,
    exit::{Failure, unknown},
    invocation::program,
    named::{self, Named},
    render::text::Text,
    targets::{Target, TargetFlags, is_url},
    text,
};

/// A tool that the command line names.
pub(crate) struct Found {
    /// Its server, connected.
    pub(crate) server: ServerHandle,
    /// Its name, as the server has it.
    pub(crate) tool: String,
    /// What was written for its arguments.
    pub(crate) given: Given,
    /// Another server, connected, where one was wanted.
    pub(crate) beside: Option<ServerHandle>,
}

impl App {
    /// The manager with the servers of the config, or with one of them, none connected yet. A
    /// server that cannot be connected is not tried again: the command wants to know how it is.
    pub(crate) async fn configured(
        &self,
        only: Option<&str>,
    ) -> Result<&ConnectionManager, Failure> {
        let mut specs = self.select(only).await?;
        for spec in &mut specs {
            spec.policy.reconnect = ReconnectPolicy::never();
        }
        self.managed(specs).await
    }

    /// The servers of the config, or one of them; connected when the command says so.
    pub(crate) async fn select(&self, only: Option<&str>) -> Result<Vec<ServerSpec>, Failure> {
        let specs = self.load_for(only).await?;
        self.narrowed(specs, only)
    }

    /// As [`load`](Self::load), for a command that names this server.
    async fn load_for(&self, name: Option<&str>) -> Result<Vec<ServerSpec>, Failure> {
        let loaded = self.load().await;
        loaded.map_err(|failure| failure.with_hints(name.and_then(half_a_target)))
    }

    /// One server of them, or all; connected when the command says so. Says what is wrong with
    /// what the config has of them.
    fn narrowed(
        &self,
        mut specs: Vec<ServerSpec>,
        only: Option<&str>,
    ) -> Result<Vec<ServerSpec>, Failure> {
        if let Some(name) = only {
            if !specs.iter().any(|spec| spec.name.as_str() == name) {
                return Err(self.unknown_server(name, &specs));
            }
            specs.retain(|spec| spec.name.as_str() == name);
        }
        let is_broken = config_files::report(&self.global, self.problems(), only);
        self.config_broken.store(is_broken, Ordering::Relaxed);
        for spec in &mut specs {
            spec.start = StartMode::Lazy(None);
        }
        Ok(specs)
    }

    /// The one server that these words name, alone or with one of its tools.
    async fn select_named(
        &self,
        first: &str,
        second: Option<&str>,
    ) -> Result<(Vec<ServerSpec>, Named), Failure> {
        let specs = self.load_for(Some(first)).await?;
        let names: Vec<ServerName> = specs.iter().map(|spec| spec.name.clone()).collect();
        let named = named::read(first, second, &names);
        if !names.iter().any(|name| name.as_str() == named.server) {
            if let Some(meant) = named::meant(first, second, &names) {
                let failure = Failure::usage(text!("there is no server `{}`", first));
                return Err(failure.with_hint(meant));
            }
            // A tool alone, with arguments perhaps.
            let is_alone = second.is_none_or(|second| second.contains('='));
            let failure = self.unknown_server(first, &specs);
            return Err(match is_alone && half_a_target(first).is_none() {
                true => failure.with_hint(text!(
                    "a tool is named with its server, as SERVER.TOOL; `{} tools` lists them",
                    program()
                )),
                false => failure,
            });
        }
        Ok((self.narrowed(specs, Some(&named.server))?, named))
    }

    /// As [`configured`](Self::configured), for the one server that these words name, alone or
    /// with one of its tools.
    pub(crate) async fn configured_named(
        &self,
        first: &str,
        second: Option<&str>,
    ) -> Result<(&ConnectionManager, Named), Failure> {
        let (mut specs, named) = self.select_named(first, second).await?;
        for spec in &mut specs {
            spec.policy.reconnect = ReconnectPolicy::never();
        }
        Ok((self.managed(specs).await?, named))
    }

    /// The server that these words name, connected, and its tool, by the server's own name for it.
    /// Where the first word names both, the second is the first argument. The arguments, as
    /// [`Given::read`] has them, are read before anything is connected.
    pub(crate) async fn connected_tool(
        &self,
        first: &str,
        second: Option<String>,
        mut pairs: Vec<String>,
        args: Option<String>,
        beside: Option<&str>,
    ) -> Result<Found, Failure> {
        let (mut specs, named) = self.select_named(first, second.as_deref()).await?;
        if named.in_one_word {
            pairs.splice(..0, second);
        }
        let tool = named.tool.ok_or_else(|| {
            Failure::usage(text!("which tool of {}?", named.server)).with_hint(text!(
                "`{} tools {}` lists them",
                program(),
                named.server
            ))
        })?;
        let given = Given::read(pairs, args).await?;
        let mut other = None;
        if let Some(beside) = beside {
            let spec = self.beside(beside, &named.server).await?;
            other = Some(spec.name.clone());
            if spec.name.as_str() != named.server {
                specs.push(spec);
            }
        }
        let manager = self.connect_each(specs).await?;
        let server = manager.server(&named.server)?;
        // A qualified name says its tool only beside the list.
        let listed = server.tools(Refresh::IfStale).await.ok();
        let own = listed.and_then(|listed| {
            let mut names = listed.items.iter().map(|known| &known.name);
            let own = names.find(|own| named::is_named(&tool, &named.server, own));
            own.map(ToString::to_string)
        });
        Ok(Found {
            server,
            tool: own.unwrap_or(tool),
            given,
            beside: other
                .map(|name| manager.server(name.as_str()))
                .transpose()?,
        })
    }

    /// The server that stands beside this one: one of the config, or the one at a URL.
    async fn beside(&self, word: &str, first: &str) -> Result<ServerSpec, Failure> {
        let loaded = match is_url(word) {
            true => {
                let mut target = Target::of_url(&TargetFlags::default(), word)?;
                // Two paths of one host have one name.
                target.distinguish_from(first);
                config_files::load_target(&target).await?
            }
            false => config_files::load(&self.global).await?,
        };
        let wanted = match is_url(word) {
            true => loaded.servers.first(),
            false => loaded
                .servers
                .iter()
                .find(|spec| spec.name.as_str() == word),
        };
        let mut spec = wanted
            .cloned()
            .ok_or_else(|| self.unknown_server(word, &loaded.servers))?;
        spec.start = StartMode::Lazy(None);
        Ok(spec)
    }

    /// Why a server cannot be used that is not among those of the config.
    pub(crate) fn unknown_server(&self, name: &str, known: &[ServerSpec]) -> Failure {
        let problems = self.problems();
        let is_of_it =
            |problem: &Problem| problem.is_error() && problem.server.as_deref() == Some(name);
        if problems.iter().any(is_of_it) {
            config_files::report(&self.global, problems, Some(name));
            return Failure::usage(text!(
                "the server {} cannot be used before its entry in the config is corrected",
                name
            ));
        }
        let known: Vec<&str> = known.iter().map(|spec| spec.name.as_str()).collect();
        unknown("server", name, &known).with_hints(half_a_target(name))
    }
}

/// What to write where the name of a server looks like an address or a path.
fn half_a_target(name: &str) -> Option<Text> {
    name.contains(['/', ':'])
        .then(|| text!("write a URL in full (https://…), and a command after --stdio"))
}
