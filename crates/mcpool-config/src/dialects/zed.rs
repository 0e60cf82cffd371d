//! Zed: `context_servers` in its settings. Numbers are seconds, a bare `url` is Streamable HTTP,
//! servers of extensions are not ours to start.

use super::{BareUrl, Dialect, Key, Located, Place, Rules, Unit};
use crate::{document::Node, template::Syntax};

pub(super) const RULES: Rules = Rules {
    dialect: Dialect::Zed,
    title: "Zed",
    fields: &[
        ("source", Key::Ignore),
        ("settings", Key::Ignore),
        ("remote", Key::Ignore),
    ],
    unit: Unit::Seconds,
    bare_url: BareUrl::Http,
    syntax: Syntax::none(),
    locate,
};

fn locate(root: &Node, _: &Place<'_>) -> Located {
    let mut located = Located::first_of(root, &[&["context_servers"], &["mcpServers"]]);
    let entries = std::mem::take(&mut located.entries);
    for found in entries {
        let of_extension = found.node.get("source").and_then(Node::as_str) == Some("extension")
            || (found.node.get("command").is_none()
                && found.node.get("url").is_none()
                && found.node.get("settings").is_some());
        if of_extension {
            located.skipped.push((
                found.name,
                found.name_range,
                "a Zed extension starts it, and the settings do not say how",
            ));
        } else {
            located.entries.push(found);
        }
    }
    located
}
