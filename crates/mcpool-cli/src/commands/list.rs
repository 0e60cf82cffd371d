//! `mcpool list`: what is configured, where, on or off. Connects to nothing. An entry that cannot be
//! used is missing in it, and the exit code says so.

use std::collections::{BTreeMap, BTreeSet};

use mcpool::{
    Error,
    config::{Admission, Entry, Loaded, TrustStore},
};
use serde_json::{Value, json};

use super::Outcome;
use crate::{
    app::App,
    config_files,
    exit::Exit,
    invocation::program,
    off_thread::off_thread,
    render::{out, text::Text},
    text,
};

/// Runs it.
pub(crate) async fn run(app: &App) -> Outcome {
    let loader = config_files::loader(config_files::find(&app.global)?);
    let (loaded, untrusted) = off_thread(move || with_trust(loader.load()?)).await??;
    config_files::report(&app.global, &loaded.problems, None);
    let shown = loaded.to_json(true);
    if app.global.json {
        let entries = loaded.entries().iter();
        let servers: Vec<Value> = entries
            .map(|entry| {
                let mut server = to_json(entry, &shown);
                server["trusted"] = json!(!untrusted.contains(entry.name.as_str()));
                server
            })
            .collect();
        out::document(&json!({ "servers": servers }))?;
    } else {
        // In a pipe a row is whole.
        let columns = match out::is_terminal() {
            true => out::columns(),
            false => usize::MAX,
        };
        out::print(&to_text(&loaded, &untrusted, &shown, columns))?;
    }
    Ok(match loaded.has_errors() {
        true => Exit::Usage,
        false => Exit::Good,
    })
}

/// What was loaded, with the servers disabled that a person said no to, and the names of those of
/// the project that nobody has approved. Blocks.
fn with_trust(loaded: Loaded) -> Result<(Loaded, BTreeSet<String>), Error> {
    let mut entries = loaded.entries().iter();
    if !entries.any(|entry| entry.origin.project_file().is_some()) {
        return Ok((loaded, BTreeSet::new()));
    }
    Ok(match TrustStore::of_user()?.admit(&loaded)? {
        Admission::Granted(admitted) => (*admitted, BTreeSet::new()),
        Admission::Asked(requests) => {
            let actions = requests.into_iter().flat_map(|request| request.actions);
            let names = actions.map(|action| action.server).collect();
            (loaded, names)
        }
        _ => (loaded, BTreeSet::new()),
    })
}

fn to_json(entry: &Entry, shown: &Value) -> Value {
    let mut server = json!({"name": entry.name.as_str()});
    let fields = shown["servers"][entry.name.as_str()].as_object();
    if let (Some(server), Some(fields)) = (server.as_object_mut(), fields) {
        server.extend(fields.clone());
    }
    server
}

/// The servers of each file, below its name.
fn to_text(loaded: &Loaded, untrusted: &BTreeSet<String>, shown: &Value, columns: usize) -> Text {
    if loaded.entries().is_empty() {
        let files = loaded.sources().iter().map(|file| text!("{}", file.name()));
        let files = Text::join(files, ", ");
        return match loaded.has_errors() {
            true => text!("no server of {} can be used\n", files),
            false => text!("no servers in {}\n", files),
        };
    }
    let mut files: Vec<(String, Vec<&Entry>)> = Vec::new();
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    for entry in loaded.entries() {
        let file = match &entry.origin.span {
            Some(span) => format!("{} ({})", span.source().name(), entry.origin.scope),
            None => entry.origin.scope.to_string(),
        };
        let place = *places.entry(file.clone()).or_insert(files.len());
        match files.get_mut(place) {
            Some((_, entries)) => entries.push(entry),
            None => files.push((file, vec![entry])),
        }
    }
    let name = |entry: &Entry| text!("{}", entry.name);
    let width = |entry: &&Entry| name(entry).as_str().chars().count();
    let names = loaded.entries().iter();
    let widest = names.map(|entry| width(&entry)).max().unwrap_or_default();
    let groups = files.iter().map(|(file, entries)| {
        let mut text = text!("{}", file);
        if entries
            .iter()
            .any(|entry| untrusted.contains(entry.name.as_str()))
        {
            text.push(&text!(
                ": not trusted, and so not used; `{} trust` shows what it would do",
                program()
            ));
        }
        text.push(&text!("\n"));
        for entry in entries {
            let server = &shown["servers"][entry.name.as_str()];
            let pad = " ".repeat(widest.saturating_sub(width(entry)));
            let row = text!(
                "  {}{}  {:<3}  {:<5}  {}",
                name(entry),
                pad,
                if entry.spec.enabled { "on" } else { "off" },
                entry.spec.transport.as_str(),
                config_files::reached_by(server),
            );
            text.push(&row.clipped(columns));
            text.push(&text!("\n"));
        }
        text
    });
    Text::join(groups, "\n")
}
