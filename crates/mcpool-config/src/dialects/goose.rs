//! Goose: `extensions` in `config.yaml`. `cmd`, `envs`, `uri`; numbers are seconds; extensions
//! that are built in are not ours to start.

use super::{BareUrl, Dialect, Key, Located, Place, Rules, Unit};
use crate::{
    document::Node,
    template::{Syntax, WhenUnset},
};

pub(super) const RULES: Rules = Rules {
    dialect: Dialect::Goose,
    title: "Goose",
    fields: &[
        ("cmd", Key::Command),
        ("envs", Key::Env),
        ("env_keys", Key::EnvNames),
        ("uri", Key::Url),
        ("available_tools", Key::ToolsAllow),
        ("bundled", Key::Ignore),
        ("name", Key::Ignore),
        ("display_name", Key::Ignore),
        ("instructions", Key::Ignore),
        ("socket", Key::Ignore),
    ],
    unit: Unit::Seconds,
    bare_url: BareUrl::Detect,
    syntax: Syntax::native()
        .without_dollar_dollar()
        .unset(WhenUnset::KeepLiteral),
    locate,
};

fn locate(root: &Node, _: &Place<'_>) -> Located {
    let mut located = Located::first_of(root, &[&["extensions"], &["mcpServers"]]);
    let entries = std::mem::take(&mut located.entries);
    for found in entries {
        match found.node.get("type").and_then(Node::as_str) {
            Some("builtin" | "platform" | "frontend" | "inline_python") => {
                located
                    .skipped
                    .push((found.name, found.name_range, "it is built into Goose"));
            }
            _ => located.entries.push(found),
        }
    }
    located
}
