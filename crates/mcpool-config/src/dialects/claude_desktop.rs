//! Claude Desktop: `claude_desktop_config.json`. No placeholders, stdio mostly.

use super::{Dialect, Rules, USUAL, UserFile, Variable};
use crate::template::Syntax;

pub(super) const RULES: Rules = Rules {
    dialect: Dialect::ClaudeDesktop,
    name: "claude-desktop",
    title: "Claude Desktop",
    ignored: &["isUsingBuiltInNodeForMcp"],
    syntax: Syntax::none(),
    variable: Variable::NONE,
    user: &[UserFile::Application("Claude/claude_desktop_config.json")],
    names: &["claude_desktop_config.json"],
    ..USUAL
};
