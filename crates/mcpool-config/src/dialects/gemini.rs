//! Gemini CLI: `mcpServers` in its settings. `httpUrl` is Streamable HTTP by name, numbers are
//! milliseconds, and `$V`, `${V}` and `%V%` are placeholders.

use super::{BareUrl, Dialect, Key, Rules, Unit, mcp_servers};
use crate::template::{Syntax, WhenUnset};

pub(super) const RULES: Rules = Rules {
    dialect: Dialect::Gemini,
    title: "Gemini CLI",
    fields: &[
        ("trust", Key::Ignore),
        ("extension", Key::Ignore),
        ("authProviderType", Key::Ignore),
        ("targetAudience", Key::Ignore),
        ("targetServiceAccount", Key::Ignore),
    ],
    unit: Unit::Milliseconds,
    bare_url: BareUrl::Http,
    syntax: Syntax::native()
        .without_dollar_dollar()
        .with_bare_dollar()
        .with_percent()
        .unset(WhenUnset::KeepLiteral),
    locate: mcp_servers,
};
