//! The catalog of the MCP Inspector: `mcpServers` with milliseconds.

use super::{BareUrl, Dialect, Key, Rules, Unit, mcp_servers};
use crate::template::Syntax;

pub(super) const RULES: Rules = Rules {
    dialect: Dialect::Inspector,
    title: "the MCP Inspector",
    fields: &[
        ("requestTimeout", Key::Timeout(None)),
        ("connectionTimeout", Key::StartupTimeout(None)),
        ("maxTotalTimeout", Key::MaxTimeout),
        ("roots", Key::Ignore),
        ("metadata", Key::Ignore),
        ("name", Key::Ignore),
    ],
    unit: Unit::Milliseconds,
    bare_url: BareUrl::Detect,
    syntax: Syntax::none(),
    locate: mcp_servers,
};
