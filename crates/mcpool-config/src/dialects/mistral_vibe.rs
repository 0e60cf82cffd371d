//! Mistral Vibe: `[[mcp_servers]]` in `config.toml`. The command may be a whole line, numbers
//! are seconds, a key is named by the variable that holds it.

use super::{Dialect, Key, Located, Place, Rules, USUAL, Unit, UserFile, Variable};
use crate::{document::Node, template::Syntax};

pub(super) const RULES: Rules = Rules {
    dialect: Dialect::MistralVibe,
    name: "mistral-vibe",
    title: "Mistral Vibe",
    fields: &[
        ("command", Key::CommandLine),
        ("api_key_env", Key::ApiKeyEnv),
        ("api_key_header", Key::ApiKeyHeader),
        ("api_key_format", Key::ApiKeyFormat),
    ],
    ignored: &["prompt", "sampling_enabled"],
    unit: Unit::Seconds,
    syntax: Syntax::none(),
    variable: Variable::Named {
        env: None,
        header: Some("api_key_env = \"NAME\""),
    },
    user: &[UserFile::Home(".vibe/config.toml")],
    project: &[".vibe/config.toml"],
    names: &[".vibe/agents/*.toml"],
    locate,
    ..USUAL
};

fn locate(root: &Node, _: &Place<'_>) -> Located {
    Located::first_of(root, &[&["mcp_servers"], &["mcpServers"]])
}
