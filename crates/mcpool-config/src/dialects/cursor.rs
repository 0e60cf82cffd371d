//! Cursor: `.cursor/mcp.json`. The editor's own placeholders, `envFile` for stdio.

use super::{Dialect, Rules, USUAL, UserFile, Variable};

pub(super) const RULES: Rules = Rules {
    dialect: Dialect::Cursor,
    name: "cursor",
    title: "Cursor",
    variable: Variable::Written("${env:NAME}"),
    user: &[UserFile::Home(".cursor/mcp.json")],
    project: &[".cursor/mcp.json"],
    ..USUAL
};
