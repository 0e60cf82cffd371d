//! Docker MCP: a catalog, `registry` with an image or a URL for each server. An image is run by
//! `docker run`, its secrets are variables of the process. What is filled in from Docker's own
//! configuration, and the list of what is switched on there, only Docker's gateway can run.

use super::{Dialect, Found, Located, Place, Rules, USUAL, UserFile};
use crate::{
    document::{Member, Node, Value},
    template::Syntax,
};

pub(super) const RULES: Rules = Rules {
    dialect: Dialect::DockerMcp,
    name: "docker-mcp",
    title: "Docker MCP",
    syntax: Syntax::native(),
    user: &[UserFile::Home(".docker/mcp/registry.yaml")],
    names: &[
        ".docker/mcp/catalogs/*",
        "mcp/catalogs/*",
        "docker-mcp.yaml",
    ],
    locate,
    ..USUAL
};

fn locate(root: &Node, _: &Place<'_>) -> Located {
    let mut located = Located::first_of(root, &[&["registry"], &["mcpServers"]]).skipping(reason);
    for found in &mut located.entries {
        if let Some(node) = run(found) {
            found.node = node;
        }
    }
    located
}

fn reason(node: &Node) -> Option<&'static str> {
    if node.get("type").and_then(Node::as_str) == Some("poci") {
        return Some("it is a tool in a container, and no server");
    }
    if has_parameters(node) {
        return Some(
            "its values are set in Docker: `docker mcp gateway run` is the command that serves it",
        );
    }
    (node.get("ref").is_some() && node.get("image").is_none()).then_some(
        "it is switched on in Docker: `docker mcp gateway run` is the command that serves it",
    )
}

/// Whether what is run or reached holds `{{…}}`, which Docker fills in.
fn has_parameters(entry: &Node) -> bool {
    fn holds(node: &Node) -> bool {
        match &node.value {
            Value::String(text) => text.contains("{{"),
            Value::Array(items) => items.iter().any(holds),
            Value::Object(members) => members.iter().any(|member| holds(&member.value)),
            _ => false,
        }
    }
    ["image", "command", "env", "volumes", "user", "remote"]
        .iter()
        .any(|key| entry.get(key).is_some_and(holds))
}

/// The entry as a server of the usual form; `None` when it is one already.
fn run(found: &Found) -> Option<Node> {
    let entry = &found.node;
    let range = entry.range.clone();
    let member = |key: &str, value: Node| Member {
        key: key.to_owned(),
        key_range: found.name_range.clone(),
        value,
    };
    let mut members = Vec::new();
    if let Some(description) = entry.get("description") {
        members.push(member("description", description.clone()));
    }
    if let Some(remote) = entry
        .get("remote")
        .filter(|remote| remote.get("url").is_some())
    {
        members.extend(remote.members().iter().cloned());
        return Some(Node::new(range, Value::Object(members)));
    }
    let image = entry.get("image")?;
    let word = |text: &str| Node::new(image.range.clone(), Value::String(text.to_owned()));
    let mut args = vec![word("run"), word("-i"), word("--rm"), word("--init")];
    let mut env = Vec::new();
    let pairs = |key: &str| entry.get(key).map(Node::items).unwrap_or_default();
    for variable in pairs("env") {
        if let Some((name, value)) = variable.get("name").zip(variable.get("value")) {
            args.extend([word("-e"), name.clone()]);
            env.push(member(name.as_str()?, value.clone()));
        }
    }
    for secret in pairs("secrets") {
        if let Some(name) = secret.get("env") {
            args.extend([word("-e"), name.clone()]);
            let text = name.as_str()?;
            let value = Node::new(name.range.clone(), Value::String(format!("${{{text}}}")));
            env.push(member(text, value));
        }
    }
    for volume in pairs("volumes") {
        args.extend([word("-v"), volume.clone()]);
    }
    if let Some(user) = entry.get("user") {
        args.extend([word("-u"), user.clone()]);
    }
    args.push(image.clone());
    args.extend(pairs("command").iter().cloned());
    members.push(member("command", word("docker")));
    members.push(member("args", Node::new(range.clone(), Value::Array(args))));
    members.push(member("env", Node::new(range.clone(), Value::Object(env))));
    Some(Node::new(range, Value::Object(members)))
}
