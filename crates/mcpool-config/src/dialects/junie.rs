//! Junie: `.junie/mcp/mcp.json`.

use super::{Dialect, Rules, USUAL, UserFile, claude_code::SYNTAX};

pub(super) const RULES: Rules = Rules {
    dialect: Dialect::Junie,
    name: "junie",
    title: "Junie",
    syntax: SYNTAX,
    user: &[UserFile::Home(".junie/mcp/mcp.json")],
    project: &[".junie/mcp/mcp.json"],
    names: &[".junie/mcp.json"],
    ..USUAL
};
