//! Windsurf: `serverUrl`, `${env:V}` and `${file:p}`; an unset variable is empty.

use super::{Dialect, Rules, USUAL, UserFile, Variable};
use crate::template::{Syntax, WhenUnset};

pub(super) const RULES: Rules = Rules {
    dialect: Dialect::Windsurf,
    name: "windsurf",
    title: "Windsurf",
    syntax: Syntax::editor().unset(WhenUnset::Empty),
    variable: Variable::Written("${env:NAME}"),
    user: &[
        UserFile::Home(".codeium/windsurf/mcp_config.json"),
        UserFile::Home(".codeium/windsurf-next/mcp_config.json"),
        UserFile::Home(".codeium/mcp_config.json"),
    ],
    project: &[".windsurf/mcp_config.json", ".windsurf/mcp.json"],
    names: &["windsurf/mcp_config.json"],
    ..USUAL
};
