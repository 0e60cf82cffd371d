//! Factory's Droid: `.factory/mcp.json`. The type is always there.

use super::{Dialect, Rules, USUAL, UserFile, claude_code::SYNTAX};

pub(super) const RULES: Rules = Rules {
    dialect: Dialect::Factory,
    name: "factory",
    title: "Factory",
    syntax: SYNTAX,
    user: &[UserFile::Home(".factory/mcp.json")],
    project: &[".factory/mcp.json"],
    ..USUAL
};
