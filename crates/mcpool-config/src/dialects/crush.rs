//! Crush: `mcp` in `crush.json`. Numbers are seconds, `$V` and `${V}` are placeholders and empty
//! when unset; `$(command)` is run by the host, and refused here.

use super::{Dialect, Located, Place, Rules, USUAL, Unit, UserFile, Variable};
use crate::{
    document::Node,
    template::{Syntax, WhenUnset},
};

pub(super) const RULES: Rules = Rules {
    dialect: Dialect::Crush,
    name: "crush",
    title: "Crush",
    unit: Unit::Seconds,
    syntax: Syntax::native()
        .without_dollar_dollar()
        .with_bare_dollar()
        .unset(WhenUnset::Empty),
    runs_commands: true,
    variable: Variable::Written("$NAME"),
    user: &[
        UserFile::Config("crush/crush.json"),
        UserFile::Home(".local/share/crush/crush.json"),
    ],
    project: &["crush.json", ".crush.json"],
    locate,
    ..USUAL
};

fn locate(root: &Node, _: &Place<'_>) -> Located {
    Located::first_of(root, &[&["mcp"], &["mcpServers"]])
}
