//! opencode: `mcp` (version 1) or `mcp.servers` (version 2). The command is a list, variables
//! are `{env:V}` and `{file:p}` and empty when unset, numbers are milliseconds.

use super::{BareUrl, Dialect, Key, Located, Place, Rules, Unit};
use crate::{
    document::Node,
    template::{Syntax, WhenUnset},
};

pub(super) const RULES: Rules = Rules {
    dialect: Dialect::Opencode,
    title: "opencode",
    fields: &[("environment", Key::Env)],
    unit: Unit::Milliseconds,
    bare_url: BareUrl::Http,
    syntax: Syntax::bare_brace().unset(WhenUnset::Empty),
    locate,
};

fn locate(root: &Node, _: &Place<'_>) -> Located {
    let Some(mcp) = root.get("mcp") else {
        return Located::first_of(root, &[&["mcpServers"]]);
    };
    // In version 1 a server may itself be called `servers`: then it has a command or a URL.
    let second = mcp.get("servers").filter(|servers| {
        servers.get("command").is_none_or(Node::is_object)
            && servers.get("url").is_none_or(Node::is_object)
    });
    match second {
        Some(servers) => Located::map(servers, "mcp.servers"),
        None => Located::map(mcp, "mcp"),
    }
}
