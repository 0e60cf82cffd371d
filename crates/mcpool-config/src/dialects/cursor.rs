//! Cursor: `.cursor/mcp.json`. The editor's own placeholders, `envFile` for stdio.

use super::{BareUrl, Dialect, Rules, Unit, mcp_servers};
use crate::template::{Syntax, WhenUnset};

pub(super) const RULES: Rules = Rules {
    dialect: Dialect::Cursor,
    title: "Cursor",
    fields: &[],
    unit: Unit::Unknown,
    bare_url: BareUrl::Detect,
    syntax: Syntax::editor().unset(WhenUnset::KeepLiteral),
    locate: mcp_servers,
};
