//! `mcpool status`: connects to every server and shows how it went.

use mcpool::{ConnectionManager, Error, Refresh, ServerStatus, StateKind, TransportKind};
use serde_json::{Value, json};

use super::Outcome;
use crate::{
    app::{App, Attempt},
    exit::Exit,
    render::{out, table, text::Text},
    text,
};

/// One line of the table.
struct Row {
    status: ServerStatus,
    error: Option<Error>,
}

impl Row {
    fn ready(&self) -> bool {
        self.status.state == StateKind::Ready
    }
}

/// Runs it.
pub(crate) async fn run(app: &App) -> Outcome {
    let manager = app.configured(None).await?;
    let attempts = app.connect_all(manager).await;
    let rows = rows(manager, &attempts).await;
    if app.global.json {
        let servers: Vec<Value> = rows.iter().map(row_json).collect();
        out::document(&json!({ "servers": servers }))?;
    } else {
        out::print(&rows_text(&rows))?;
    }
    let errors = rows.iter().filter_map(|row| row.error.as_ref());
    Ok(app.overall(Exit::of_all(errors.map(Error::kind))))
}

/// The status table of a manager as it is now, for other commands.
pub(crate) async fn table_now(manager: &ConnectionManager) -> Text {
    rows_text(&rows(manager, &[]).await)
}

async fn rows(manager: &ConnectionManager, attempts: &[Attempt]) -> Vec<Row> {
    // A server that is connected and does not list its tools is broken as well.
    let snapshot = manager.tools(Refresh::IfStale).await;
    let row = |status: ServerStatus| {
        let attempt = attempts
            .iter()
            .find(|attempt| attempt.server == status.name)
            .and_then(|attempt| attempt.result.as_ref().err());
        let list = snapshot
            .problems
            .iter()
            .find(|(server, _)| *server == status.name)
            .map(|(_, error)| error);
        let error = attempt.or(list.filter(|_| status.enabled)).cloned();
        Row { status, error }
    };
    manager.status_all().into_iter().map(row).collect()
}

fn row_json(row: &Row) -> Value {
    let status = &row.status;
    json!({
        "name": status.name.as_str(),
        "state": status.state,
        "transport": status.transport,
        "protocol": status.protocol,
        "tools": row.ready().then_some(status.tools),
        "connect_ms": status.connect_time.map(|took| u64::try_from(took.as_millis()).ok()),
        "error": row.error.as_ref(),
    })
}

fn rows_text(rows: &[Row]) -> Text {
    let mut table = table::Table::new(&[
        "NAME",
        "STATE",
        "TRANSPORT",
        "PROTOCOL",
        "TOOLS",
        "CONNECT",
        "ERROR",
    ]);
    for row in rows {
        let status = &row.status;
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        table.row([
            status.name.as_str(),
            status.state.as_str(),
            status.transport.map_or("-", TransportKind::as_str),
            &or_dash(status.protocol.as_ref().map(ToString::to_string)),
            &or_dash(row.ready().then(|| status.tools.to_string())),
            &or_dash(status.connect_time.map(table::milliseconds)),
            row.error.as_ref().map_or("", Error::message),
        ]);
    }
    let mut text = table.to_text();
    for row in rows {
        let tail = row.error.as_ref().map_or(&[][..], Error::stderr_tail);
        if tail.is_empty() {
            continue;
        }
        text.push(&text!("\n{}: last lines of stderr\n", row.status.name));
        for line in tail.iter().rev().take(STDERR_LINES).rev() {
            text.push(&text!("  {}\n", line));
        }
    }
    text
}

/// How many lines of a broken server's stderr are shown.
const STDERR_LINES: usize = 5;
