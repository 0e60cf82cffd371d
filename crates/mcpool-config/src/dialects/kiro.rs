//! Kiro: `.kiro/settings/mcp.json`. The unit of its time-outs is not known.

use super::{BareUrl, Dialect, Rules, Unit, mcp_servers};
use crate::template::{Syntax, WhenUnset};

pub(super) const RULES: Rules = Rules {
    dialect: Dialect::Kiro,
    title: "Kiro",
    fields: &[],
    unit: Unit::Unknown,
    bare_url: BareUrl::Detect,
    syntax: Syntax::native()
        .without_dollar_dollar()
        .unset(WhenUnset::KeepLiteral),
    locate: mcp_servers,
};
