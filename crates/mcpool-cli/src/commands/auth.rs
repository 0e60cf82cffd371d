//! `mcpool auth status`: what is stored of logins.

use std::time::{Duration, SystemTime};

use clap::Subcommand;
use mcpool::{
    Error, ServerName, ServerSpec,
    auth::{LoginState, LoginStatus, OAuth},
};
use serde_json::{Value, json};

use super::Outcome;
use crate::{
    app::App,
    exit::Exit,
    render::{out, table, text::Text},
    text,
};

/// `mcpool auth`
#[derive(Debug, Subcommand)]
pub(crate) enum AuthCommand {
    /// Show which servers have a login, and until when. Asks nobody
    Status {
        /// Only this server; the exit code is 3 when it has no login that can be used
        server: Option<String>,
        #[cfg(feature = "nats")]
        #[command(flatten)]
        nats: Box<crate::nats::NatsArgs>,
    },
}

impl AuthCommand {
    /// The word that names its server.
    pub(crate) fn server_mut(&mut self) -> Option<&mut String> {
        let Self::Status { server, .. } = self;
        server.as_mut()
    }
}

/// Runs it.
pub(crate) async fn run(app: &App, command: AuthCommand) -> Outcome {
    let AuthCommand::Status {
        server,
        #[cfg(feature = "nats")]
        nats,
    } = command;
    #[cfg(feature = "nats")]
    nats.reach_tokens(app).await?;
    let mut specs = app.select(server.as_deref()).await?;
    if server.is_none() {
        specs.retain(|spec| !spec.transport.is_stdio());
    }
    let mut rows = Vec::with_capacity(specs.len());
    for spec in &specs {
        rows.push((spec, app.oauth()?.status(spec).await));
    }
    if app.global.json {
        let servers: Vec<Value> = rows
            .iter()
            .map(|(spec, status)| to_json(&spec.name, status.as_ref()))
            .collect();
        out::document(&json!({ "servers": servers }))?;
    } else {
        out::print(&to_text(&rows))?;
    }
    let failed = rows.iter().filter_map(|(_, status)| status.as_ref().err());
    let exit = Exit::of_all(failed.map(Error::kind));
    let lacking = |(spec, status): &(&ServerSpec, Result<LoginStatus, Error>)| {
        let gone = status
            .as_ref()
            .is_ok_and(|status| matches!(status.state, LoginState::LoggedOut | LoginState::Ended));
        gone && OAuth::needs_person(spec)
    };
    Ok(match exit {
        Exit::Good if server.is_some() && rows.iter().any(lacking) => Exit::LoginNeeded,
        exit if server.is_none() => app.overall(exit),
        exit => exit,
    })
}

/// A login for programs, or why it is not known.
pub(crate) fn to_json(name: &ServerName, status: Result<&LoginStatus, &Error>) -> Value {
    let known = status.ok();
    let expires = known.and_then(|status| status.expires_at);
    json!({
        "name": name.as_str(),
        "state": known.map(|status| status.state.as_str()),
        "issuer": known.and_then(|status| status.issuer.as_deref()),
        "scopes": known.map(|status| &status.scopes),
        "wanted_scopes": known.map(|status| &status.wanted_scopes),
        "expires_at": expires.map(|at| humantime::format_rfc3339_seconds(at).to_string()),
        "error": status.err(),
    })
}

/// How long a login lasts, for people.
pub(crate) fn until(status: &LoginStatus) -> String {
    let renewed = if status.renewable {
        "renewed by itself"
    } else {
        "not renewed"
    };
    match (status.state, status.expires_at) {
        (LoginState::LoggedOut | LoginState::NotUsed | LoginState::Ended, _) => "-".to_owned(),
        (LoginState::Refreshable, _) => "renewed at its next use".to_owned(),
        (_, None) => "no end known".to_owned(),
        (_, Some(at)) => {
            let left = at.duration_since(SystemTime::now()).unwrap_or_default();
            let left = Duration::from_secs(left.as_secs());
            format!("for {}, {renewed}", humantime::format_duration(left))
        }
    }
}

fn to_text(rows: &[(&ServerSpec, Result<LoginStatus, Error>)]) -> Text {
    let mut table = table::Table::new(&["NAME", "LOGIN", "AT", "SCOPES", "LASTS", "ERROR"]);
    for (spec, status) in rows {
        let cells = match status {
            Ok(status) => [
                status.state.as_str().replace('_', " "),
                status.issuer.clone().unwrap_or_else(|| "-".to_owned()),
                match &status.wanted_scopes[..] {
                    [] => status.scopes.join(" "),
                    wanted => format!("{} (wanted: {})", status.scopes.join(" "), wanted.join(" ")),
                },
                until(status),
                String::new(),
            ],
            Err(error) => {
                let dash = || "-".to_owned();
                [dash(), dash(), dash(), dash(), error.message().to_owned()]
            }
        };
        table.row(std::iter::once(spec.name.as_str()).chain(cells.iter().map(String::as_str)));
    }
    table.to_text_or(text!("no server has a login\n"))
}
