//! Roo Code: `.roo/mcp.json`. A bare `url` is refused by the host, numbers are seconds.

use super::{BareUrl, Dialect, Key, Rules, Unit, mcp_servers};
use crate::template::{Syntax, WhenUnset};

pub(super) const RULES: Rules = Rules {
    dialect: Dialect::Roo,
    title: "Roo Code",
    fields: &[("watchPaths", Key::Ignore)],
    unit: Unit::Seconds,
    bare_url: BareUrl::HostRefuses,
    syntax: Syntax::editor().unset(WhenUnset::KeepLiteral),
    locate: mcp_servers,
};
