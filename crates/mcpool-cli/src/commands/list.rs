//! `mcpool list`: what is configured, where, on or off. Connects to nothing. An entry that cannot be
//! used is missing in it, and the exit code says so.

use std::collections::BTreeMap;

use mcpool::config::{Entry, Loaded};
use serde_json::{Value, json};

use super::Outcome;
use crate::{
    app::App,
    config_files,
    exit::Exit,
    off_thread::off_thread,
    render::{out, text::Text},
    text,
};

/// Runs it.
pub(crate) async fn run(app: &App) -> Outcome {
    let loader = config_files::loader(config_files::find(&app.global)?);
    let loaded = off_thread(move || loader.load()).await??;
    config_files::report(&app.global, &loaded.problems, None);
    let shown = loaded.to_json(true);
    if app.global.json {
        let entries = loaded.entries().iter();
        let servers: Vec<Value> = entries.map(|entry| to_json(entry, &shown)).collect();
        out::document(&json!({ "servers": servers }))?;
    } else {
        // In a pipe a row is whole.
        let columns = match out::is_terminal() {
            true => out::columns(),
            false => usize::MAX,
        };
        out::print(&to_text(&loaded, &shown, columns))?;
    }
    Ok(match loaded.has_errors() {
        true => Exit::Usage,
        false => Exit::Good,
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
fn to_text(loaded: &Loaded, shown: &Value, columns: usize) -> Text {
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
        let mut text = text!("{}\n", file);
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
