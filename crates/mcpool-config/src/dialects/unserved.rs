//! What is said of a file that declares no servers.

use std::path::Path;

use super::{
    Dialect,
    located::{is_bare_map, is_server},
};
use crate::{
    document::{Node, Value},
    problem::{Problem, nearest},
};

/// The places for servers, by name.
const ROOTS: &[&str] = &[
    "mcpServers",
    "servers",
    "mcp_servers",
    "context_servers",
    "extensions",
    "mcp",
];

/// How deep servers are looked for that stand in an unusual place.
const DEPTH: usize = 4;

/// The problem for a document in which no place for entries was found.
pub(crate) fn problem(dialect: Dialect, root: &Node, path: Option<&Path>) -> Problem {
    if let Some(problem) = registry_entry(root).or_else(|| bundle_manifest(root)) {
        return problem;
    }
    let native = dialect == Dialect::Native;
    let near = root.members().iter().find_map(|member| {
        let near = nearest(&member.key, ROOTS.iter().copied())?;
        let meant = member.value.is_object() && !ROOTS.contains(&member.key.as_str());
        (meant && (native || is_bare_map(&member.value))).then_some((member.key.as_str(), near))
    });
    // A host's settings name commands of many kinds.
    let hidden = hidden_servers(root, DEPTH)
        .filter(|path| native || path.to_ascii_lowercase().contains("mcp"));
    if !native && root.is_object() && near.is_none() && hidden.is_none() {
        let title = dialect.title();
        let message = format!("the file has no section for MCP servers, as {title} writes it");
        // What is called after MCP and is not empty was meant to hold some.
        let is_for_mcp = path
            .and_then(Path::file_name)
            .is_some_and(|name| name.to_string_lossy().to_ascii_lowercase().contains("mcp"));
        if !is_for_mcp || root.members().iter().all(|member| member.key == "$schema") {
            return Problem::note("no-servers", message);
        }
        let key = match dialect {
            Dialect::VsCode => "servers",
            _ => "mcpServers",
        };
        let problem = Problem::warning("no-servers", message);
        return match dialect {
            Dialect::DockerMcp => problem,
            _ => problem.help(format!(
                "write `\"{key}\": {{ \"name\": {{ \"command\": … }} }}`"
            )),
        };
    }
    let message = match dialect {
        Dialect::Native => "the file declares no servers: `mcpServers` is missing".to_owned(),
        other => format!(
            "the file declares no servers in the way of {}",
            other.title()
        ),
    };
    let help = match (near, hidden) {
        (Some((key, root)), _) => format!("did you mean `{root}` instead of `{key}`?"),
        (None, Some(path)) => {
            format!("what looks like servers stands at `{path}`: put it at `mcpServers`")
        }
        (None, None) if !root.is_object() => {
            format!("the file must be an object, and is {}", root.type_name())
        }
        (None, None) => "write `\"mcpServers\": { \"name\": { \"command\": … } }`, or name the dialect with `--dialect`".to_owned(),
    };
    Problem::error("no-servers", message).help(help)
}

/// The path of keys to an object of servers that stands where nobody looks for it.
fn hidden_servers(node: &Node, depth: usize) -> Option<String> {
    if depth == 0 {
        return None;
    }
    node.members().iter().find_map(|member| {
        let value = &member.value;
        // The services of Docker Compose have commands as well.
        let is_compose = value
            .members()
            .iter()
            .any(|service| service.value.get("image").is_some());
        if !value.is_object() || is_compose {
            return None;
        }
        let simple = is_simple(&member.key).then_some(member.key.as_str());
        let key = simple.unwrap_or("…");
        if is_bare_map(value) || (is_server(value) && value.get("command").is_some()) {
            return Some(key.to_owned());
        }
        hidden_servers(value, depth - 1).map(|rest| format!("{key}.{rest}"))
    })
}

/// The description of a server for the MCP registry (`server.json`), which people take for a
/// configuration. The help is the command that would add it.
fn registry_entry(root: &Node) -> Option<Problem> {
    let text = |node: &Node, key: &str| node.get(key).and_then(Node::as_str).map(str::to_owned);
    let list = |key: &str| match root.get(key).map(|node| &node.value) {
        Some(Value::Array(items)) => items.as_slice(),
        _ => &[],
    };
    let by_schema =
        text(root, "$schema").is_some_and(|schema| schema.contains("server.schema.json"));
    let by_fields =
        root.get("name").is_some() && !(list("packages").is_empty() && list("remotes").is_empty());
    if !by_schema && !by_fields {
        return None;
    }
    let full = text(root, "name").unwrap_or_default();
    let name = full.rsplit('/').next().unwrap_or_default().to_owned();
    let package = list("packages").first().and_then(|package| {
        let what = text(package, "identifier").or_else(|| text(package, "name"))?;
        let version = text(package, "version");
        if !is_word(&what) || !version.as_deref().is_none_or(is_word) {
            return None;
        }
        let with = |sign: &str| match &version {
            Some(version) => format!("{what}{sign}{version}"),
            None => what.clone(),
        };
        let kind = text(package, "registryType").or_else(|| text(package, "registry_name"))?;
        Some(match kind.as_str() {
            "npm" => format!("-- npx -y {}", with("@")),
            "pypi" => format!("-- uvx {}", with("==")),
            "oci" | "docker" => format!("-- docker run -i --rm {what}"),
            "nuget" => format!("-- dnx {} --yes", with("@")),
            _ => return None,
        })
    });
    let remote = || {
        let remote = list("remotes").first()?;
        let url = text(remote, "url").filter(|url| is_word(url))?;
        let sse = text(remote, "type").is_some_and(|kind| kind == "sse");
        let transport = if sse { " --transport sse" } else { "" };
        Some(format!("--url {url}{transport}"))
    };
    let problem = Problem::error(
        "registry-entry",
        "this describes a server for the MCP registry, and is not a configuration",
    );
    let words = package.or_else(remote).filter(|_| is_simple(&name));
    Some(match words {
        Some(words) => problem.help(format!("`mcpool config add {name} {words}` adds it")),
        None => problem.help("`mcpool config add` adds a server by its command or its URL"),
    })
}

/// The manifest of an MCP bundle (`manifest.json`), which holds a command with the bundle's own
/// placeholders.
fn bundle_manifest(root: &Node) -> Option<Problem> {
    let is_manifest = ["manifest_version", "dxt_version"]
        .iter()
        .any(|key| root.member(key).is_some());
    let server = root.get("server").filter(|_| is_manifest)?;
    server
        .get("mcp_config")
        .or_else(|| server.get("entry_point"))?;
    Some(
        Problem::error(
            "bundle-manifest",
            "this is the manifest of an MCP bundle, and is not a configuration",
        )
        .help("`mcpool config add NAME -- COMMAND ARGS…` adds its server, with the bundle's folder in the place of `${__dirname}`"),
    )
}

/// Whether a text can be shown as one word of a command to be copied: nothing in it means
/// something to a shell.
fn is_word(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 300
        && !text.starts_with('-')
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_./:@+".contains(c))
}

fn is_simple(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 100
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}
