//! Where the entries of a document stand.

use std::ops::Range;

use super::rules::{Place, Rules};
use crate::document::{Member, Node, Value};

/// What a dialect found in a document.
#[derive(Default)]
pub(crate) struct Located {
    /// The entries in the order of the file.
    pub(crate) entries: Vec<Found>,
    /// Entries that are no servers of ours, with the reason.
    pub(crate) skipped: Vec<(String, Range<usize>, &'static str)>,
    /// Entries of a list that do not say what they are called: their number and place.
    pub(crate) nameless: Vec<(usize, Range<usize>)>,
    /// Whether the place for entries was there at all.
    pub(crate) root_found: bool,
    /// The place was there and is of the wrong type.
    pub(crate) wrong_root: Option<(String, Range<usize>, &'static str)>,
    /// The place holds the name of another file, in which the entries stand.
    pub(crate) elsewhere: Option<(String, Range<usize>)>,
    /// The rules of the entries, where the place says another notation than the dialect's.
    pub(crate) rules: Option<&'static Rules>,
}

/// One entry of a document.
#[derive(Clone)]
pub(crate) struct Found {
    pub(crate) name: String,
    pub(crate) name_range: Range<usize>,
    pub(crate) node: Node,
}

impl Located {
    /// All members of what stands at a path of keys.
    pub(crate) fn at(root: &Node, path: &[&str]) -> Self {
        let mut node = root;
        for key in path {
            match node.get(key) {
                Some(next) => node = next,
                None => return Self::default(),
            }
        }
        Self::servers(node, &path.join("."))
    }

    /// The first of several paths that is there.
    pub(crate) fn first_of(root: &Node, paths: &[&[&str]]) -> Self {
        paths
            .iter()
            .map(|path| Self::at(root, path))
            .find(|located| located.root_found)
            .unwrap_or_default()
    }

    /// The members of an object, by their keys, or of a list, by their `name`.
    pub(crate) fn servers(node: &Node, name: &str) -> Self {
        let mut located = Self {
            root_found: true,
            ..Self::default()
        };
        match &node.value {
            Value::Object(members) => {
                located.entries = members
                    .iter()
                    // A remark among the servers.
                    .filter(|member| member.value.is_object() || !is_remark(&member.key))
                    .map(Found::of)
                    .collect();
            }
            Value::Array(items) => located.list(items),
            Value::Null => {}
            _ => located.wrong_root = Some((name.to_owned(), node.range.clone(), node.type_name())),
        }
        located
    }

    fn list(&mut self, items: &[Node]) {
        for (index, item) in items.iter().enumerate() {
            match item
                .get("name")
                .and_then(|name| Some((name.as_str()?, name)))
            {
                Some((name, node)) => self.entries.push(Found {
                    name: name.to_owned(),
                    name_range: node.range.clone(),
                    node: item.clone(),
                }),
                // A list of small objects, each of one name: `[{"files": {"command": …}}]`.
                None if is_bare_map(item) => self.entries.extend(servers_of_bare_map(item)),
                None => self
                    .nameless
                    .push((index + 1, item.range.start..item.range.start + 1)),
            }
        }
    }

    /// A file that is a map of servers itself, without a wrapper.
    pub(crate) fn bare_map(root: &Node) -> Self {
        Self {
            entries: servers_of_bare_map(root).collect(),
            root_found: true,
            ..Self::default()
        }
    }

    /// Leaves out the entries for which there is a reason.
    pub(crate) fn skipping(mut self, reason: impl Fn(&Node) -> Option<&'static str>) -> Self {
        let entries = std::mem::take(&mut self.entries);
        for found in entries {
            match reason(&found.node) {
                Some(reason) => self.skipped.push((found.name, found.name_range, reason)),
                None => self.entries.push(found),
            }
        }
        self
    }
}

impl Found {
    pub(crate) fn of(member: &Member) -> Self {
        Self {
            name: member.key.clone(),
            name_range: member.key_range.clone(),
            node: member.value.clone(),
        }
    }
}

/// The usual place, and the places that other hosts use, for files that were named wrongly.
pub(super) fn mcp_servers(root: &Node, _: &Place<'_>) -> Located {
    usual(root)
}

/// As [`mcp_servers`], or no wrapper at all.
pub(super) fn usual(root: &Node) -> Located {
    if let Value::Array(_) = root.value {
        return Located::servers(root, "the file");
    }
    let located = Located::first_of(
        root,
        &[
            &["mcpServers"],
            &["servers"],
            &["mcp_servers"],
            &["mcp", "mcpServers"],
            &["mcp", "servers"],
        ],
    );
    if !located.root_found && is_bare_map(root) {
        return Located::bare_map(root);
    }
    located
}

/// Whether an object looks like the entry of a server.
pub(super) fn is_server(node: &Node) -> bool {
    ["command", "url", "cmd", "serverUrl", "httpUrl", "baseUrl"]
        .iter()
        .any(|key| node.get(key).is_some_and(|value| !value.is_object()))
}

/// Whether every object in it looks like a server, as in a file without a wrapper.
pub(super) fn is_bare_map(root: &Node) -> bool {
    let mut objects = root
        .members()
        .iter()
        .filter(|member| member.value.is_object())
        .peekable();
    objects.peek().is_some()
        && objects.all(|member| is_server(&member.value))
        // The entry of one server has objects in it as well.
        && !is_server(root)
}

fn servers_of_bare_map(root: &Node) -> impl Iterator<Item = Found> + '_ {
    root.members()
        .iter()
        .filter(|member| member.value.is_object())
        .map(Found::of)
}

/// Whether a key is no name of a server where its value is no object.
fn is_remark(key: &str) -> bool {
    key.starts_with(['$', '_', '/', '#']) || key == "comment"
}
