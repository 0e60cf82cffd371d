//! GitHub Copilot CLI: `~/.copilot/mcp-config.json`. `tools` is a list, `["*"]` for all.

use super::{BareUrl, Dialect, Rules, Unit, mcp_servers};
use crate::template::{Syntax, WhenUnset};

pub(super) const RULES: Rules = Rules {
    dialect: Dialect::CopilotCli,
    title: "Copilot CLI",
    fields: &[],
    unit: Unit::Unknown,
    bare_url: BareUrl::Detect,
    syntax: Syntax::native()
        .without_dollar_dollar()
        .unset(WhenUnset::KeepLiteral),
    locate: mcp_servers,
};
