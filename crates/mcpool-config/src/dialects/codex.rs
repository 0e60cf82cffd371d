//! Codex: `[mcp_servers.name]` in `config.toml`. Values are literal; variables are named, and
//! must be set. Numbers are seconds, a bare `url` is Streamable HTTP.

use super::{BareUrl, Dialect, Key, Located, Place, Rules, Unit};
use crate::{document::Node, template::Syntax};

pub(super) const RULES: Rules = Rules {
    dialect: Dialect::Codex,
    title: "Codex",
    fields: &[
        ("env_vars", Key::EnvNames),
        ("tool_timeout_ms", Key::Timeout(Some(Unit::Milliseconds))),
        ("scopes", Key::Scopes),
        ("oauth_resource", Key::Ignore),
        ("supports_parallel_tool_calls", Key::Ignore),
        ("default_tools_approval_mode", Key::Ignore),
        ("name", Key::Ignore),
    ],
    unit: Unit::Seconds,
    bare_url: BareUrl::Http,
    syntax: Syntax::none(),
    locate,
};

fn locate(root: &Node, _: &Place<'_>) -> Located {
    Located::first_of(root, &[&["mcp_servers"], &["mcpServers"]])
}
