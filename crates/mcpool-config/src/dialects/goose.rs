//! Goose: `extensions` in `config.yaml`. `cmd`, `envs`, `uri`; numbers are seconds; extensions
//! that are built in are not ours to start.

use super::{Dialect, Key, Located, Place, Rules, USUAL, Unit, UserFile};
use crate::{
    document::Node,
    template::{Syntax, WhenUnset},
};

pub(super) const RULES: Rules = Rules {
    dialect: Dialect::Goose,
    name: "goose",
    title: "Goose",
    fields: &[
        ("cmd", Key::Command),
        ("envs", Key::Env),
        ("env_keys", Key::EnvNames),
        ("uri", Key::Url),
        ("available_tools", Key::ToolsAllow),
    ],
    ignored: &["bundled", "instructions", "socket"],
    unit: Unit::Seconds,
    syntax: Syntax::native()
        .without_dollar_dollar()
        .unset(WhenUnset::KeepLiteral),
    user: &[UserFile::Config("goose/config.yaml")],
    names: &["goose/config.yml"],
    locate,
    ..USUAL
};

fn locate(root: &Node, _: &Place<'_>) -> Located {
    Located::first_of(root, &[&["extensions"], &["mcpServers"]]).skipping(|node| {
        match node.get("type").and_then(Node::as_str) {
            Some("builtin" | "platform" | "frontend" | "inline_python") => {
                Some("it is built into Goose")
            }
            _ => None,
        }
    })
}
