//! LibreChat: `mcpServers` in `librechat.yaml`. Numbers are milliseconds, a bare `url` is SSE,
//! `${V}` is a placeholder; `{{V}}` is filled in by LibreChat for each of its users.

use super::{BareUrl, Dialect, Key, Rules, USUAL, Unit, claude_code::SYNTAX};

pub(super) const RULES: Rules = Rules {
    dialect: Dialect::LibreChat,
    name: "librechat",
    title: "LibreChat",
    fields: &[
        ("initTimeout", Key::StartupTimeout(None)),
        ("sseReadTimeout", Key::ReadIdleTimeout(None)),
        ("apiKey", Key::KeyedHeader),
    ],
    ignored: &[
        "chatMenu",
        "customUserVars",
        "oauth_headers",
        "obo",
        "requiresOAuth",
        "serverInstructions",
        "startup",
        "stderr",
    ],
    unit: Unit::Milliseconds,
    bare_url: BareUrl::Sse,
    syntax: SYNTAX,
    double_braces: true,
    project: &["librechat.yaml", "librechat.yml"],
    names: &["librechat*.yaml", "librechat*.yml"],
    ..USUAL
};
