//! Zed: `context_servers` in its settings. Numbers are seconds, a bare `url` is Streamable HTTP,
//! servers of extensions are not ours to start.

use super::{BareUrl, Dialect, Located, Place, Rules, USUAL, Unit, UserFile, Variable};
use crate::{document::Node, template::Syntax};

pub(super) const RULES: Rules = Rules {
    dialect: Dialect::Zed,
    name: "zed",
    title: "Zed",
    ignored: &["source", "settings", "remote"],
    unit: Unit::Seconds,
    bare_url: BareUrl::Http,
    syntax: Syntax::none(),
    variable: Variable::NONE,
    user: &[UserFile::Config("zed/settings.json")],
    project: &[".zed/settings.json"],
    locate,
    ..USUAL
};

fn locate(root: &Node, _: &Place<'_>) -> Located {
    Located::first_of(root, &[&["context_servers"], &["mcpServers"]]).skipping(|node| {
        let of_extension = node.get("source").and_then(Node::as_str) == Some("extension")
            || (node.get("command").is_none()
                && node.get("url").is_none()
                && node.get("settings").is_some());
        of_extension.then_some("a Zed extension starts it, and the settings do not say how")
    })
}
