//! opencode: `mcp` (version 1) or `mcp.servers` (version 2). The command is a list, variables
//! are `{env:V}` and `{file:p}` and empty when unset, numbers are milliseconds, and a remote
//! server is found out.

use super::{Dialect, Key, Located, Place, Rules, USUAL, Unit, UserFile, Variable};
use crate::{
    document::Node,
    template::{Syntax, WhenUnset},
};

pub(super) const RULES: Rules = Rules {
    dialect: Dialect::Opencode,
    name: "opencode",
    title: "opencode",
    fields: &[("environment", Key::Env)],
    unit: Unit::Milliseconds,
    syntax: Syntax::bare_brace().unset(WhenUnset::Empty),
    variable: Variable::Written("{env:NAME}"),
    user: &[
        UserFile::Config("opencode/opencode.json"),
        UserFile::Config("opencode/opencode.jsonc"),
    ],
    project: &[
        "opencode.json",
        "opencode.jsonc",
        ".opencode/opencode.json",
        ".opencode/opencode.jsonc",
    ],
    locate,
    ..USUAL
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
        Some(servers) => Located::servers(servers, "mcp.servers"),
        None => Located::servers(mcp, "mcp"),
    }
}
