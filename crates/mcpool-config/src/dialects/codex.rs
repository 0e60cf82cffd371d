//! Codex: `[mcp_servers.name]` in `config.toml`. Values are literal; variables are named, and
//! one that is not set is left out, but for the bearer token's. Numbers are seconds, a bare `url`
//! is Streamable HTTP.

use super::{BareUrl, Dialect, Key, Located, Place, Rules, USUAL, Unit, UserFile, Variable};
use crate::{document::Node, template::Syntax};

pub(super) const RULES: Rules = Rules {
    dialect: Dialect::Codex,
    name: "codex",
    title: "Codex",
    fields: &[
        ("env_vars", Key::EnvNames),
        ("tool_timeout_ms", Key::Timeout(Some(Unit::Milliseconds))),
        ("scopes", Key::Scopes),
    ],
    ignored: &[
        "oauth_resource",
        "supports_parallel_tool_calls",
        "default_tools_approval_mode",
        "environment_id",
    ],
    unit: Unit::Seconds,
    bare_url: BareUrl::Http,
    syntax: Syntax::none(),
    variable: Variable::Named {
        env: Some("env_vars = [\"NAME\"]"),
        header: Some("env_http_headers = { \"HEADER\" = \"NAME\" }"),
    },
    user: &[UserFile::Codex("config.toml")],
    project: &[".codex/config.toml"],
    names: &[".codex/*.toml"],
    locate,
    ..USUAL
};

fn locate(root: &Node, _: &Place<'_>) -> Located {
    Located::first_of(root, &[&["mcp_servers"], &["mcpServers"]])
}
