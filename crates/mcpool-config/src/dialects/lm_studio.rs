//! LM Studio: `~/.lmstudio/mcp.json`, in the notation of Cursor.

use super::{BareUrl, Dialect, Rules, Unit, mcp_servers};
use crate::template::{Syntax, WhenUnset};

pub(super) const RULES: Rules = Rules {
    dialect: Dialect::LmStudio,
    title: "LM Studio",
    fields: &[],
    unit: Unit::Unknown,
    bare_url: BareUrl::Detect,
    syntax: Syntax::editor().unset(WhenUnset::KeepLiteral),
    locate: mcp_servers,
};
