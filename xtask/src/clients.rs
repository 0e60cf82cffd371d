//! `cargo xtask clients`: clients of other makers at the gateway, over both of its carriers, with
//! a server of either era behind it.
//!
//! A client does what `tests/clients` says (list, call, progress, cancel, elicitation, a server
//! that dies); a program that can only list and call does that.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use crate::{
    Outcome,
    programs::{self, binary, gateway},
    servers,
    tools::{find, root, target},
};

const DOCUMENT: &str = "docs/clients.md";

/// The SDKs of the JavaScript clients.
const TYPESCRIPT: &[&str] = &[
    "@modelcontextprotocol/sdk@1.32.2",
    "@modelcontextprotocol/client@2.4.0",
];
/// Programs, and the Node that they want.
const PROGRAMS: &[&str] = &[
    "mcporter@0.12.3",
    "@modelcontextprotocol/inspector@2.12.0",
    "node@24",
];
/// FastMCP: a client, and a proxy that the gateway is measured beside.
pub(crate) const FASTMCP: &[&str] = &["fastmcp==4.2.3"];

/// The server behind the gateway: its name in the table, and the SDK that it is built with.
const UPSTREAMS: [(&str, &str); 2] = [("2025-11-25", "python-sdk1"), ("2026-07-28", "python-sdk2")];
const CARRIERS: [Carrier; 2] = [Carrier::Http, Carrier::Stdio];

/// What a client has to show, in the order of `tests/clients`.
const CHECKS: &[&str] = &[
    "list",
    "call",
    "progress",
    "cancel",
    "elicitation",
    "reconnect",
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Carrier {
    Http,
    Stdio,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A script for Node, and its MODE.
    Node(&'static str, &'static str),
    /// The environment of the SDK, and its MODE.
    PythonSdk(&'static str, &'static str),
    FastMcp,
    Mcporter,
    Inspector,
}

struct Client {
    name: &'static str,
    kind: Kind,
}

const CLIENTS: &[Client] = &[
    Client {
        name: "TypeScript SDK 1.32",
        kind: Kind::Node("typescript1.mjs", ""),
    },
    Client {
        name: "TypeScript SDK 2.4, legacy",
        kind: Kind::Node("typescript2.mjs", "legacy"),
    },
    Client {
        name: "TypeScript SDK 2.4, auto",
        kind: Kind::Node("typescript2.mjs", "auto"),
    },
    Client {
        name: "Python SDK 1.30",
        kind: Kind::PythonSdk("python-sdk1", ""),
    },
    Client {
        name: "Python SDK 2.3, legacy",
        kind: Kind::PythonSdk("python-sdk2", "legacy"),
    },
    Client {
        name: "Python SDK 2.3, auto",
        kind: Kind::PythonSdk("python-sdk2", "auto"),
    },
    Client {
        name: "FastMCP 4.2",
        kind: Kind::FastMcp,
    },
    Client {
        name: "mcporter 0.12",
        kind: Kind::Mcporter,
    },
    Client {
        name: "Inspector 2.12, CLI",
        kind: Kind::Inspector,
    },
];

/// What one client showed at one server over one carrier.
#[derive(Debug, Default)]
struct Shown {
    version: Option<String>,
    good: usize,
    wanted: usize,
    failures: Vec<String>,
}

/// `[--update] [PATTERN…]`: a pattern is a part of "client, carrier, era".
pub(crate) fn run(args: &[String]) -> Outcome {
    let update = args.iter().any(|arg| arg == "--update");
    let patterns: Vec<&String> = args.iter().filter(|arg| !arg.starts_with("--")).collect();
    let wanted = |label: &str| {
        patterns.is_empty() || patterns.iter().any(|pattern| label.contains(*pattern))
    };
    run_those(&wanted, update && patterns.is_empty())
}

/// A part of it that takes less than a minute: both makers' SDKs, each carrier, each era.
pub(crate) fn sample() -> Outcome {
    let sample = [
        "TypeScript SDK 2.4, auto, http, 2025-11-25",
        "Python SDK 2.3, auto, stdio, 2025-11-25",
        "TypeScript SDK 1.32, stdio, 2026-07-28",
        "Python SDK 1.30, http, 2026-07-28",
    ];
    run_those(&|label| sample.contains(&label), false)
}

fn run_those(wanted: &dyn Fn(&str) -> bool, update: bool) -> Outcome {
    let mut cells: BTreeMap<(usize, usize), Shown> = BTreeMap::new();
    let mut failures = Vec::new();
    let mut is_built = false;
    for (row, client) in CLIENTS.iter().enumerate() {
        for (column, (carrier, (era, sdk))) in columns().enumerate() {
            let label = format!("{}, {}, {era}", client.name, carrier.as_str());
            if !wanted(&label) {
                continue;
            }
            if !is_built {
                programs::build()?;
                is_built = true;
            }
            let shown = show(client, carrier, sdk)?;
            eprintln!("  {label}: {} of {}", shown.good, shown.wanted);
            failures.extend(shown.failures.iter().map(|why| format!("{label}: {why}")));
            cells.insert((row, column), shown);
        }
    }
    if cells.is_empty() {
        return Err("no client has such a name".to_owned());
    }
    let table = table(&cells);
    println!("\n{table}");
    for failure in &failures {
        println!("{failure}");
    }
    if update {
        fs::write(root().join(DOCUMENT), document(&table))
            .map_err(|error| format!("{DOCUMENT}: {error}"))?;
    }
    match failures.as_slice() {
        [] => Ok(()),
        failures => Err(format!("{} checks failed", failures.len())),
    }
}

fn columns() -> impl Iterator<Item = (Carrier, (&'static str, &'static str))> {
    UPSTREAMS
        .into_iter()
        .flat_map(|upstream| CARRIERS.into_iter().map(move |carrier| (carrier, upstream)))
}

impl Carrier {
    fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Stdio => "stdio",
        }
    }
}

/// Starts a gateway of its own for one client, and lets the client do what it has to.
fn show(client: &Client, carrier: Carrier, sdk: &str) -> Outcome<Shown> {
    let home = target().join("clients");
    let scripts = copied_scripts(&home)?;
    let journal = home.join("journal");
    write(&journal, "")?;
    let config = home.join("upstream.json");
    let python = servers::python(sdk)?;
    let upstream = json!({
        "command": python,
        "args": [scripts.join("upstream.py"), journal],
    });
    write(
        &config,
        &json!({"mcpServers": {"up": upstream}}).to_string(),
    )?;
    let (_gateway, address) = match carrier {
        Carrier::Http => {
            let (running, address) = gateway(&config, &[])?;
            (Some(running), Some(format!("{address}/mcp")))
        }
        Carrier::Stdio => (None, None),
    };
    let served = Served {
        url: address,
        stdio: vec![
            binary("mcpool").display().to_string(),
            "--config".to_owned(),
            config.display().to_string(),
            "serve".to_owned(),
            "--stdio".to_owned(),
        ],
    };
    match client.kind {
        Kind::Node(script, mode) => {
            servers::install_node(&scripts, TYPESCRIPT)?;
            let node = find("node").ok_or("node is not in PATH")?;
            scripted(&node, &scripts.join(script), mode, &journal, &served)
        }
        Kind::PythonSdk(environment, mode) => {
            let python = servers::python(environment)?;
            let script = scripts.join("python_sdk.py");
            scripted(&python, &script, mode, &journal, &served)
        }
        Kind::FastMcp => {
            let environment = home.join("fastmcp");
            servers::install_python(&environment, FASTMCP)?;
            let python = servers::venv_python(&environment);
            let script = scripts.join("fastmcp_client.py");
            scripted(&python, &script, "", &journal, &served)
        }
        Kind::Mcporter => program(&home, &served, |entry, config| {
            let base = ["mcporter/dist/cli.js", "--config", config];
            let list = [&base[..], &["list", entry, "--json"]].concat();
            let tool = format!("{entry}.up__add");
            let call = [
                &base[..],
                &["call", &tool, "a=2", "b=3", "--output", "json"],
            ]
            .concat();
            [list, call].map(|args| args.into_iter().map(str::to_owned).collect())
        }),
        Kind::Inspector => program(&home, &served, |entry, config| {
            let base = [
                "@modelcontextprotocol/inspector/clients/launcher/build/index.js",
                "--cli",
                "--config",
                config,
                "--server",
                entry,
                "--method",
            ];
            let list = [&base[..], &["tools/list"]].concat();
            let call = [
                "tools/call",
                "--tool-name",
                "up__add",
                "--tool-arg",
                "a=2",
                "--tool-arg",
                "b=3",
            ];
            let call = [&base[..], &call[..]].concat();
            [list, call].map(|args| args.into_iter().map(str::to_owned).collect())
        }),
    }
}

/// Where the gateway is reached.
struct Served {
    /// Over HTTP; absent when the client starts it.
    url: Option<String>,
    stdio: Vec<String>,
}

/// Runs a script of `tests/clients` and reads what it says of each check.
fn scripted(
    interpreter: &Path,
    script: &Path,
    mode: &str,
    journal: &Path,
    served: &Served,
) -> Outcome<Shown> {
    let mut command = Command::new(interpreter);
    command.arg(script).arg(journal).env("MODE", mode);
    match &served.url {
        Some(url) => command.arg(url),
        None => command.arg("--").args(&served.stdio),
    };
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .map_err(|error| format!("{}: {error}", interpreter.display()))?;
    let said = String::from_utf8_lossy(&output.stdout);
    let mut shown = Shown {
        wanted: CHECKS.len(),
        ..Shown::default()
    };
    let mut seen = Vec::new();
    for line in said.lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_default();
        if let Some(version) = line["version"].as_str() {
            shown.version = Some(version.to_owned());
        }
        let Some(check) = line["check"].as_str() else {
            continue;
        };
        seen.push(check.to_owned());
        match line["failure"].as_str() {
            None => shown.good += 1,
            Some(failure) => shown.failures.push(format!("{check}: {failure}")),
        }
    }
    let missing = CHECKS
        .iter()
        .filter(|check| !seen.iter().any(|s| s == *check));
    let error = String::from_utf8_lossy(&output.stderr);
    let last = error
        .lines()
        .rfind(|line| !line.trim().is_empty())
        .unwrap_or("no word");
    shown
        .failures
        .extend(missing.map(|check| format!("{check}: not run ({last})")));
    Ok(shown)
}

/// Runs a program that lists, and one that calls, by a config file of its own.
fn program(
    home: &Path,
    served: &Served,
    args: impl Fn(&str, &str) -> [Vec<String>; 2],
) -> Outcome<Shown> {
    let programs = home.join("programs");
    servers::install_node(&programs, PROGRAMS)?;
    let modules = programs.join("node_modules");
    let node = modules.join("node/bin/node");
    let entry = match &served.url {
        Some(url) => json!({"type": "streamable-http", "url": url}),
        None => json!({"type": "stdio", "command": served.stdio[0], "args": served.stdio[1..]}),
    };
    let config = home.join("gateway.json");
    write(
        &config,
        &json!({"mcpServers": {"gateway": entry}}).to_string(),
    )?;
    let mut shown = Shown {
        wanted: 2,
        ..Shown::default()
    };
    let commands = args("gateway", &config.display().to_string());
    for (check, args) in ["list", "call"].into_iter().zip(commands) {
        let (script, args) = args.split_first().ok_or("a program without a name")?;
        let output = Command::new(&node)
            .arg(modules.join(script))
            .args(args)
            .current_dir(home)
            .stdin(Stdio::null())
            .output()
            .map_err(|error| format!("{}: {error}", node.display()))?;
        let said = String::from_utf8_lossy(&output.stdout);
        let is_good = match serde_json::from_str::<Value>(&said) {
            Ok(list) if check == "list" => {
                let tools = list["tools"].as_array().map(Vec::len);
                tools == Some(5) && list["tools"][0]["name"] == "up__add"
            }
            // One shows the whole result, one what is structured of it.
            Ok(result) => result["result"] == 5 || result["structuredContent"]["result"] == 5,
            Err(_) => false,
        };
        match is_good && output.status.success() {
            true => shown.good += 1,
            false => shown.failures.push(format!(
                "{check}: {} {}",
                said.chars().take(300).collect::<String>(),
                String::from_utf8_lossy(&output.stderr)
                    .chars()
                    .take(300)
                    .collect::<String>()
            )),
        }
    }
    Ok(shown)
}

/// The scripts, beside the packages that they import.
fn copied_scripts(home: &Path) -> Outcome<PathBuf> {
    let to = home.join("scripts");
    fs::create_dir_all(&to).map_err(|error| format!("{}: {error}", to.display()))?;
    let from = root().join("tests/clients");
    let entries = fs::read_dir(&from).map_err(|error| format!("{}: {error}", from.display()))?;
    for entry in entries {
        let entry = entry.map_err(|error| format!("{}: {error}", from.display()))?;
        fs::copy(entry.path(), to.join(entry.file_name()))
            .map_err(|error| format!("{}: {error}", entry.path().display()))?;
    }
    Ok(to)
}

fn write(path: &Path, text: &str) -> Outcome {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    }
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

fn table(cells: &BTreeMap<(usize, usize), Shown>) -> String {
    let mut table = String::from("| client | speaks |");
    for (carrier, (era, _)) in columns() {
        let _ = write!(table, " {}, server of {era} |", carrier.as_str());
    }
    table.push_str("\n|---|---|---|---|---|---|\n");
    for (row, client) in CLIENTS.iter().enumerate() {
        let of_row: Vec<_> = cells.iter().filter(|((at, _), _)| *at == row).collect();
        if of_row.is_empty() {
            continue;
        }
        let version = of_row
            .iter()
            .find_map(|(_, shown)| shown.version.as_deref());
        let _ = write!(table, "| {} | {} |", client.name, version.unwrap_or("–"));
        for column in 0..columns().count() {
            let _ = match cells.get(&(row, column)) {
                Some(shown) => write!(table, " {} of {} |", shown.good, shown.wanted),
                None => write!(table, " not run |"),
            };
        }
        table.push('\n');
    }
    table
}

fn document(table: &str) -> String {
    format!(
        "# Clients at the gateway\n\n\
         `cargo xtask clients` runs clients of other makers at `mcpool serve`, over Streamable HTTP \
         and over stdio, with a server behind it that is built with the Python SDK 1.x (sessions, up to \
         2025-11-25) or 2.x (2026-07-28 as well). An SDK does six things: it lists the tools, calls \
         one, gets its progress, cancels a call (and the server is notified), answers a question of the \
         server (elicitation), and calls on after the server was killed. A program lists and calls. \
         Written by `cargo xtask clients --update`.\n\n{table}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_check_of_the_scripts_is_wanted() {
        for script in ["checks.mjs", "checks.py"] {
            let text = fs::read_to_string(root().join("tests/clients").join(script)).unwrap();
            for check in CHECKS {
                assert!(text.contains(check), "{script} lacks {check}");
            }
        }
    }
}
