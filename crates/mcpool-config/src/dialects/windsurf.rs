//! Windsurf: `serverUrl`, `${env:V}` and `${file:p}`; an unset variable is empty.

use super::{BareUrl, Dialect, Rules, Unit, mcp_servers};
use crate::template::{Syntax, WhenUnset};

pub(super) const RULES: Rules = Rules {
    dialect: Dialect::Windsurf,
    title: "Windsurf",
    fields: &[],
    unit: Unit::Unknown,
    bare_url: BareUrl::Detect,
    syntax: Syntax::editor().unset(WhenUnset::Empty),
    locate: mcp_servers,
};
