//! Cline: `cline_mcp_settings.json`. A bare `url` is SSE, the type may be nested in
//! `transport.type`, numbers are seconds.

use super::{BareUrl, Dialect, Rules, USUAL, Unit, UserFile};

pub(super) const RULES: Rules = Rules {
    dialect: Dialect::Cline,
    name: "cline",
    title: "Cline",
    ignored: &["remoteConfigured", "networkTimeout"],
    unit: Unit::Seconds,
    bare_url: BareUrl::Sse,
    user: &[
        UserFile::Application(
            "Code/User/globalStorage/saoudrizwan.claude-dev/settings/cline_mcp_settings.json",
        ),
        UserFile::Home(".cline/data/settings/cline_mcp_settings.json"),
    ],
    names: &["cline_mcp_settings.json"],
    ..USUAL
};
