//! The lists of the pool as a client is shown them, and which server a name of one leads to.

use std::{
    collections::{HashSet, VecDeque},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use mcpool_core::{Error, Raw, RawObject, Reply, Result, ServerName, model};
use mcpool_manager::{ConnectionManager, Items, Refresh, ToolEntry, ToolSnapshot, naming, search};
use serde::Serialize;

use crate::{down_servers::DownServers, own::OwnPools, scope::Scope};

/// Where something is, and what its server calls it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) server: ServerName,
    pub(crate) name: String,
}

/// The catalog of one pool.
#[derive(Debug)]
pub(crate) struct Catalog {
    manager: ConnectionManager,
    /// How long a list may wait for servers that are slow.
    patience: Duration,
    down: DownServers,
    /// The latest first.
    indexes: Mutex<VecDeque<(u64, Arc<search::Index>)>>,
}

/// What may be listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Listed {
    Tools,
    Prompts,
    Resources,
    Templates,
}

impl Listed {
    /// By its method.
    pub(crate) fn of(method: &str) -> Option<Self> {
        Some(match method {
            "tools/list" => Self::Tools,
            "prompts/list" => Self::Prompts,
            "resources/list" => Self::Resources,
            "resources/templates/list" => Self::Templates,
            _ => return None,
        })
    }

    fn member(self) -> &'static str {
        match self {
            Self::Tools => "tools",
            Self::Prompts => "prompts",
            Self::Resources => "resources",
            Self::Templates => "resourceTemplates",
        }
    }
}

/// A list.
#[derive(Debug)]
pub(crate) struct Listing {
    of: Listed,
    pub(crate) entries: Vec<Raw>,
    /// Whether every server has its part in it, as new as it can be.
    pub(crate) is_complete: bool,
}

impl Listing {
    /// It as the result of its request.
    pub(crate) fn result(&self) -> Result<Raw> {
        let mut result = RawObject::new();
        result.insert(self.of.member(), Raw::of(&self.entries)?);
        result.to_raw()
    }
}

/// The tools of a scope as of one moment.
#[derive(Debug)]
pub(crate) struct Tools<'a> {
    entries: Arc<[ToolEntry]>,
    problems: Arc<[(ServerName, Error)]>,
    /// Changes with the entries.
    stamp: u64,
    catalog: &'a Catalog,
    scope: &'a Scope,
}

/// What a list of all tools would cost a model that is given it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Cost {
    /// How many tools there are.
    pub(crate) tools: usize,
    /// About how many tokens they take: a quarter of the bytes of their entries. What a model counts
    /// depends on the model.
    pub(crate) tokens_estimate: usize,
}

/// Parts of the pool that are kept as they are searched.
const MAX_INDEXES: usize = 8;

/// Bytes of JSON that count as one token of a model.
const BYTES_PER_TOKEN: usize = 4;

impl Tools<'_> {
    /// Each tool that is served, with the name that it has here.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &ToolEntry)> {
        let entries = self.entries.iter();
        entries
            .filter(|entry| {
                self.catalog.lists(&entry.server, self.scope)
                    && self.scope.permits(&entry.qualified_name)
            })
            .filter_map(|entry| Some((self.scope.shown(&entry.qualified_name)?, entry)))
    }

    /// Puts the tools of a client's own instance in the place of those of the pool.
    fn replace(&mut self, server: &ServerName, own: &ToolSnapshot) {
        let others = self.entries.iter().filter(|entry| entry.server != *server);
        let mut entries: Vec<_> = others.chain(own.entries.iter()).cloned().collect();
        // In the order of the servers, and in each server's own.
        entries.sort_by(|a, b| a.server.cmp(&b.server));
        self.entries = entries.into();
        let mut hasher = DefaultHasher::new();
        // Which instance they are of matters as well.
        (self.stamp, own.generation, Arc::as_ptr(&own.entries)).hash(&mut hasher);
        self.stamp = hasher.finish();
    }

    /// The entry of a tool in a list.
    pub(crate) fn entry(&self, name: &str, tool: &Raw) -> Result<Raw> {
        match self.scope {
            Scope::Server(_) => Ok(tool.clone()),
            _ => named(tool, name),
        }
    }

    /// The tools as they are searched. It is made again only when they have changed.
    pub(crate) fn index(&self) -> Arc<search::Index> {
        let mut hasher = DefaultHasher::new();
        self.stamp.hash(&mut hasher);
        for (name, _) in self.iter() {
            name.hash(&mut hasher);
        }
        let key = hasher.finish();
        let indexes = || {
            let indexes = self.catalog.indexes.lock();
            indexes.unwrap_or_else(PoisonError::into_inner)
        };
        if let Some((_, known)) = indexes().iter().find(|(known, _)| *known == key) {
            return Arc::clone(known);
        }
        let documents = self.iter();
        let documents = documents.map(|(name, entry)| search::document(name, &entry.tool));
        let index = Arc::new(search::Index::new(documents.collect()));
        let mut indexes = indexes();
        indexes.truncate(MAX_INDEXES - 1);
        indexes.push_front((key, Arc::clone(&index)));
        index
    }

    pub(crate) fn cost(&self) -> Cost {
        let (tools, bytes) = self
            .iter()
            .fold((0, 0_usize), |(tools, bytes), (_, entry)| {
                (tools + 1, bytes.saturating_add(entry.tool.raw().len()))
            });
        Cost {
            tools,
            tokens_estimate: bytes / BYTES_PER_TOKEN,
        }
    }

    /// Whether every server has its part in them, as new as it can be.
    pub(crate) fn is_complete(&self) -> bool {
        let mut problems = self.problems.iter();
        !problems.any(|(server, _)| self.scope.covers(server))
    }

    fn listing(&self) -> Result<Listing> {
        let entries = self.iter();
        let entries = entries.map(|(name, entry)| self.entry(name, entry.tool.raw()));
        Ok(Listing {
            of: Listed::Tools,
            entries: entries.collect::<Result<_>>()?,
            is_complete: self.is_complete(),
        })
    }
}

impl Catalog {
    pub(crate) fn new(manager: ConnectionManager, patience: Duration, down: DownServers) -> Self {
        Self {
            manager,
            patience,
            down,
            indexes: Mutex::default(),
        }
    }

    /// Whether anything of this server is listed at the moment.
    fn lists(&self, server: &ServerName, scope: &Scope) -> bool {
        let is_up = || {
            let state = || {
                Some(
                    self.manager
                        .server(server.as_str())
                        .ok()?
                        .status()
                        .ok()?
                        .state,
                )
            };
            state().is_some_and(|state| self.down.lists(state))
        };
        scope.covers(server) && (self.down == DownServers::LastGood || is_up())
    }

    /// The tools of a scope, by server and in each server's order. A server that is slow or down
    /// has no say in when they come. Of servers that are the client's own they are those of its
    /// instances.
    pub(crate) async fn tools<'a>(
        &'a self,
        scope: &'a Scope,
        refresh: Refresh,
        own: &OwnPools,
    ) -> Tools<'a> {
        let snapshot = self.snapshot(&self.manager, refresh).await;
        let mut tools = Tools {
            entries: Arc::clone(&snapshot.entries),
            problems: Arc::clone(&snapshot.problems),
            stamp: snapshot.generation,
            catalog: self,
            scope,
        };
        for (server, manager) in own {
            let of_client = self.snapshot(manager, refresh).await;
            if of_client.problems.is_empty() {
                tools.replace(server, &of_client);
            }
        }
        tools
    }

    /// A list: by server, and in each server's order. A server that is slow or down has no say in
    /// when it comes. Of servers that are the client's own it is that of its instances.
    pub(crate) async fn list(
        &self,
        listed: Listed,
        scope: &Scope,
        own: &OwnPools,
    ) -> Result<Listing> {
        let lists = |server: &ServerName| self.lists(server, scope);
        let fresh = Refresh::IfStale;
        let (entries, problems) = match listed {
            Listed::Tools => return self.tools(scope, fresh, own).await.listing(),
            Listed::Prompts => {
                let items = self.all_prompts(fresh, own).await;
                (prompts(&items, scope, lists)?, items.problems)
            }
            Listed::Resources => {
                let items = self.resources(fresh, own).await;
                let entries = once_each(&items, lists, |resource| &resource.uri);
                (entries, items.problems)
            }
            Listed::Templates => {
                let items = self.templates(fresh, own).await;
                let entries = once_each(&items, lists, |template| &template.uri_template);
                (entries, items.problems)
            }
        };
        Ok(Listing {
            of: listed,
            entries,
            is_complete: !problems.iter().any(|(server, _)| scope.covers(server)),
        })
    }

    /// Where a tool is. A name that no list holds, but that says its server, leads there: the
    /// server knows best.
    pub(crate) async fn tool(&self, name: &str, scope: &Scope) -> Option<Route> {
        if let Scope::Server(server) = scope {
            return self.of_server(server, name);
        }
        let name = scope.in_pool(name)?;
        if !scope.permits(name) {
            return None;
        }
        let find = |snapshot: &ToolSnapshot| {
            let entry = snapshot.get(name)?;
            scope.covers(&entry.server).then(|| Route {
                server: entry.server.clone(),
                name: entry.name.to_string(),
            })
        };
        if let Some(route) = find(&*self.manager.tools(Refresh::Cached).await) {
            return Some(route);
        }
        match naming::parts(name) {
            Some((server, tool)) => self.by_parts(server, tool, scope),
            // A name with a hash says nothing by itself.
            None => find(&*self.snapshot(&self.manager, Refresh::IfStale).await),
        }
    }

    /// The tool of this name as its server describes it, where that is known.
    pub(crate) async fn description(&self, route: &Route) -> Option<Arc<Reply<model::Tool>>> {
        let snapshot = self.manager.tools(Refresh::Cached).await;
        let mut tools = snapshot.of(route.server.as_str());
        let entry = tools.find(|entry| *entry.name == *route.name)?;
        Some(Arc::clone(&entry.tool))
    }

    /// Where a prompt is.
    pub(crate) async fn prompt(&self, name: &str, scope: &Scope) -> Option<Route> {
        if let Scope::Server(server) = scope {
            return self.of_server(server, name);
        }
        let find = |items: &Items<model::Prompt>| {
            let names = prompt_names(items);
            let at = names.iter().position(|known| known == name)?;
            let (server, prompt) = items.entries.get(at)?;
            scope.covers(server).then(|| Route {
                server: server.clone(),
                name: prompt.name.clone(),
            })
        };
        if let Some(route) = find(&self.all_prompts(Refresh::Cached, &[]).await) {
            return Some(route);
        }
        match naming::parts(name) {
            Some((server, prompt)) => self.by_parts(server, prompt, scope),
            None => find(&self.all_prompts(Refresh::IfStale, &[]).await),
        }
    }

    /// Which server a resource is of: the first that lists it, else the one whose template fits
    /// best, else the only server that there is.
    pub(crate) async fn resource(&self, uri: &str, scope: &Scope) -> Option<ServerName> {
        if let Scope::Server(server) = scope {
            return self.of_server(server, uri).map(|route| route.server);
        }
        for refresh in [Refresh::Cached, Refresh::IfStale] {
            let resources = self.resources(refresh, &[]).await;
            let mut entries = resources
                .entries
                .iter()
                .filter(|(server, _)| scope.covers(server));
            if let Some((server, _)) = entries.find(|(_, resource)| resource.uri == uri) {
                return Some(server.clone());
            }
            let templates = self.templates(refresh, &[]).await;
            let entries = templates
                .entries
                .iter()
                .filter(|(server, _)| scope.covers(server));
            let fits = entries.filter_map(|(server, template)| {
                let text = &template.uri_template;
                let fit = if text == uri {
                    usize::MAX
                } else {
                    fit(text, uri)?
                };
                Some((fit, server))
            });
            // The first of equals, so that it is the same one each time.
            let best = fits.reduce(|best, next| if next.0 > best.0 { next } else { best });
            if let Some((_, server)) = best {
                return Some(server.clone());
            }
        }
        let mut servers = self
            .manager
            .names()
            .into_iter()
            .filter(|name| scope.covers(name));
        match (servers.next(), servers.next()) {
            (Some(only), None) => Some(only),
            _ => None,
        }
    }

    fn of_server(&self, server: &ServerName, name: &str) -> Option<Route> {
        self.manager.server(server.as_str()).ok().map(|_| Route {
            server: server.clone(),
            name: name.to_owned(),
        })
    }

    fn by_parts(&self, server: &str, name: &str, scope: &Scope) -> Option<Route> {
        let names = self.manager.names();
        let server = names.iter().find(|known| known.as_str() == server)?;
        scope.covers(server).then(|| Route {
            server: server.clone(),
            name: name.to_owned(),
        })
    }

    async fn snapshot(&self, pool: &ConnectionManager, refresh: Refresh) -> Arc<ToolSnapshot> {
        let known = pool.tools(Refresh::Cached);
        self.in_time(pool.tools(refresh), known).await
    }

    async fn all_prompts(&self, refresh: Refresh, own: &OwnPools) -> Items<model::Prompt> {
        let list = async |pool: &ConnectionManager, refresh| pool.prompts(refresh).await;
        self.of_all(refresh, own, list).await
    }

    async fn resources(&self, refresh: Refresh, own: &OwnPools) -> Items<model::Resource> {
        let list = async |pool: &ConnectionManager, refresh| pool.resources(refresh).await;
        self.of_all(refresh, own, list).await
    }

    async fn templates(&self, refresh: Refresh, own: &OwnPools) -> Items<model::ResourceTemplate> {
        let list = async |pool: &ConnectionManager, refresh| pool.resource_templates(refresh).await;
        self.of_all(refresh, own, list).await
    }

    /// A list of the pool, with those of a client's own instances in their places.
    async fn of_all<T>(
        &self,
        refresh: Refresh,
        own: &OwnPools,
        list: impl AsyncFn(&ConnectionManager, Refresh) -> Items<T>,
    ) -> Items<T> {
        let of = async |pool: &ConnectionManager| {
            self.in_time(list(pool, refresh), list(pool, Refresh::Cached))
                .await
        };
        let mut items = of(&self.manager).await;
        for (server, pool) in own {
            replace(&mut items, server, of(pool).await);
        }
        items
    }

    /// A list, or what is known of it when it takes too long.
    async fn in_time<T>(&self, list: impl Future<Output = T>, known: impl Future<Output = T>) -> T {
        match tokio::time::timeout(self.patience, list).await {
            Ok(list) => list,
            Err(_) => known.await,
        }
    }
}

/// Puts the items of a client's own instance in the place of those of the pool, unless they cannot
/// be had.
fn replace<T>(items: &mut Items<T>, server: &ServerName, own: Items<T>) {
    if own.problems.is_empty() {
        items.entries.retain(|(of, _)| of != server);
        items.entries.extend(own.entries);
        // In the order of the servers, and in each server's own.
        items.entries.sort_by(|(a, _), (b, _)| a.cmp(b));
    }
}

/// The prompts that a scope shows.
fn prompts(
    items: &Items<model::Prompt>,
    scope: &Scope,
    lists: impl Fn(&ServerName) -> bool,
) -> Result<Vec<Raw>> {
    let names = prompt_names(items);
    let prompts = items.entries.iter().zip(names);
    prompts
        .filter(|((server, _), _)| lists(server))
        .map(|((_, prompt), name)| match scope {
            Scope::Server(_) => Ok(prompt.raw().clone()),
            _ => named(prompt.raw(), &name),
        })
        .collect()
}

/// An entry under another name, and otherwise as it came.
fn named(entry: &Raw, name: &str) -> Result<Raw> {
    let mut object = RawObject::parse(entry)?;
    object.insert("name", Raw::of(name)?);
    object.to_raw()
}

/// The names of prompts in the pool, in their order.
fn prompt_names(items: &Items<model::Prompt>) -> Vec<String> {
    let pairs: Vec<(&str, &str)> = items
        .entries
        .iter()
        .map(|(server, prompt)| (server.as_str(), prompt.name.as_str()))
        .collect();
    naming::qualify_all(&pairs)
}

/// The entries of a scope. Of two with one URI the first is shown, which is also the one that is
/// read.
fn once_each<T>(
    items: &Items<T>,
    lists: impl Fn(&ServerName) -> bool,
    uri: impl Fn(&T) -> &str,
) -> Vec<Raw> {
    let mut seen = HashSet::new();
    let entries = items.entries.iter();
    entries
        .filter(|(server, item)| lists(server) && seen.insert(uri(item).to_owned()))
        .map(|(_, item)| item.raw().clone())
        .collect()
}

/// How well a URI template fits a URI: the length of its literal text, if that is all there in its
/// order (RFC 6570; what stands between is not looked at).
fn fit(template: &str, uri: &str) -> Option<usize> {
    let mut literals = template.split('{').enumerate().map(|(at, part)| match at {
        0 => part,
        _ => part.split_once('}').map_or("", |(_, literal)| literal),
    });
    let first = literals.next().unwrap_or_default();
    let mut rest = uri.strip_prefix(first)?;
    let mut length = first.len();
    let literals: Vec<&str> = literals.collect();
    let Some((last, middle)) = literals.split_last() else {
        return rest.is_empty().then_some(length);
    };
    for literal in middle {
        let at = rest.find(literal)?;
        rest = rest.get(at + literal.len()..)?;
        length += literal.len();
    }
    rest.ends_with(last).then_some(length + last.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_fit_by_their_literal_text() {
        assert_eq!(fit("file:///{path}", "file:///a/b"), Some(8));
        assert_eq!(fit("a://{x}/b/{y}.txt", "a://1/b/2.txt"), Some(11));
        assert_eq!(fit("a://{x}/b", "a://1/c"), None);
        assert_eq!(fit("a://{x}", "b://1"), None);
        assert_eq!(fit("a://x", "a://x"), Some(5));
        assert_eq!(fit("a://x", "a://xy"), None);
        assert_eq!(fit("{+all}", "anything"), Some(0));
        assert_eq!(fit("a{", "ab"), Some(1));
    }

    #[test]
    fn an_entry_keeps_everything_but_its_name() {
        let entry = Raw::from_text(r#"{"title":"T","name":"a","x":1.0e400}"#.to_owned()).unwrap();
        assert_eq!(
            named(&entry, "s__a").unwrap().get(),
            r#"{"title":"T","name":"s__a","x":1.0e400}"#
        );
    }
}
