//! The catalog of the MCP Inspector: `mcpServers` with milliseconds.

use super::{Dialect, Key, Rules, USUAL, Unit, UserFile, Variable};
use crate::template::Syntax;

pub(super) const RULES: Rules = Rules {
    dialect: Dialect::Inspector,
    name: "inspector",
    title: "the MCP Inspector",
    fields: &[("maxTotalTimeout", Key::ByType("max_timeout"))],
    ignored: &["roots"],
    unit: Unit::Milliseconds,
    syntax: Syntax::none(),
    variable: Variable::NONE,
    user: &[UserFile::Home(".mcp-inspector/mcp.json")],
    ..USUAL
};
