//! Claude Desktop: `claude_desktop_config.json`. No placeholders, stdio mostly.

use super::{BareUrl, Dialect, Key, Rules, Unit, mcp_servers};
use crate::template::Syntax;

pub(super) const RULES: Rules = Rules {
    dialect: Dialect::ClaudeDesktop,
    title: "Claude Desktop",
    fields: &[("isUsingBuiltInNodeForMcp", Key::Ignore)],
    unit: Unit::Unknown,
    bare_url: BareUrl::Detect,
    syntax: Syntax::none(),
    locate: mcp_servers,
};
