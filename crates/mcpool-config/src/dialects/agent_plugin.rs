//! A plugin as Agent Plugins 1.0 writes it (agent-plugins.org), whose `mcp.json` names its schema.
//! Nothing but `${PLUGIN_ROOT}` and `${PLUGIN_DATA}` is filled in (§9.2); both also reach the
//! process as variables (§9.1), which starts in the plugin's folder (§7.2.1).

use super::{
    BareUrl, Dialect, Folder, Located, Place, Rules, USUAL, UserFile, Variable, claude_code::SYNTAX,
};
use crate::document::{Member, Node, Value};

const ROOT: &str = "PLUGIN_ROOT";
const DATA: &str = "PLUGIN_DATA";

pub(super) const RULES: Rules = Rules {
    dialect: Dialect::AgentPlugin,
    name: "agent-plugin",
    title: "an Agent Plugin",
    bare_url: BareUrl::Http,
    syntax: SYNTAX,
    only_places: true,
    variable: Variable::NONE,
    user: &[UserFile::Home(".agents/plugins/*/mcp.json")],
    places: &[(ROOT, Folder::Package), (DATA, Folder::Data)],
    locate,
    ..USUAL
};

fn locate(root: &Node, place: &Place<'_>) -> Located {
    let mut located = super::located::mcp_servers(root, place);
    for found in &mut located.entries {
        let place = found.name_range.clone();
        if let Value::Object(members) = &mut found.node.value
            && members.iter().any(|member| member.key == "command")
        {
            let text = |text: String| Node::new(place.clone(), Value::String(text));
            let member = |key: &str, value: Node| Member {
                key: key.to_owned(),
                key_range: place.clone(),
                value,
            };
            for of_plugin in ["command", "cwd"] {
                if let Some(path) = members.iter_mut().find(|member| member.key == of_plugin) {
                    from_root(&mut path.value);
                }
            }
            if !members.iter().any(|member| member.key == "cwd") {
                members.push(member("cwd", text(format!("${{{ROOT}}}"))));
            }
            if !members.iter().any(|member| member.key == "env") {
                let empty = Node::new(place.clone(), Value::Object(Vec::new()));
                members.push(member("env", empty));
            }
            let env = members.iter_mut().find(|member| member.key == "env");
            if let Some(Value::Object(env)) = env.map(|env| &mut env.value.value) {
                env.retain(|member| member.key != ROOT && member.key != DATA);
                env.extend([ROOT, DATA].map(|name| member(name, text(format!("${{{name}}}")))));
            }
        }
    }
    located
}

/// `./x` begins at the plugin's folder, wherever the process starts.
fn from_root(node: &mut Node) {
    if let Value::String(path) = &mut node.value
        && let Some(rest) = path.strip_prefix("./")
    {
        *path = format!("${{{ROOT}}}/{rest}");
    }
}
