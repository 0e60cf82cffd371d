//! What the command line names: a server, and perhaps one of its tools.

use mcpool::{ServerName, config::nearest, naming};

use crate::{render::text::Text, text};

/// A server and perhaps a tool, as `a b`, `a.b`, `a__b` or a qualified name with a hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    /// The server.
    pub(crate) server: String,
    /// The tool: by the server's name for it, or by its qualified name.
    pub(crate) tool: Option<String>,
    /// Whether the first word says both, so that the second is no tool.
    pub(crate) in_one_word: bool,
}

/// Reads it. A server of the whole name comes first, so a name with a dot in it can be used.
///
/// A qualified name that has a hash does not say its tool: then it is the tool, for
/// [`is_named`].
pub(crate) fn read(first: &str, second: Option<&str>, servers: &[ServerName]) -> Named {
    let plain = Named {
        server: first.to_owned(),
        tool: second.map(str::to_owned),
        in_one_word: false,
    };
    if servers.iter().any(|server| server.as_str() == first) {
        return plain;
    }
    let in_one_word = |server: &ServerName, tool: &str| Named {
        server: server.to_string(),
        tool: Some(tool.to_owned()),
        in_one_word: true,
    };
    // Of `a` and `a.b`, both servers, the longer one is meant by `a.b.c`.
    let mut longest_first: Vec<&ServerName> = servers.iter().collect();
    longest_first.sort_by_key(|server| std::cmp::Reverse(server.as_str().len()));
    for server in &longest_first {
        let rest = first.strip_prefix(server.as_str());
        let tool = rest.and_then(|rest| {
            rest.strip_prefix(naming::SEPARATOR)
                .or_else(|| rest.strip_prefix('.'))
        });
        if let Some(tool) = tool.filter(|tool| !tool.is_empty()) {
            return in_one_word(server, tool);
        }
    }
    let hashed = longest_first.into_iter().find(|server| {
        let prefix = naming::qualify(server.as_str(), "x");
        let prefix = prefix.split(naming::SEPARATOR).next().unwrap_or_default();
        let rest = first.strip_prefix(prefix);
        rest.is_some_and(|rest| rest.starts_with(naming::SEPARATOR))
    });
    match hashed {
        Some(server) => in_one_word(server, first),
        None => plain,
    }
}

/// What hosts begin the name of a tool with that they show to a model.
const OF_HOSTS: &str = "mcp__";

/// What was probably meant by a word that names no server, and is nearly a server and its tool:
/// something else stands between them, the server is mistyped, or it is the name in another host.
/// Where a server that is mistyped alone is likelier, nothing.
pub(crate) fn meant(first: &str, second: Option<&str>, servers: &[ServerName]) -> Option<Text> {
    let known = || servers.iter().map(ServerName::as_str);
    let alone = nearest(first, known());
    let names_tool = second.is_some_and(|second| !second.contains('='));
    if names_tool && alone.is_some() {
        return None;
    }
    let word = first.strip_prefix(OF_HOSTS).unwrap_or(first);
    let behind = |server: &str| {
        let rest = word.strip_prefix(server)?;
        let tool = rest.trim_start_matches(['_', '-', '.', ':', '/', ' ']);
        (!tool.is_empty() && tool.len() < rest.len()).then(|| tool.to_owned())
    };
    let exact = known()
        .filter_map(|server| Some((server, behind(server)?)))
        .max_by_key(|(server, _)| server.len());
    let near = || {
        let mut parts = [naming::SEPARATOR, ".", "/", ":"]
            .into_iter()
            .filter_map(|between| word.split_once(between));
        parts.find_map(|(server, tool)| {
            let is_word = !tool.is_empty() && !tool.starts_with('/');
            Some((nearest(server, known())?, tool.to_owned())).filter(|_| is_word)
        })
    };
    let (server, tool) = exact.or_else(near)?;
    let mut meant = text!("did you mean `{}.{}`", server, tool);
    if let Some(alone) = alone.filter(|alone| *alone != server) {
        meant.push(&text!(" or `{}`", alone));
    }
    meant.push(&text!("?"));
    Some(meant)
}

/// What a word that may be nearly a qualified name says of the tool.
pub(crate) fn own_part<'w>(word: &'w str, server: &str) -> &'w str {
    let rest = word.strip_prefix(server);
    let tool = rest.and_then(|rest| rest.strip_prefix(naming::SEPARATOR));
    tool.filter(|tool| !tool.is_empty()).unwrap_or(word)
}

/// Whether a tool of a server is meant by this name.
pub(crate) fn is_named(name: &str, server: &str, tool: &str) -> bool {
    tool == name || naming::qualify(server, tool) == name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(first: &str, second: Option<&str>) -> (String, Option<String>, bool) {
        let servers: Vec<ServerName> = ["files", "my files", "files.old", "a__b"]
            .iter()
            .map(|name| name.parse().unwrap())
            .collect();
        let named = read(first, second, &servers);
        (named.server, named.tool, named.in_one_word)
    }

    #[test]
    fn a_tool_is_named_in_each_way() {
        let owned = |server: &str, tool: &str, one| (server.to_owned(), Some(tool.to_owned()), one);
        assert_eq!(named("files", Some("read")), owned("files", "read", false));
        assert_eq!(named("files.read", None), owned("files", "read", true));
        assert_eq!(
            named("files__read", Some("k=v")),
            owned("files", "read", true)
        );
        assert_eq!(
            named("files.old.read", None),
            owned("files.old", "read", true)
        );
        assert_eq!(named("files.old", None), ("files.old".into(), None, false));
        let qualified = naming::qualify("my files", "read");
        assert_eq!(named(&qualified, None), owned("my files", &qualified, true));
        assert!(is_named(&qualified, "my files", "read"));
        assert!(!is_named(&qualified, "my files", "write"));
        assert_eq!(named("a__b__read", None), owned("a__b", "read", true));
        assert_eq!(named("nobody", Some("x")), owned("nobody", "x", false));
        assert_eq!(named("files.", None), ("files.".into(), None, false));
    }

    #[test]
    fn what_is_nearly_a_server_and_its_tool_is_told_from_a_mistyped_server() {
        let servers: Vec<ServerName> = ["files", "files-old", "clock"]
            .iter()
            .map(|name| name.parse().unwrap())
            .collect();
        for (first, second, wanted) in [
            ("files_write", None, Some("files.write")),
            ("files-write", Some("path=x"), Some("files.write")),
            ("files/write", None, Some("files.write")),
            ("files:write", None, Some("files.write")),
            ("files-old_read", None, Some("files-old.read")),
            ("mcp__files__read", None, Some("files.read")),
            ("mcp__fils__read", None, Some("files.read")),
            ("fils.read", None, Some("files.read")),
            ("fils__read", None, Some("files.read")),
            ("files-odl", Some("read"), None),
            ("files-odl", None, Some("files.odl` or `files-old")),
            ("files", None, None),
            ("nobody", None, None),
            ("https://files/read", None, None),
            ("", None, None),
        ] {
            let meant = meant(first, second, &servers);
            let wanted = wanted.map(|name| format!("did you mean `{name}`?"));
            assert_eq!(
                meant.as_ref().map(Text::as_str),
                wanted.as_deref(),
                "{first}"
            );
        }
    }
}
