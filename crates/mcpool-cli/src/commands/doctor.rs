//! `mcpool doctor [SERVER]`: shows step by step how a server is connected.

use mcpool::{ConnectEvidence, ConnectFailure, ConnectionManager, Error, StderrLine};
use serde_json::{Value, json};

use super::Outcome;
use crate::{
    app::{App, Attempt},
    exit::Exit,
    render::{out, text::Text},
    text,
};

/// What was found out about one server.
struct Finding {
    server: String,
    evidence: Option<ConnectEvidence>,
    error: Option<Error>,
    stderr: Vec<StderrLine>,
    says: Option<Value>,
}

/// Runs it.
pub(crate) async fn run(app: &App, server: Option<&str>) -> Outcome {
    let manager = app.configured(server).await?;
    let attempts = app.connect_all(manager).await;
    let findings: Vec<Finding> = attempts.iter().map(|a| find(manager, a)).collect();
    if app.global.json {
        let servers: Vec<Value> = findings.iter().map(to_json).collect();
        out::document(&json!({ "servers": servers }))?;
    } else {
        out::print(&Text::join(findings.iter().map(to_text), "\n"))?;
    }
    let errors = findings.iter().filter_map(|f| f.error.as_ref());
    Ok(app.overall(Exit::of_all(errors.map(Error::kind))))
}

fn find(manager: &ConnectionManager, attempt: &Attempt) -> Finding {
    let server = attempt.server.to_string();
    match &attempt.result {
        Err(error) => Finding {
            server,
            evidence: ConnectFailure::evidence_of(error).cloned(),
            stderr: error.stderr_tail().to_vec(),
            error: Some(error.clone()),
            says: None,
        },
        Ok(()) => match manager
            .server(attempt.server.as_str())
            .and_then(|server| server.client())
        {
            Ok(client) => {
                let info = client.info();
                Finding {
                    server,
                    evidence: info.as_ref().map(|info| info.evidence.clone()),
                    error: None,
                    stderr: client.snapshot().diagnostics.stderr_tail,
                    says: info.and_then(|info| serde_json::to_value(&info.peer).ok()),
                }
            }
            Err(error) => Finding {
                server,
                evidence: None,
                error: Some(error),
                stderr: Vec::new(),
                says: None,
            },
        },
    }
}

fn to_json(finding: &Finding) -> Value {
    json!({
        "name": finding.server,
        "evidence": finding.evidence,
        "server_info": finding.says,
        "stderr_tail": finding.stderr.iter().map(|line| &line.text).collect::<Vec<_>>(),
        "error": finding.error.as_ref(),
    })
}

fn to_text(finding: &Finding) -> Text {
    let mut out = text!("{}\n", finding.server);
    for attempt in finding.evidence.iter().flat_map(|e| &e.attempts) {
        out.push(&text!(
            "  {:<4}{:<6} {:<18} {:>6} ms  {}\n",
            if attempt.ok { "ok" } else { "no" },
            attempt.transport.as_str(),
            attempt.tried,
            attempt.elapsed_ms,
            attempt.outcome
        ));
    }
    match (&finding.error, &finding.evidence) {
        (Some(error), _) => {
            out.push(&text!("  failed: {} ({})\n", error.message(), error.kind()));
        }
        (None, Some(evidence)) => out.push(&text!("  {}\n", evidence.conclusion)),
        (None, None) => {}
    }
    if !finding.stderr.is_empty() {
        out.push(&text!("  stderr:\n"));
        for line in &finding.stderr {
            out.push(&text!("    {}\n", line));
        }
    }
    out
}
