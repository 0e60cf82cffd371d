//! Amazon Q Developer: `mcp.json`, or `mcpServers` in the file of an agent. Numbers are
//! milliseconds, `${env:V}` is a placeholder.

use super::{Dialect, Key, Rules, USUAL, Unit, UserFile, Variable};

pub(super) const RULES: Rules = Rules {
    dialect: Dialect::AmazonQ,
    name: "amazon-q",
    title: "Amazon Q",
    fields: &[("oauthScopes", Key::Scopes)],
    unit: Unit::Milliseconds,
    variable: Variable::Written("${env:NAME}"),
    user: &[
        UserFile::Home(".aws/amazonq/mcp.json"),
        UserFile::Home(".aws/amazonq/default.json"),
        UserFile::Home(".aws/amazonq/agents/default.json"),
        UserFile::Home(".aws/amazonq/cli-agents/*.json"),
    ],
    project: &[
        ".amazonq/mcp.json",
        ".amazonq/default.json",
        ".amazonq/agents/default.json",
        ".amazonq/cli-agents/*.json",
    ],
    names: &["amazonq/mcp.json"],
    ..USUAL
};
