//! `mcpool tools [SERVER]`: the tools of all servers, or of one.

use mcpool::{Error, Refresh};
use serde_json::{Value, json};

use super::Outcome;
use crate::{
    app::App,
    render::{out, table},
};

/// Runs it.
pub(crate) async fn run(app: &App, server: Option<&str>) -> Outcome {
    let manager = app.configured(server).await?;
    let attempts = app.connect_all(manager).await;
    let snapshot = manager.tools(Refresh::IfStale).await;
    if app.global.json {
        let entries = snapshot.entries.iter();
        let tools: Vec<Value> = entries
            .map(|entry| {
                json!({
                    "server": entry.server.as_str(),
                    "name": &*entry.name,
                    "qualified_name": &*entry.qualified_name,
                    "description": entry.tool.description,
                    "input_schema": entry.tool.input_schema,
                })
            })
            .collect();
        out::answer(&json!({ "tools": tools }))?;
    } else {
        let mut table =
            table::Table::of_answers(&["SERVER", "TOOL", "QUALIFIED NAME", "DESCRIPTION"]);
        for entry in snapshot.entries.iter() {
            let description = entry.tool.description.as_deref().unwrap_or_default();
            table.row([
                entry.server.as_str(),
                &entry.name,
                &entry.qualified_name,
                table::summary(description),
            ]);
        }
        out::print(&table.to_text())?;
    }
    let exit = app.report_attempts(&attempts);
    // What did not connect is reported; what connected and does not list its tools is left.
    let failed: Vec<Error> = snapshot
        .problems
        .iter()
        .filter(|(name, _)| {
            let attempt = attempts.iter().find(|attempt| attempt.server == *name);
            attempt.is_none_or(|attempt| attempt.result.is_ok())
        })
        .map(|(_, error)| error.clone())
        .collect();
    super::report_lists(app, exit, &failed)
}
