//! Files as people have them: every row is a folder with a small file and `must.json`, which says
//! what it must give. `ROW` in it is the row's own folder.
//!
//! | key of `must.json` | meaning |
//! |---|---|
//! | `file` | the file to read |
//! | `dialect` | what it must be recognised as |
//! | `servers` | by name, fields that `config show` must give; `null` for a field that must not be there |
//! | `absent` | servers that must not be there |
//! | `resolved` | by name, what is connected: command and arguments or URL, then variables or headers, then `cwd=` where the file names one |
//! | `unresolved` | by name, what the error of connecting must say, and must not |
//! | `missing` | by name, what `config check` must say of an unset variable, and must not |
//! | `problems` | every problem: its severity, code and server, and what it must say and must not |

use std::path::{Path, PathBuf};

use mcpool_config::{Folders, Loaded, Loader};
use mcpool_core::{Secret, ServerSpec, TransportSpec};
use serde_json::Value;

fn rows() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/rows");
    let mut rows: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    rows.sort();
    rows
}

/// What does not fit, in words; empty when all is as it must be.
async fn check(row: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(row.join("must.json")).unwrap();
    let text = text.replace("ROW", &row.to_string_lossy());
    let must: Value = serde_json::from_str(&text).unwrap();
    let mut wrong = Vec::new();
    let loaded = Loader::new()
        .with_file(row.join(must["file"].as_str().unwrap()))
        .with_folders(Folders::below("/home/me").with_workspace("/work/elsewhere"))
        .with_env([("KEY", "canary-key"), ("HOME", "/home/me")])
        .load()
        .unwrap();
    if let Some(dialect) = must["dialect"].as_str() {
        for entry in loaded.entries() {
            let is = entry.origin.dialect.unwrap();
            if is.as_str() != dialect {
                wrong.push(format!("{} is read as {is}", entry.name));
            }
        }
    }
    let shown = &loaded.to_json(false)["servers"];
    for (server, fields) in must["servers"].as_object().unwrap() {
        if shown.get(server).is_none() {
            wrong.push(format!("{server} is not there"));
        }
        for (field, value) in fields.as_object().unwrap() {
            if shown[server][field] != *value {
                wrong.push(format!("{server}.{field} is {}", shown[server][field]));
            }
        }
    }
    for server in must["absent"].as_array().into_iter().flatten() {
        if shown.get(server.as_str().unwrap()).is_some() {
            wrong.push(format!("{server} is there"));
        }
    }
    for (server, want) in must["resolved"].as_object().into_iter().flatten() {
        match loaded.entry(server) {
            Some(entry) => match entry.spec.resolved().await {
                Ok(mut spec) => {
                    forget_default_cwd(&entry.spec, &mut spec);
                    let got = words(&spec);
                    if serde_json::json!(got) != *want {
                        wrong.push(format!("{server} is connected by {got:?}"));
                    }
                }
                Err(error) => wrong.push(format!("{server}: {error}")),
            },
            None => wrong.push(format!("{server} is not there")),
        }
    }
    for (server, want) in must["unresolved"].as_object().into_iter().flatten() {
        let spec = &loaded.entry(server).unwrap().spec;
        let error = spec.resolved().await.unwrap_err().to_string();
        wrong.extend(says(&error, want));
    }
    for (server, want) in must["missing"].as_object().into_iter().flatten() {
        let entry = loaded.entry(server).unwrap();
        let problems = entry.missing_variables().await;
        let rendered: String = problems.iter().map(|problem| problem.render()).collect();
        wrong.extend(says(&rendered, want));
    }
    wrong.extend(problems(&loaded, must["problems"].as_array().unwrap()));
    wrong
}

/// Leaves out the directory that no file names: see `trusting.rs` for where a server then starts.
fn forget_default_cwd(written: &ServerSpec, resolved: &mut ServerSpec) {
    if let (TransportSpec::Stdio(written), TransportSpec::Stdio(resolved)) =
        (&written.transport, &mut resolved.transport)
        && written.cwd.is_none()
    {
        resolved.cwd = None;
    }
}

/// What a spec connects to, in words, and where it starts.
fn words(spec: &ServerSpec) -> Vec<String> {
    let mut words = reached(spec);
    if let TransportSpec::Stdio(stdio) = &spec.transport {
        let cwd = stdio.cwd.iter();
        words.extend(cwd.map(|cwd| format!("cwd={}", cwd.to_string_lossy())));
    }
    words
}

/// The program, its arguments and variables, or the address and the headers.
pub(crate) fn reached(spec: &ServerSpec) -> Vec<String> {
    let pair = |name: &String, value: &Secret| format!("{name}={}", value.expose());
    match &spec.transport {
        TransportSpec::Stdio(stdio) => std::iter::once(stdio.command.clone())
            .chain(stdio.args.iter().cloned())
            .chain(stdio.env.iter().map(|(name, value)| pair(name, value)))
            .collect(),
        TransportSpec::Http(http) | TransportSpec::Sse(http) | TransportSpec::Auto(http) => {
            std::iter::once(http.url.clone())
                .chain(http.headers.iter().map(|(name, value)| pair(name, value)))
                .collect()
        }
        _ => panic!("{spec:?}"),
    }
}

fn says(text: &str, want: &Value) -> Vec<String> {
    let all = |key: &str| -> Vec<String> {
        let texts = want[key].as_array().into_iter().flatten();
        texts
            .map(|text| text.as_str().unwrap().to_owned())
            .collect()
    };
    let silent = all("says").into_iter().filter(|part| !text.contains(part));
    let mut wrong: Vec<String> = silent
        .map(|part| format!("{part:?} is not said: {text}"))
        .collect();
    let loud = all("silent").into_iter().filter(|part| text.contains(part));
    wrong.extend(loud.map(|part| format!("{part:?} is said: {text}")));
    wrong
}

fn problems(loaded: &Loaded, want: &[Value]) -> Vec<String> {
    let mut left: Vec<_> = loaded.problems.iter().collect();
    let mut wrong = Vec::new();
    for want in want {
        let found = left.iter().position(|problem| {
            let place = problem.span.as_ref().map(|span| span.position());
            let at = place.map(|at| format!("{}:{}", at.line, at.column));
            let words = format!("{} {:?}", problem.message, problem.help);
            let words = words.replace("\\\"", "\"");
            problem.severity.as_str() == want["severity"]
                && problem.code == want["code"]
                && problem.server.as_deref() == want["server"].as_str()
                && (want["at"].is_null() || at.as_deref() == want["at"].as_str())
                && says(&words, want).is_empty()
        });
        match found {
            Some(index) => drop(left.remove(index)),
            None => wrong.push(format!("not said: {want}")),
        }
    }
    wrong.extend(
        left.iter()
            .map(|problem| format!("said besides: {}", problem.render())),
    );
    wrong
}

#[tokio::test]
async fn every_row_is_as_it_must_be() {
    let rows = rows();
    assert!(rows.len() >= 38, "{}", rows.len());
    let mut wrong = Vec::new();
    for row in rows {
        let name = row.file_name().unwrap().to_string_lossy().into_owned();
        for what in check(&row).await {
            wrong.push(format!("{name}: {what}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
