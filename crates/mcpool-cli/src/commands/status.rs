//! `mcpool status`: connects to every server and shows how it went.

#[cfg(any(feature = "nats", all(unix, feature = "gateway")))]
use std::time::Duration;

use clap::Args;
use mcpool::{
    ConnectionManager, Error, ErrorKind, Refresh, ServerStatus, StateKind, TransportKind,
};
use serde_json::{Value, json};

use super::{Outcome, left_out};
#[cfg(feature = "nats")]
use crate::exit::Failure;
use crate::{
    app::{App, Attempt},
    exit::Exit,
    invocation::program,
    render::{out, problems::counted, table, text::Text},
    text,
    verdict::{self, Verdict},
};

/// `mcpool status`
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Only this server
    pub(crate) server: Option<String>,
    /// Show the workers of this pool too
    #[cfg(feature = "nats")]
    #[command(flatten)]
    nats: crate::nats::NatsArgs,
}

/// How long workers have to say that they are here.
#[cfg(feature = "nats")]
const FLEET_TIMEOUT: Duration = Duration::from_secs(1);

/// One line of the table.
struct Row {
    status: ServerStatus,
    error: Option<Error>,
    verdict: Option<Verdict>,
}

impl Row {
    fn ready(&self) -> bool {
        self.status.state == StateKind::Ready
    }

    /// How it is, in a word for people. One that was tried and is not connected has failed,
    /// whatever the manager would do about it if the command went on.
    fn word(&self) -> &'static str {
        match self.error.as_ref().map(Error::kind) {
            _ if !self.status.enabled => return "disabled",
            Some(ErrorKind::AuthRequired) => return "login needed",
            // No login helps there, whatever it is that the manager waits for.
            Some(ErrorKind::Forbidden) => return "forbidden",
            Some(_) => return "failed",
            None => {}
        }
        match self.status.state {
            StateKind::AuthRequired => "login needed",
            StateKind::Ready => "ready",
            StateKind::Connecting => "connecting",
            StateKind::Backoff => "reconnecting",
            StateKind::Dormant => "failed",
            _ => "not connected",
        }
    }
}

/// Runs it.
pub(crate) async fn run(app: &App, args: StatusArgs) -> Outcome {
    #[cfg(feature = "nats")]
    let (asked, missing) = match fleet(app, &args).await {
        Ok(asked) => (asked, None),
        // The servers of the config are shown all the same, unless their logins are in NATS.
        Err(failure)
            if failure.exit() == Exit::Unreachable
                && app.has_config()
                && !args.nats.keeps_tokens() =>
        {
            out::tell(&text!("{}\n", failure.to_text()));
            (None, Some(failure.exit()))
        }
        Err(failure) => return Err(failure),
    };
    #[cfg(feature = "nats")]
    if let Some(fleet) = asked.as_ref().filter(|_| args.server.is_none())
        && !app.has_config()
    {
        // All servers are at workers.
        return match app.global.json {
            true => out::document(&json!({ "servers": [], "fleet": fleet })),
            false => out::print(&crate::fleet::table(fleet, out::columns())),
        };
    }
    let server = args.server.as_deref();
    let manager = app.configured(server).await?;
    let attempts = app.connect_all(manager).await;
    let mut rows = rows(manager, &attempts).await;
    for row in &mut rows {
        let spec = manager.server(row.status.name.as_str())?.spec()?;
        let access = app.access(&spec.name);
        let judge = |error: &Error| verdict::on(&spec, error, access);
        row.verdict = row.error.as_ref().map(judge);
        #[cfg(all(unix, feature = "gateway"))]
        if let Some(seen) = app.lent(row.status.name.as_str()) {
            // How the gateway has it, not how the gateway is reached.
            row.status.transport = seen.transport;
            row.status.protocol.clone_from(&seen.protocol);
            row.status.connect_time = seen.connect_ms.map(Duration::from_millis);
        }
    }
    // Of the pool that was named, or of the gateway that runs.
    #[cfg(feature = "gateway")]
    let fleet: Option<&mcpool::gateway::Fleet> = None;
    #[cfg(all(unix, feature = "gateway"))]
    let fleet = fleet.or(app.fleet());
    #[cfg(feature = "nats")]
    let fleet = asked.as_ref().or(fleet);
    if app.global.json {
        let servers: Vec<Value> = rows.iter().map(row_json).collect();
        #[cfg_attr(not(feature = "gateway"), expect(unused_mut, reason = "no fleet"))]
        let mut document = json!({ "servers": servers });
        #[cfg(feature = "gateway")]
        if let (Some(fleet), Some(document)) = (fleet, document.as_object_mut()) {
            document.insert("fleet".to_owned(), json!(fleet));
        }
        out::document(&document)?;
    } else if rows.is_empty() && app.overall(Exit::Good) != Exit::Good {
        out::print(&text!(
            "no server of the config can be used: `{} config check` says why\n",
            program()
        ))?;
    } else {
        out::print(&rows_text(&rows, out::columns()))?;
    }
    #[cfg(feature = "gateway")]
    if let Some(fleet) = fleet.filter(|_| !app.global.json) {
        out::print(&text!("\n"))?;
        out::print(&crate::fleet::table(fleet, out::columns()))?;
    }
    left_out::tell(&left_out::of_tools(manager).await);
    for Row { status, .. } in rows.iter().filter(|row| row.status.skipped > 0) {
        out::tell(&text!(
            "{}: it sent something that is not a message ({}); `{} doctor {}` shows it\n",
            status.name,
            counted(
                usize::try_from(status.skipped).unwrap_or(usize::MAX),
                "time"
            ),
            program(),
            status.name
        ));
    }
    #[cfg(feature = "nats")]
    if let Some(exit) = missing {
        return Ok(exit);
    }
    let errors = rows.iter().filter_map(|row| row.error.as_ref());
    Ok(app.overall(Exit::of_all(errors.map(Error::kind))))
}

/// The workers of the pool that the command line names.
#[cfg(feature = "nats")]
async fn fleet(app: &App, args: &StatusArgs) -> Result<Option<mcpool::gateway::Fleet>, Failure> {
    let Some(carrier) = args.nats.connected(app).await? else {
        return Ok(None);
    };
    let snapshot = mcpool::nats::fleet(&carrier, FLEET_TIMEOUT).await?;
    Ok(Some(crate::fleet::shown(&carrier, &snapshot)))
}

/// The status table of a manager as it is now, for other commands.
pub(crate) async fn table_now(manager: &ConnectionManager) -> Text {
    rows_text(&rows(manager, &[]).await, out::columns())
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
        Row {
            status,
            error,
            verdict: None,
        }
    };
    manager.status_all().into_iter().map(row).collect()
}

fn row_json(row: &Row) -> Value {
    let status = &row.status;
    let verdict = row.verdict.as_ref();
    let next = verdict.map(|verdict| {
        let tries = verdict.tries.iter();
        tries
            .map(|text| text.as_str().to_owned())
            .collect::<Vec<_>>()
    });
    json!({
        "name": status.name.as_str(),
        "state": row.word().replace(' ', "_"),
        "transport": status.transport,
        "protocol": status.protocol,
        "tools": row.ready().then_some(status.tools),
        "rejected": row.ready().then_some(status.rejected),
        "skipped": status.skipped,
        "connect_ms": status.connect_time.map(|took| u64::try_from(took.as_millis()).ok()),
        "reason": verdict.map(|verdict| verdict.says.as_str()),
        "next": next.unwrap_or_default(),
        "error": row.error.as_ref(),
    })
}

fn rows_text(rows: &[Row], columns: usize) -> Text {
    if rows.is_empty() {
        return super::nothing_configured();
    }
    let mut table = table::Table::new(&["NAME", "STATE", "TOOLS", "CONNECT", "VIA", "PROTOCOL"]);
    for row in rows {
        let status = &row.status;
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        table.row([
            status.name.as_str(),
            row.word(),
            &or_dash(row.ready().then(|| status.tools.to_string())),
            &or_dash(status.connect_time.map(table::milliseconds)),
            status.transport.map_or("-", TransportKind::as_str),
            &or_dash(status.protocol.as_ref().map(ToString::to_string)),
        ]);
    }
    let mut text = table.to_text();
    for row in rows {
        let name = &row.status.name;
        if let Some(verdict) = &row.verdict {
            text.push(&text!("\n"));
            text.push(&text!("{}: {}", name, verdict.says).wrapped("", "  ", columns));
            for step in &verdict.tries {
                text.push(&text!("→ {}", step).wrapped("  ", "    ", columns));
            }
        } else if let Some(error) = &row.error {
            text.push(&text!("\n{}: {}\n", name, error.message()));
        }
    }
    let disabled: Vec<Text> = rows
        .iter()
        .filter(|row| !row.status.enabled)
        .map(|row| text!("{}", row.status.name))
        .collect();
    if !disabled.is_empty() {
        let names = Text::join(disabled, ", ");
        let line = text!(
            "disabled: {}; enable with `{} config enable NAME`",
            names,
            program()
        );
        text.push(&text!("\n"));
        text.push(&line.wrapped("", "  ", columns));
    }
    text
}
