//! Kiro: `.kiro/settings/mcp.json`, and its agents. Numbers are milliseconds, as in Amazon Q,
//! which its command line was made from.

use super::{Dialect, Key, Rules, USUAL, Unit, UserFile, claude_code::SYNTAX};

pub(super) const RULES: Rules = Rules {
    dialect: Dialect::Kiro,
    name: "kiro",
    title: "Kiro",
    fields: &[("oauthScopes", Key::Scopes)],
    unit: Unit::Milliseconds,
    syntax: SYNTAX,
    user: &[
        UserFile::Home(".kiro/settings/mcp.json"),
        UserFile::Home(".kiro/agents/*.json"),
    ],
    project: &[".kiro/settings/mcp.json", ".kiro/agents/*.json"],
    names: &[
        ".kiro/mcp.json",
        ".kiro/*/mcp.json",
        ".kiro/powers/*/mcp.json",
        ".kiro/powers/*/*/mcp.json",
    ],
    ..USUAL
};
