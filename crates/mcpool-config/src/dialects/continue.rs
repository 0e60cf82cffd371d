//! Continue: a YAML list `mcpServers` whose entries carry their names, or one JSON file a server
//! in `.continue/mcpServers/`. Numbers are milliseconds.

use super::{BareUrl, Dialect, Found, Key, Located, Place, Rules, Unit};
use crate::{
    document::{Node, Value},
    template::{Syntax, WhenUnset},
};

pub(super) const RULES: Rules = Rules {
    dialect: Dialect::Continue,
    title: "Continue",
    fields: &[
        ("name", Key::Ignore),
        ("requestOptions", Key::RequestOptions),
        ("apiKey", Key::BearerToken),
        ("connectionTimeout", Key::StartupTimeout(None)),
        ("faviconUrl", Key::Ignore),
        ("sourceFile", Key::Ignore),
    ],
    unit: Unit::Milliseconds,
    bare_url: BareUrl::Detect,
    syntax: Syntax::native()
        .without_dollar_dollar()
        .unset(WhenUnset::KeepLiteral),
    locate,
};

fn locate(root: &Node, _: &Place<'_>) -> Located {
    let Some(list) = root.get("mcpServers") else {
        // A file of one server.
        if root.get("command").is_some() || root.get("url").is_some() {
            return from_list(std::slice::from_ref(root));
        }
        return Located::default();
    };
    match &list.value {
        Value::Array(items) => from_list(items),
        _ => Located::map(list, "mcpServers"),
    }
}

fn from_list(items: &[Node]) -> Located {
    let mut located = Located {
        root_found: true,
        ..Located::default()
    };
    for item in items {
        match item.get("name") {
            Some(Node {
                range,
                value: Value::String(name),
            }) => located.entries.push(Found {
                name: name.clone(),
                name_range: range.clone(),
                node: item.clone(),
            }),
            _ => located.skipped.push((
                "(no name)".to_owned(),
                item.range.start..item.range.start,
                "it has no `name`",
            )),
        }
    }
    located
}
