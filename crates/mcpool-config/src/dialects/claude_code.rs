//! Claude Code: `.mcp.json`, and `~/.claude.json` with a map for each project. Numbers are
//! milliseconds; a bare `url` is refused by the host; an unset variable stays as it stands.

use std::path::Path;

use super::{BareUrl, Dialect, Found, Key, Located, Place, Rules, Unit};
use crate::{
    document::Node,
    template::{Syntax, WhenUnset},
};

pub(super) const RULES: Rules = Rules {
    dialect: Dialect::ClaudeCode,
    title: "Claude Code",
    fields: &[("scope", Key::Ignore), ("alwaysLoad", Key::Ignore)],
    unit: Unit::Milliseconds,
    bare_url: BareUrl::HostRefuses,
    syntax: Syntax::native()
        .without_dollar_dollar()
        .unset(WhenUnset::KeepLiteral),
    locate,
};

/// The servers of the user, then those of the project's own map, which win. A file without any
/// wrapper is a map of servers itself.
fn locate(root: &Node, place: &Place<'_>) -> Located {
    let mut located = Located::map_at(root, &["mcpServers"]);
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
        let own = Located::map(own, "projects.….mcpServers");
        for found in own.entries {
            replace(&mut located.entries, found);
        }
        located.wrong_root = located.wrong_root.or(own.wrong_root);
    }
    if !located.root_found && super::recognise::is_bare_map(root) {
        return Located::map(root, "the file");
    }
    located
}

fn replace(entries: &mut Vec<Found>, found: Found) {
    match entries.iter_mut().find(|entry| entry.name == found.name) {
        Some(entry) => *entry = found,
        None => entries.push(found),
    }
}
