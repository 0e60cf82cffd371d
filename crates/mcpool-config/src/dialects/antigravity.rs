//! Antigravity: `mcp_config.json` below Gemini's folder, with `serverUrl` as in Windsurf.

use super::{Dialect, Rules, USUAL, UserFile, Variable};

pub(super) const RULES: Rules = Rules {
    dialect: Dialect::Antigravity,
    name: "antigravity",
    title: "Antigravity",
    ignored: &["$typeName"],
    variable: Variable::NONE,
    user: &[
        UserFile::Home(".gemini/config/mcp_config.json"),
        UserFile::Home(".gemini/antigravity/mcp_config.json"),
        UserFile::Home(".gemini/antigravity-cli/mcp_config.json"),
    ],
    project: &[".agents/mcp_config.json"],
    names: &[
        "antigravity/mcp_config.json",
        ".agent/mcp_config.json",
        ".antigravity/mcp_config.json",
    ],
    ..USUAL
};
