//! Continue: a YAML list `mcpServers` whose entries carry their names, or one JSON file a server
//! in `.continue/mcpServers/`. Numbers are milliseconds; `${{ secrets.X }}` is the variable X.

use super::{Dialect, Key, Located, Place, Rules, USUAL, Unit, UserFile, Variable};
use crate::{
    document::{Node, Value},
    template::{Syntax, WhenUnset},
};

pub(super) const RULES: Rules = Rules {
    dialect: Dialect::Continue,
    name: "continue",
    title: "Continue",
    fields: &[
        ("requestOptions", Key::RequestOptions),
        ("apiKey", Key::BearerToken),
        ("connectionTimeout", Key::StartupTimeout(None)),
    ],
    ignored: &["faviconUrl", "sourceFile"],
    unit: Unit::Milliseconds,
    syntax: Syntax::native()
        .without_dollar_dollar()
        .with_secrets()
        .unset(WhenUnset::KeepLiteral),
    variable: Variable::Written("${{ secrets.NAME }}"),
    user: &[
        UserFile::Home(".continue/mcpServers/*"),
        UserFile::Home(".continue/config.yaml"),
    ],
    project: &[".continue/mcpServers/*"],
    names: &[".continue/config.yml", ".continue/*/*.yaml"],
    locate,
    ..USUAL
};

fn locate(root: &Node, _: &Place<'_>) -> Located {
    let Some(servers) = root.get("mcpServers") else {
        // A file of one server.
        if root.get("command").is_some() || root.get("url").is_some() {
            let range = root.range.clone();
            let list = Node::new(range, Value::Array(vec![root.clone()]));
            return Located::servers(&list, "the file");
        }
        return Located::default();
    };
    let Value::Array(items) = &servers.value else {
        return Located::servers(servers, "mcpServers");
    };
    let (blocks, named): (Vec<&Node>, Vec<&Node>) = items
        .iter()
        .partition(|item| item.get("uses").is_some() && item.get("name").is_none());
    let list = Value::Array(named.into_iter().cloned().collect());
    let mut located = Located::servers(&Node::new(servers.range.clone(), list), "mcpServers");
    for block in blocks {
        let name = block.get("uses").and_then(Node::as_str).unwrap_or_default();
        located.skipped.push((
            name.to_owned(),
            block.range.start..block.range.start + 1,
            "it is a block of Continue's hub, and stands there",
        ));
    }
    located
}
