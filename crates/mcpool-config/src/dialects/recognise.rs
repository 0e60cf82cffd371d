//! Which dialect a file is written in, by where it lies and by what it says.

use std::path::Path;

use super::Dialect;
use crate::document::{Format, Node, Value};

/// The dialect of a document. The path decides, unless the content plainly says otherwise.
pub(crate) fn recognise(path: Option<&Path>, format: Format, root: &Node) -> Dialect {
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

/// The dialect that a path promises.
fn by_path(path: &Path) -> Option<Dialect> {
    let parts: Vec<String> = path
        .components()
        .map(|part| part.as_os_str().to_string_lossy().to_lowercase())
        .collect();
    let name = parts.last()?.as_str();
    let inside = |folder: &str| parts[..parts.len() - 1].iter().any(|part| part == folder);
    let parent = |folder: &str| parts.len() > 1 && parts[parts.len() - 2] == folder;
    Some(match name {
        "claude_desktop_config.json" => Dialect::ClaudeDesktop,
        ".mcp.json" | ".claude.json" => Dialect::ClaudeCode,
        "cline_mcp_settings.json" => Dialect::Cline,
        "mcp_settings.json" => Dialect::Roo,
        "mcp-config.json" if inside(".copilot") => Dialect::CopilotCli,
        "mcporter.json" | "mcporter.jsonc" => Dialect::McPorter,
        "opencode.json" | "opencode.jsonc" => Dialect::Opencode,
        "mcp_config.json" if inside("windsurf") || inside(".codeium") => Dialect::Windsurf,
        "mcp.json" if parent(".cursor") => Dialect::Cursor,
        "mcp.json" if parent(".vscode") || parent("user") => Dialect::VsCode,
        "mcp.json" if parent(".github") => Dialect::CopilotCli,
        "mcp.json" if parent(".roo") => Dialect::Roo,
        "mcp.json" if parent(".lmstudio") => Dialect::LmStudio,
        "mcp.json" if inside(".kiro") => Dialect::Kiro,
        "mcp.json" if inside(".mcp-inspector") => Dialect::Inspector,
        "settings.json" if parent("zed") || parent(".zed") => Dialect::Zed,
        "settings.json" if parent(".gemini") => Dialect::Gemini,
        "config.toml" if parent(".codex") => Dialect::Codex,
        "config.yaml" | "config.yml" if parent("goose") => Dialect::Goose,
        "config.yaml" | "config.yml" if parent(".continue") => Dialect::Continue,
        _ if inside(".continue") && parent("mcpservers") => Dialect::Continue,
        _ => return None,
    })
}

/// The dialect that only this content can have.
fn by_content(format: Format, root: &Node) -> Option<Dialect> {
    let has = |key: &str| root.member(key).is_some();
    let entries = |key: &str| -> Vec<&Node> {
        root.get(key)
            .map(|node| node.members().iter().map(|m| &m.value).collect())
            .unwrap_or_default()
    };
    if has("context_servers") {
        return Some(Dialect::Zed);
    }
    if has("mcp_servers") {
        return Some(Dialect::Codex);
    }
    if has("servers") && !has("mcpServers") {
        return Some(Dialect::VsCode);
    }
    if has("projects") && (has("mcpServers") || has("numStartups")) {
        return Some(Dialect::ClaudeCode);
    }
    if let Some(mcp) = root.get("mcp").filter(|mcp| mcp.is_object()) {
        let inputs_or_editor = mcp.get("inputs").is_some();
        return Some(if inputs_or_editor {
            Dialect::VsCode
        } else {
            Dialect::Opencode
        });
    }
    if has("extensions")
        && format == Format::Yaml
        && entries("extensions")
            .iter()
            .any(|entry| entry.get("cmd").is_some() || entry.get("type").is_some())
    {
        return Some(Dialect::Goose);
    }
    match root.get("mcpServers").map(|node| &node.value) {
        Some(Value::Array(_)) => return Some(Dialect::Continue),
        Some(_) => {
            let servers = entries("mcpServers");
            let any = |key: &str| servers.iter().any(|entry| entry.get(key).is_some());
            if any("httpUrl") {
                return Some(Dialect::Gemini);
            }
            if any("serverUrl") {
                return Some(Dialect::Windsurf);
            }
            if any("baseUrl") {
                return Some(Dialect::McPorter);
            }
            return None;
        }
        None => {}
    }
    if is_bare_map(root) {
        let lang_chain = root.members().iter().any(|member| {
            matches!(
                member.value.get("transport").and_then(Node::as_str),
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

/// Whether every member looks like a server, as in a file without a wrapper.
pub(super) fn is_bare_map(root: &Node) -> bool {
    let members: Vec<_> = root
        .members()
        .iter()
        .filter(|member| member.key != "$schema")
        .collect();
    !members.is_empty()
        && members.iter().all(|member| {
            member.value.is_object()
                && ["command", "url", "cmd", "serverUrl", "httpUrl"]
                    .iter()
                    .any(|key| member.value.get(key).is_some_and(|node| !node.is_object()))
        })
}

/// Whether the place where a dialect keeps its servers is there.
fn has_root_of(dialect: Dialect, root: &Node) -> bool {
    let place = super::Place { workspace: None };
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
            ("/home/a/.config/Code/User/mcp.json", Some(Dialect::VsCode)),
            ("/p/.mcp.json", Some(Dialect::ClaudeCode)),
            ("/home/a/.codex/config.toml", Some(Dialect::Codex)),
            ("/home/a/.config/goose/config.yaml", Some(Dialect::Goose)),
            ("/p/.continue/mcpServers/x.yaml", Some(Dialect::Continue)),
            ("/p/mcp.json", None),
            ("/p/config.toml", None),
        ] {
            assert_eq!(by_path(Path::new(path)), want, "{path}");
        }
    }
}
