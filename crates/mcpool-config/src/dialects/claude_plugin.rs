//! A plugin of Claude Code, and of the hosts that took its format over: `mcpServers` in
//! `.claude-plugin/plugin.json`, written as in `.mcp.json`, or the name of the file in which the
//! servers stand. `${CLAUDE_PLUGIN_ROOT}` is the folder that holds `.claude-plugin`.

use super::{Dialect, Folder, Located, Place, Rules, USUAL, Unit, UserFile, claude_code::SYNTAX};
use crate::document::{Node, Value};

pub(super) const RULES: Rules = Rules {
    dialect: Dialect::ClaudePlugin,
    name: "claude-plugin",
    title: "a Claude plugin",
    unit: Unit::Milliseconds,
    syntax: SYNTAX,
    places: &[
        ("CLAUDE_PLUGIN_ROOT", Folder::Package),
        ("CLAUDE_PLUGIN_DATA", Folder::Data),
        ("CURSOR_PLUGIN_ROOT", Folder::Package),
        ("PLUGIN_ROOT", Folder::Package),
        ("PLUGIN_DATA", Folder::Data),
        ("CLAUDE_PROJECT_DIR", Folder::Workspace),
    ],
    user: &[UserFile::Home(
        ".claude/plugins/cache/*/*/*/.claude-plugin/plugin.json",
    )],
    project: &[".claude-plugin/plugin.json"],
    names: &[
        ".codex-plugin/plugin.json",
        ".cursor-plugin/plugin.json",
        ".factory-plugin/plugin.json",
        ".plugin/plugin.json",
    ],
    locate,
    ..USUAL
};

fn locate(root: &Node, _: &Place<'_>) -> Located {
    let Some(servers) = root.get("mcpServers") else {
        return Located::default();
    };
    let first = match &servers.value {
        // A list of files; the first stands for all.
        Value::Array(items) => items.first().unwrap_or(servers),
        _ => servers,
    };
    let file = first.as_str().map(|file| (file, first));
    match file {
        Some((file, node)) => Located {
            root_found: true,
            elsewhere: Some((file.to_owned(), node.range.clone())),
            ..Located::default()
        },
        None => Located::servers(servers, "mcpServers"),
    }
}
