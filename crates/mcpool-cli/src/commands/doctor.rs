//! `mcpool doctor [SERVER]`: shows step by step how a server is connected.

use std::fmt::Write as _;

use mcpool::{ConnectEvidence, ConnectFailure, ConnectionManager, Error, ErrorStatus};
use serde_json::{Value, json};

use super::Outcome;
use crate::{
    app::{App, Attempt},
    exit::Exit,
    render,
};

/// What was found out about one server.
struct Finding {
    server: String,
    evidence: Option<ConnectEvidence>,
    error: Option<Error>,
    stderr: Vec<String>,
    says: Option<Value>,
}

/// Runs it.
pub(crate) async fn run(app: &App, server: Option<&str>) -> Outcome {
    let manager = app.configured(server).await?;
    let attempts = app.connect_all(manager).await;
    let findings: Vec<Finding> = attempts.iter().map(|a| find(manager, a)).collect();
    if app.global.json {
        let servers: Vec<Value> = findings.iter().map(to_json).collect();
        render::document(&json!({ "servers": servers }))?;
    } else {
        let texts: Vec<String> = findings.iter().map(to_text).collect();
        render::text(&texts.join("\n"))?;
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
            stderr: error.stderr_tail().iter().map(|l| l.text.clone()).collect(),
            error: Some(error.clone()),
            says: None,
        },
        Ok(()) => match manager.client(attempt.server.as_str()) {
            Ok(client) => {
                let info = client.info();
                let tail = client.diagnostics().stderr_tail;
                Finding {
                    server,
                    evidence: Some(info.evidence.clone()),
                    error: None,
                    stderr: tail.iter().map(|line| line.text.clone()).collect(),
                    says: serde_json::to_value(&info.peer).ok(),
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
        "stderr_tail": finding.stderr,
        "error": finding.error.as_ref().map(ErrorStatus::from),
    })
}

fn to_text(finding: &Finding) -> String {
    let mut out = format!("{}\n", finding.server);
    // Writing to a `String` cannot fail.
    for attempt in finding.evidence.iter().flat_map(|e| &e.attempts) {
        let mark = if attempt.ok { "ok  " } else { "no  " };
        let _ = writeln!(
            out,
            "  {mark}{:<6} {:<18} {:>6} ms  {}",
            attempt.transport.as_str(),
            attempt.tried,
            attempt.elapsed_ms,
            attempt.outcome
        );
    }
    match (&finding.error, &finding.evidence) {
        (Some(error), _) => {
            let _ = writeln!(out, "  failed: {} ({})", error.message(), error.kind());
        }
        (None, Some(evidence)) => {
            let _ = writeln!(out, "  {}", evidence.conclusion);
        }
        (None, None) => {}
    }
    if !finding.stderr.is_empty() {
        out.push_str("  stderr:\n");
        for line in &finding.stderr {
            let _ = writeln!(out, "    {line}");
        }
    }
    render::printable(&out)
}
