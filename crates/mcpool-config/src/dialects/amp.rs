//! Amp: `"amp.mcpServers"` in its settings, or in those of the editor.

use super::{Dialect, Located, Place, Rules, USUAL, UserFile, claude_code::SYNTAX};
use crate::document::Node;

pub(super) const RULES: Rules = Rules {
    dialect: Dialect::Amp,
    name: "amp",
    title: "Amp",
    syntax: SYNTAX,
    user: &[
        UserFile::Config("amp/settings.json"),
        UserFile::Config("amp/settings.jsonc"),
    ],
    project: &[".amp/settings.json", ".amp/settings.jsonc"],
    locate,
    ..USUAL
};

fn locate(root: &Node, _: &Place<'_>) -> Located {
    Located::first_of(
        root,
        &[&["amp.mcpServers"], &["amp", "mcpServers"], &["mcpServers"]],
    )
}
