//! Which dialect a file is written in, by where it lies and by what it says.

use std::path::Path;

use super::{
    Dialect, Place,
    located::{is_bare_map, is_server},
};
use crate::document::{Format, Node, Value};

/// The dialect of a document. The path decides, unless the content plainly says otherwise.
pub(crate) fn recognise(path: Option<&Path>, format: Format, root: &Node) -> Dialect {
    if is_agent_plugin(root) {
        return Dialect::AgentPlugin;
    }
    let by_content = by_content(format, root);
    match path.and_then(by_path) {
        Some(dialect) => match by_content {
            // A file that was put under another host's name.
            Some(other) if other != dialect && !has_root_of(dialect, root) => other,
            _ => dialect,
        },
        None => by_content.unwrap_or(Dialect::Native),
    }
}

/// The dialect that a path promises: the one with the longest end that fits.
fn by_path(path: &Path) -> Option<Dialect> {
    let mut best = None;
    for dialect in Dialect::ALL {
        // Everybody's `mcp.json` promises nothing.
        if *dialect == Dialect::Native {
            continue;
        }
        for end in dialect.rules().paths() {
            let length = end.len();
            if best.is_none_or(|(longest, _)| length > longest) && ends_with(path, end).is_some() {
                best = Some((length, *dialect));
            }
        }
    }
    best.map(|(_, dialect)| dialect)
}

/// Whether the last parts of a path are these, in any case; a `*` in a part stands for any text.
/// Gives the number of parts.
pub(crate) fn ends_with(path: &Path, end: &str) -> Option<usize> {
    let wanted: Vec<&str> = end.split('/').collect();
    let parts: Vec<String> = path
        .components()
        .map(|part| part.as_os_str().to_string_lossy().to_lowercase())
        .collect();
    let from = parts.len().checked_sub(wanted.len())?;
    parts[from..]
        .iter()
        .zip(&wanted)
        .all(|(part, wanted)| fits(part, &wanted.to_lowercase()))
        .then_some(wanted.len())
}

/// Whether a name fits a pattern with at most one `*`.
pub(crate) fn fits(name: &str, pattern: &str) -> bool {
    match pattern.split_once('*') {
        Some((start, end)) => {
            name.len() >= start.len() + end.len() && name.starts_with(start) && name.ends_with(end)
        }
        None => name == pattern,
    }
}

/// The dialect that only this content can have.
fn by_content(format: Format, root: &Node) -> Option<Dialect> {
    let has = |key: &str| root.member(key).is_some();
    if let Value::Array(items) = &root.value {
        let of_augment = items
            .iter()
            .any(|item| item.get("useShellInterpolation").is_some());
        return of_augment.then_some(Dialect::Augment);
    }
    if has("context_servers") {
        return Some(Dialect::Zed);
    }
    if let Some(servers) = root.get("mcp_servers").filter(|_| format == Format::Toml) {
        return Some(match servers.value {
            Value::Array(_) => Dialect::MistralVibe,
            _ => Dialect::Codex,
        });
    }
    if has("amp.mcpServers")
        || root
            .get("amp")
            .is_some_and(|amp| amp.get("mcpServers").is_some())
    {
        return Some(Dialect::Amp);
    }
    if has("augment.advanced") || has("augment.mcpServers") {
        return Some(Dialect::Augment);
    }
    if has("mcp.servers") || has("chat.mcp.servers") {
        return Some(Dialect::VsCode);
    }
    let is_json = format == Format::Json;
    if is_json && root.get("servers").is_some_and(Node::is_object) && !has("mcpServers") {
        return Some(Dialect::VsCode);
    }
    if has("projects") && (has("mcpServers") || has("numStartups")) {
        return Some(Dialect::ClaudeCode);
    }
    if root.get("registry").is_some_and(is_docker_registry) {
        return Some(Dialect::DockerMcp);
    }
    if has("mcpServers") {
        return by_servers(format, root);
    }
    if let Some(dialect) = root.get("mcp").and_then(|mcp| by_mcp(format, root, mcp)) {
        return Some(dialect);
    }
    let is_extension = |node: &Node| node.get("cmd").is_some() || node.get("type").is_some();
    if format == Format::Yaml && any_entry(root.get("extensions"), is_extension) {
        return Some(Dialect::Goose);
    }
    if is_bare_map(root) {
        let lang_chain = any_entry(Some(root), |entry| {
            matches!(
                entry.get("transport").and_then(Node::as_str),
                Some("streamable_http" | "websocket" | "stdio" | "sse")
            )
        });
        return Some(if lang_chain {
            Dialect::LangChain
        } else {
            Dialect::FastMcp
        });
    }
    None
}

/// By the entries of `mcpServers`, and by what stands beside it.
fn by_servers(format: Format, root: &Node) -> Option<Dialect> {
    let servers = root.get("mcpServers");
    let any = |keys: &[&str]| {
        any_entry(servers, |entry| {
            keys.iter().any(|key| entry.get(key).is_some())
        })
    };
    if let Some(Value::Array(_)) = servers.map(|servers| &servers.value) {
        return (format == Format::Yaml).then_some(Dialect::Continue);
    }
    let of_librechat = format == Format::Yaml
        && (any(&[
            "serverInstructions",
            "customUserVars",
            "chatMenu",
            "initTimeout",
        ]) || root.get("endpoints").is_some()
            || root.get("mcpSettings").is_some());
    if of_librechat {
        return Some(Dialect::LibreChat);
    }
    if any(&["isActive"]) {
        return Some(Dialect::CherryStudio);
    }
    if any(&["httpUrl"]) {
        return Some(Dialect::Gemini);
    }
    if any(&["serverUrl"]) {
        return Some(Dialect::Windsurf);
    }
    if any(&["baseUrl"]) {
        return Some(Dialect::McPorter);
    }
    None
}

/// Three hosts keep their servers below `mcp`, and two more keep other things there.
fn by_mcp(format: Format, root: &Node, mcp: &Node) -> Option<Dialect> {
    let lists = ["stdio_servers", "sse_servers", "shttp_servers"];
    if format == Format::Toml && lists.iter().any(|list| mcp.get(list).is_some()) {
        return Some(Dialect::OpenHands);
    }
    let schema = root.get("$schema").and_then(Node::as_str).unwrap_or("");
    if schema.contains("opencode") {
        return Some(Dialect::Opencode);
    }
    if schema.contains("charm.land") || schema.contains("crush") {
        return Some(Dialect::Crush);
    }
    if mcp.get("inputs").is_some() {
        return Some(Dialect::VsCode);
    }
    let second = mcp.get("servers").filter(|servers| !is_server(servers));
    let entries = second.unwrap_or(mcp);
    let of_opencode = any_entry(Some(entries), |entry| {
        let kind = entry.get("type").and_then(Node::as_str);
        let list = matches!(
            entry.get("command").map(|command| &command.value),
            Some(Value::Array(_))
        );
        list || matches!(kind, Some("local" | "remote")) || entry.get("environment").is_some()
    });
    if of_opencode {
        return Some(Dialect::Opencode);
    }
    if format == Format::Json && second.is_some_and(Node::is_object) {
        return Some(Dialect::VsCode);
    }
    let of_crush = any_entry(Some(mcp), |entry| {
        let kind = entry.get("type").and_then(Node::as_str);
        is_server(entry) && matches!(kind, Some("stdio" | "http" | "sse"))
    });
    of_crush.then_some(Dialect::Crush)
}

/// Whether the document names the schema that Agent Plugins 1.0 requires (§7.2.1).
fn is_agent_plugin(root: &Node) -> bool {
    let schema = root.get("$schema").and_then(Node::as_str).unwrap_or("");
    schema.contains("agent-plugins.org/") && schema.ends_with("/mcp.schema.json")
}

/// Whether any object in an object or list is so.
fn any_entry(node: Option<&Node>, is: impl Fn(&Node) -> bool) -> bool {
    node.is_some_and(|node| {
        let mut entries = node
            .members()
            .iter()
            .map(|member| &member.value)
            .chain(node.items());
        entries.any(is)
    })
}

fn is_docker_registry(registry: &Node) -> bool {
    any_entry(Some(registry), |entry| {
        ["image", "remote", "ref"]
            .iter()
            .any(|key| entry.get(key).is_some())
    })
}

/// Whether the place where a dialect keeps its servers is there.
fn has_root_of(dialect: Dialect, root: &Node) -> bool {
    let place = Place {
        workspace: None,
        path: None,
    };
    (dialect.rules().locate)(root, &place).root_found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        for (path, want) in [
            ("/home/a/.cursor/mcp.json", Some(Dialect::Cursor)),
            ("/p/.vscode/mcp.json", Some(Dialect::VsCode)),
            ("/p/.vscode/settings.json", Some(Dialect::VsCode)),
            ("/home/a/.config/Code/User/mcp.json", Some(Dialect::VsCode)),
            ("/home/a/.config/Trae/User/mcp.json", Some(Dialect::Trae)),
            ("/p/.mcp.json", Some(Dialect::ClaudeCode)),
            ("/p/.warp/.mcp.json", Some(Dialect::Warp)),
            ("/home/a/.codex/config.toml", Some(Dialect::Codex)),
            ("/home/a/.config/goose/config.yaml", Some(Dialect::Goose)),
            ("/p/.continue/mcpServers/x.yaml", Some(Dialect::Continue)),
            ("/p/.windsurf/mcp.json", Some(Dialect::Windsurf)),
            (
                "/h/.gemini/antigravity/mcp_config.json",
                Some(Dialect::Antigravity),
            ),
            (
                "/h/x/kilocode.kilo-code/settings/mcp_settings.json",
                Some(Dialect::Roo),
            ),
            (
                "/c/Code/User/globalStorage/kilocode.kilo-code/settings/mcp_settings.json",
                Some(Dialect::Kilo),
            ),
            (
                "/h/.gemini/extensions/x/gemini-extension.json",
                Some(Dialect::GeminiExtension),
            ),
            ("/p/.claude-plugin/plugin.json", Some(Dialect::ClaudePlugin)),
            ("/p/crush.json", Some(Dialect::Crush)),
            ("/p/mcp.json", None),
            ("/p/config.toml", None),
            ("/p/settings.json", None),
        ] {
            assert_eq!(by_path(Path::new(path)), want, "{path}");
        }
    }
}
