//! `mcpool health`: connects to every server and probes it once.

use mcpool::{Error, ProbeReport, ServerName};
use serde_json::{Value, json};

use super::Outcome;
use crate::{
    app::App,
    exit::Exit,
    render::{out, table},
    text,
};

/// Runs it.
pub(crate) async fn run(app: &App, server: Option<&str>) -> Outcome {
    let manager = app.configured(server).await?;
    let attempts = app.connect_all(manager).await;
    let checked = manager.health_check_all().await;
    // A server that did not connect says why by its connect, not by its probe.
    let results: Vec<(&ServerName, Result<ProbeReport, Error>)> = attempts
        .iter()
        .filter_map(|attempt| {
            let name = &attempt.server;
            match &attempt.result {
                Err(error) => Some((name, Err(error.clone()))),
                Ok(()) => {
                    let (_, result) = checked.iter().find(|(server, _)| server == name)?;
                    Some((name, result.clone()))
                }
            }
        })
        .collect();
    if app.global.json {
        let servers: Vec<Value> = results
            .iter()
            .map(|(name, result)| match result {
                Ok(report) => json!({
                    "name": name.as_str(),
                    "healthy": true,
                    "latency_us": u64::try_from(report.latency.as_micros()).ok(),
                    "method": report.method,
                    "error": null,
                }),
                Err(error) => json!({
                    "name": name.as_str(),
                    "healthy": false,
                    "latency_us": null,
                    "method": null,
                    "error": error,
                }),
            })
            .collect();
        out::document(&json!({ "servers": servers }))?;
    } else {
        let mut table = table::Table::new(&["NAME", "HEALTHY", "LATENCY", "BY", "ERROR"]);
        for (name, result) in &results {
            let cells = match result {
                Ok(report) => [
                    "yes".to_owned(),
                    table::milliseconds(report.latency),
                    json!(report.method).as_str().unwrap_or_default().to_owned(),
                    String::new(),
                ],
                Err(error) => [
                    "no".to_owned(),
                    "-".to_owned(),
                    "-".to_owned(),
                    error.message().to_owned(),
                ],
            };
            table.row(std::iter::once(name.as_str()).chain(cells.iter().map(String::as_str)));
        }
        out::print(&table.to_text_or(text!("no servers\n")))?;
    }
    let errors = results.iter().filter_map(|(_, r)| r.as_ref().err());
    Ok(app.overall(Exit::of_all(errors.map(Error::kind))))
}
