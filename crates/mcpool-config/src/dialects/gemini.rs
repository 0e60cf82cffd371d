//! Gemini CLI: `mcpServers` in its settings. `httpUrl` is Streamable HTTP by name, a `url` is
//! found out, numbers are milliseconds, and `$V`, `${V}` and `%V%` are placeholders.

use super::{Dialect, Rules, USUAL, Unit, UserFile};
use crate::template::{Syntax, WhenUnset};

/// The placeholders of Gemini CLI and what was made from it.
pub(super) const SYNTAX: Syntax = Syntax::native()
    .without_dollar_dollar()
    .with_bare_dollar()
    .with_percent()
    .unset(WhenUnset::KeepLiteral);

/// Fields without a meaning for us.
pub(super) const IGNORED: &[&str] = &[
    "trust",
    "extension",
    "authProviderType",
    "targetAudience",
    "targetServiceAccount",
    "versionNegotiation",
];

pub(super) const RULES: Rules = Rules {
    dialect: Dialect::Gemini,
    name: "gemini",
    title: "Gemini CLI",
    ignored: IGNORED,
    unit: Unit::Milliseconds,
    url_first: true,
    syntax: SYNTAX,
    variable: super::Variable::Written("$NAME"),
    user: &[UserFile::Home(".gemini/settings.json")],
    project: &[".gemini/settings.json"],
    ..USUAL
};
