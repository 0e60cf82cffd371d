//! Visual Studio Code: `servers` and `inputs` in `.vscode/mcp.json`. An unset variable is empty;
//! `${input:id}` asks the person.

use super::{BareUrl, Dialect, Key, Located, Place, Rules, Unit};
use crate::{
    document::Node,
    template::{Syntax, WhenUnset},
};

pub(super) const RULES: Rules = Rules {
    dialect: Dialect::VsCode,
    title: "Visual Studio Code",
    fields: &[
        ("dev", Key::Ignore),
        ("gallery", Key::Ignore),
        ("version", Key::Ignore),
        ("sandbox", Key::Ignore),
        ("sandboxEnabled", Key::Ignore),
    ],
    unit: Unit::Unknown,
    bare_url: BareUrl::Detect,
    syntax: Syntax::editor().unset(WhenUnset::Empty),
    locate,
};

/// `servers`, or `mcp.servers` in the editor's settings.
fn locate(root: &Node, _: &Place<'_>) -> Located {
    Located::first_of(root, &[&["servers"], &["mcp", "servers"], &["mcpServers"]])
}
