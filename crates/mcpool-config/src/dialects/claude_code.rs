//! Claude Code: `.mcp.json`, and `~/.claude.json` with a map for each project. Numbers are
//! milliseconds; a bare `url` is refused by the host; an unset variable stays as it stands. The
//! `.mcp.json` of a plugin names the plugin's own folder.

use std::path::Path;

use super::{BareUrl, Dialect, Folder, Found, Located, Place, Rules, USUAL, Unit, UserFile};
use crate::{
    document::Node,
    template::{Syntax, WhenUnset},
};

/// The folders that Claude Code names in its files.
pub(super) const PLACES: &[(&str, Folder)] = &[
    ("CLAUDE_PLUGIN_ROOT", Folder::Package),
    ("CLAUDE_PLUGIN_DATA", Folder::Data),
    ("CLAUDE_PROJECT_DIR", Folder::Workspace),
];

pub(super) const SYNTAX: Syntax = Syntax::native()
    .without_dollar_dollar()
    .unset(WhenUnset::KeepLiteral);

pub(super) const RULES: Rules = Rules {
    dialect: Dialect::ClaudeCode,
    name: "claude-code",
    title: "Claude Code",
    ignored: &["scope", "alwaysLoad"],
    unit: Unit::Milliseconds,
    bare_url: BareUrl::HostRefuses,
    syntax: SYNTAX,
    places: PLACES,
    user: &[UserFile::Home(".claude.json")],
    project: &[".mcp.json"],
    names: &[
        ".claude/mcp.json",
        ".claude/settings.json",
        ".claude/settings.local.json",
        "managed-mcp.json",
    ],
    locate,
    ..USUAL
};

/// The servers of the user, then those of the project's own map, which win. A file without any
/// wrapper is a map of servers itself.
fn locate(root: &Node, place: &Place<'_>) -> Located {
    let mut located = super::located::usual(root);
    let project = root.get("projects").and_then(|projects| {
        let workspace = place.workspace?;
        projects
            .members()
            .iter()
            .find(|member| Path::new(&member.key) == workspace)
    });
    if root.member("projects").is_some() {
        located.root_found = true;
    }
    if let Some(own) = project.and_then(|project| project.value.get("mcpServers")) {
        let own = Located::servers(own, "projects.….mcpServers");
        for found in own.entries {
            replace(&mut located.entries, found);
        }
        located.wrong_root = located.wrong_root.or(own.wrong_root);
    }
    located
}

fn replace(entries: &mut Vec<Found>, found: Found) {
    match entries.iter_mut().find(|entry| entry.name == found.name) {
        Some(entry) => *entry = found,
        None => entries.push(found),
    }
}
