//! An extension of Gemini CLI or Qwen Code: `mcpServers` in `gemini-extension.json`, with the
//! extension's own folder as `${extensionPath}`. The variables of its `settings` reach its
//! servers.

use super::{Dialect, Folder, Located, Place, Rules, USUAL, Unit, UserFile, gemini};
use crate::document::{Member, Node, Value};

pub(super) const RULES: Rules = Rules {
    dialect: Dialect::GeminiExtension,
    name: "gemini-extension",
    title: "a Gemini extension",
    ignored: gemini::IGNORED,
    unit: Unit::Milliseconds,
    url_first: true,
    syntax: gemini::SYNTAX,
    variable: super::Variable::Written("$NAME"),
    places: &[
        ("extensionPath", Folder::Package),
        ("workspacePath", Folder::Workspace),
        // Qwen Code takes Claude's plugins over.
        ("CLAUDE_PLUGIN_ROOT", Folder::Package),
    ],
    user: &[
        UserFile::Home(".gemini/extensions/*/gemini-extension.json"),
        UserFile::Home(".qwen/extensions/*/qwen-extension.json"),
    ],
    project: &["gemini-extension.json", "qwen-extension.json"],
    locate,
    ..USUAL
};

fn locate(root: &Node, _: &Place<'_>) -> Located {
    let mut located = Located::at(root, &["mcpServers"]);
    let variables: Vec<Node> = root
        .get("settings")
        .map(Node::items)
        .unwrap_or_default()
        .iter()
        .filter_map(|setting| setting.get("envVar").cloned())
        .collect();
    if variables.is_empty() {
        return located;
    }
    for found in &mut located.entries {
        if let Value::Object(members) = &mut found.node.value
            && members.iter().any(|member| member.key == "command")
        {
            members.push(Member {
                key: "env_vars".to_owned(),
                key_range: found.name_range.clone(),
                value: Node::new(found.name_range.clone(), Value::Array(variables.clone())),
            });
        }
    }
    located
}
