//! GitHub Copilot CLI: `~/.copilot/mcp-config.json`. `tools` is a list, `["*"]` for all.

use super::{Dialect, Rules, USUAL, UserFile, claude_code::SYNTAX};

pub(super) const RULES: Rules = Rules {
    dialect: Dialect::CopilotCli,
    name: "copilot-cli",
    title: "Copilot CLI",
    syntax: SYNTAX,
    user: &[UserFile::Home(".copilot/mcp-config.json")],
    project: &[".github/mcp.json"],
    names: &[".copilot/mcp.json"],
    ..USUAL
};
