//! mcpool's own format: `mcpServers` with policies.

use super::{BareUrl, Dialect, Rules, Unit, mcp_servers};
use crate::template::Syntax;

pub(super) const RULES: Rules = Rules {
    dialect: Dialect::Native,
    title: "mcpool",
    fields: &[],
    unit: Unit::Refuse,
    bare_url: BareUrl::Detect,
    syntax: Syntax::native(),
    locate: mcp_servers,
};
