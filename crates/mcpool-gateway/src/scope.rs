//! Which part of the pool a client is served, and under which names.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use mcpool_core::{ServerName, ToolFilter};
use tokio::sync::watch;

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
    renamed: BTreeMap<String, String>,
    tool_search: Option<bool>,
}

impl Profile {
    /// A profile of this name with every server and every tool.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self {
            name: name.into(),
            servers: None,
            tools: ToolFilter::default(),
            renamed: BTreeMap::new(),
            tool_search: None,
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

    /// Sets other names for tools, by their names in the pool. A tool that has the new name by
    /// itself is not served then. Default: none.
    #[must_use]
    pub fn with_renamed<A: Into<String>, B: Into<String>>(
        mut self,
        names: impl IntoIterator<Item = (A, B)>,
    ) -> Self {
        let names = names.into_iter().map(|(from, to)| (from.into(), to.into()));
        self.renamed = names.collect();
        self
    }

    /// Sets whether its clients find tools by words, in place of a list of all. Default: as the
    /// gateway has it ([`GatewayBuilder::with_tool_search`](crate::GatewayBuilder::with_tool_search)).
    #[must_use]
    pub fn with_tool_search(mut self, searched: bool) -> Self {
        self.tool_search = Some(searched);
        self
    }

    /// Whether its clients find tools by words; `None` when it is as the gateway has it.
    #[must_use]
    pub fn tool_search(&self) -> Option<bool> {
        self.tool_search
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

    /// What a tool of the pool is called here; `None` when another has its name.
    fn shown<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        match self.renamed.get(name) {
            Some(shown) => Some(shown),
            None if self.renamed.values().any(|taken| taken == name) => None,
            None => Some(name),
        }
    }

    /// Which tool of the pool is called this here.
    fn in_pool<'a>(&'a self, shown: &'a str) -> Option<&'a str> {
        let mut renamed = self.renamed.iter();
        match renamed.find(|(_, name)| *name == shown) {
            Some((name, _)) => Some(name),
            None if self.renamed.contains_key(shown) => None,
            None => Some(shown),
        }
    }
}

/// The profiles of a gateway, by name. Cloning shares them.
#[derive(Debug, Clone, Default)]
pub struct Profiles(Arc<watch::Sender<Named>>);

/// Profiles by name.
pub(crate) type Named = BTreeMap<String, Arc<Profile>>;

impl Profiles {
    /// Takes the profiles of `other` in place of its own, in every clone. It counts from the next
    /// request on, and clients that listen are notified when what they are served has changed. A client
    /// whose profile is gone is served nothing. Requests that run go on as they began.
    pub fn replace(&self, other: &Self) {
        // Not while it is sent: `other` may be a clone.
        let named = other.0.borrow().clone();
        self.0.send_replace(named);
    }

    /// The profiles from now on, each time they are replaced.
    pub(crate) fn changes(&self) -> watch::Receiver<Named> {
        self.0.subscribe()
    }

    /// All of them, by name.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Profile>> {
        self.0.borrow().values().map(Arc::clone).collect()
    }

    /// The profile of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Arc<Profile>> {
        self.0.borrow().get(name).map(Arc::clone)
    }
}

impl FromIterator<Profile> for Profiles {
    /// Of two with one name the later one counts.
    fn from_iter<T: IntoIterator<Item = Profile>>(profiles: T) -> Self {
        let profiles = profiles.into_iter();
        let named = profiles.map(|profile| (profile.name().to_owned(), Arc::new(profile)));
        Self(Arc::new(watch::Sender::new(named.collect())))
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

    /// What a tool is called here, by its name in the pool; `None` when it is not served.
    pub(crate) fn shown<'a>(&'a self, qualified_name: &'a str) -> Option<&'a str> {
        match self {
            Self::Profile(profile) => profile.shown(qualified_name),
            _ => Some(qualified_name),
        }
    }

    /// The name in the pool of a tool that is called this here.
    pub(crate) fn in_pool<'a>(&'a self, shown: &'a str) -> Option<&'a str> {
        match self {
            Self::Profile(profile) => profile.in_pool(shown),
            _ => Some(shown),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_renamed_tool_has_one_name() {
        let profile = Profile::new("p").with_renamed([("a__x", "look"), ("a__y", "b__z")]);
        for (pool, shown) in [
            ("a__x", Some("look")),
            ("a__y", Some("b__z")),
            // Its name is taken.
            ("b__z", None),
            ("c__z", Some("c__z")),
        ] {
            assert_eq!(profile.shown(pool), shown, "{pool}");
            if let Some(shown) = shown {
                assert_eq!(profile.in_pool(shown), Some(pool));
            }
        }
        assert_eq!(profile.in_pool("a__x"), None);
    }

    #[test]
    fn profiles_are_replaced_everywhere() {
        let profiles: Profiles = [Profile::new("a")].into_iter().collect();
        let shared = profiles.clone();
        profiles.replace(&[Profile::new("b")].into_iter().collect());
        assert!(shared.get("a").is_none() && shared.get("b").is_some());
    }
}
