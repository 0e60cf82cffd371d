//! Augment: `mcpServers` in the settings of its command line, a list in those of the editor, or
//! the list that its extension keeps. There the command may be a whole line.

use super::{Dialect, Key, Located, Place, Rules, USUAL, UserFile, claude_code::SYNTAX};
use crate::document::Node;

pub(super) const RULES: Rules = Rules {
    dialect: Dialect::Augment,
    name: "augment",
    title: "Augment",
    fields: &[("command", Key::CommandLine), ("tools", Key::Ignore)],
    ignored: &["authRequired", "retries", "useShellInterpolation"],
    syntax: SYNTAX,
    user: &[
        UserFile::Home(".augment/settings.json"),
        UserFile::Application(
            "Code/User/globalStorage/augment.vscode-augment/augment-global-state/mcpServers.json",
        ),
    ],
    project: &[".augment/settings.json", ".augment/settings.local.json"],
    names: &["augment-global-state/mcpServers.json"],
    locate,
    ..USUAL
};

fn locate(root: &Node, _: &Place<'_>) -> Located {
    let located = Located::first_of(
        root,
        &[
            &["augment.advanced", "mcpServers"],
            &["augment", "advanced", "mcpServers"],
            &["augment.mcpServers"],
        ],
    );
    if located.root_found {
        return located;
    }
    super::located::usual(root)
}
