//! Visual Studio Code: `servers` and `inputs` in `.vscode/mcp.json`, or below `mcp` in the
//! editor's settings. An unset variable is empty; `${input:id}` asks the person.

use super::{Dialect, Located, Place, Rules, USUAL, UserFile, Variable};
use crate::{
    document::Node,
    template::{Syntax, WhenUnset},
};

pub(super) const RULES: Rules = Rules {
    dialect: Dialect::VsCode,
    name: "vscode",
    title: "Visual Studio Code",
    ignored: &["dev", "sandbox", "sandboxEnabled"],
    syntax: Syntax::editor().unset(WhenUnset::Empty),
    variable: Variable::Written("${env:NAME}"),
    user: &[
        UserFile::Application("Code/User/mcp.json"),
        UserFile::Application("Code/User/settings.json"),
        UserFile::Application("Code - Insiders/User/mcp.json"),
        UserFile::Application("Code - Insiders/User/settings.json"),
        UserFile::Application("VSCodium/User/mcp.json"),
        UserFile::Application("VSCodium/User/settings.json"),
    ],
    project: &[".vscode/mcp.json", ".vscode/settings.json"],
    names: &["User/mcp.json", "User/settings.json"],
    locate,
    ..USUAL
};

fn locate(root: &Node, _: &Place<'_>) -> Located {
    Located::first_of(
        root,
        &[
            &["servers"],
            &["mcp", "servers"],
            &["mcp.servers"],
            &["chat.mcp.servers"],
            &["mcpServers"],
            &["mcp", "mcpServers"],
        ],
    )
}
