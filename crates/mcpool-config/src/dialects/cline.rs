//! Cline: `cline_mcp_settings.json`. A bare `url` is SSE, the type may be nested in
//! `transport.type`, numbers are seconds.

use super::{BareUrl, Dialect, Rules, Unit, mcp_servers};
use crate::template::{Syntax, WhenUnset};

pub(super) const RULES: Rules = Rules {
    dialect: Dialect::Cline,
    title: "Cline",
    fields: &[],
    unit: Unit::Seconds,
    bare_url: BareUrl::Sse,
    syntax: Syntax::editor().unset(WhenUnset::KeepLiteral),
    locate: mcp_servers,
};
