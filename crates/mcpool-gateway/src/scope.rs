//! Which part of the pool a client is served, and under which names.

use std::{collections::BTreeSet, sync::Arc};

use mcpool_core::{ServerName, ToolFilter};

/// A part of the pool.
///
/// ```
/// use mcpool_core::ServerName;
/// use mcpool_gateway::Profile;
///
/// let files = ServerName::new("files")?;
/// let profile = Profile::new("reading").with_servers([files.clone()]);
/// assert!(profile.covers(&files));
/// # Ok::<(), mcpool_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    name: Arc<str>,
    servers: Option<BTreeSet<ServerName>>,
    tools: ToolFilter,
}

impl Profile {
    /// A profile of this name with every server and every tool.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self {
            name: name.into(),
            servers: None,
            tools: ToolFilter::default(),
        }
    }

    /// Sets which servers are served. Default: all.
    #[must_use]
    pub fn with_servers(mut self, servers: impl IntoIterator<Item = ServerName>) -> Self {
        self.servers = Some(servers.into_iter().collect());
        self
    }

    /// Sets which tools are served, by their names in the pool (`files__read_*`). Default: all.
    #[must_use]
    pub fn with_tools(mut self, tools: ToolFilter) -> Self {
        self.tools = tools;
        self
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether this server is served.
    #[must_use]
    pub fn covers(&self, server: &ServerName) -> bool {
        self.servers
            .as_ref()
            .is_none_or(|servers| servers.contains(server))
    }

    /// Whether the tool of this name in the pool is served.
    #[must_use]
    pub fn permits(&self, qualified_name: &str) -> bool {
        self.tools.permits(qualified_name)
    }
}

/// What a client is served.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Scope {
    /// Every server under the names of the pool (`server__tool`).
    Pool,
    /// A part of the pool, under the names of the pool.
    Profile(Arc<Profile>),
    /// One server under its own names, as if the client were connected to it.
    Server(ServerName),
}

impl Scope {
    /// Whether something of this server may be served.
    #[must_use]
    pub fn covers(&self, server: &ServerName) -> bool {
        match self {
            Self::Pool => true,
            Self::Profile(profile) => profile.covers(server),
            Self::Server(only) => only == server,
        }
    }

    /// Whether a tool is served, by its name in the pool.
    pub(crate) fn permits(&self, qualified_name: &str) -> bool {
        match self {
            Self::Profile(profile) => profile.permits(qualified_name),
            _ => true,
        }
    }

    /// The text that names it in a session token.
    pub(crate) fn key(&self) -> String {
        match self {
            Self::Pool => "pool".to_owned(),
            Self::Profile(profile) => format!("profile {}", profile.name()),
            Self::Server(server) => format!("server {server}"),
        }
    }
}
