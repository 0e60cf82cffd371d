//! All that is known of one server, for its own screen.

use mcpool::{ConnectEvidence, ServerStatus, StderrLine};

use crate::render::chronicle::reason;
use crate::{
    render::{attempts, table::span, text::Text},
    text,
};

/// What the manager knows of a server beside its status.
#[derive(Debug, Clone, Default)]
pub(crate) struct Details {
    /// Its command line or URL, secrets overwritten.
    pub(crate) reached_by: String,
    /// Who it says it is.
    pub(crate) peer: Option<String>,
    /// Its tools, as signatures.
    pub(crate) tools: Vec<Text>,
    /// How the last connect went.
    pub(crate) evidence: Option<ConnectEvidence>,
    /// What it printed on standard error.
    pub(crate) stderr: Vec<StderrLine>,
    /// What it sent that was no message.
    pub(crate) skipped: Vec<String>,
}

/// The lines of the screen, and under which heads.
pub(super) fn lines<'e>(
    server: &ServerStatus,
    details: &Details,
    events: impl Iterator<Item = &'e Text>,
    now: std::time::SystemTime,
) -> Vec<Section> {
    let mut facts = Vec::new();
    if !details.reached_by.is_empty() {
        facts.push(text!("reached by {}", details.reached_by));
    }
    if let Some(peer) = &details.peer {
        facts.push(text!("is {}", peer));
    }
    if let (Some(protocol), Some(transport)) = (&server.protocol, server.transport) {
        facts.push(text!(
            "MCP {} over {}",
            protocol.to_string(),
            transport.as_str()
        ));
    }
    if let Some(at) = server.connected_at {
        let up = now.duration_since(at).unwrap_or_default();
        facts.push(text!("up for {}", span(up)));
    }
    if let Some(pid) = server.instances.iter().find_map(|instance| instance.pid) {
        facts.push(text!("process {}", pid));
    }
    if let Some(error) = &server.last_error {
        facts.push(text!("not connected: {}", reason(error)));
    }
    let evidence = details.evidence.as_ref();
    let attempts = evidence.map_or(&[][..], |evidence| &evidence.attempts);
    let skipped = details.skipped.iter().map(|line| text!("{}", line));
    let stderr = details.stderr.iter().map(|line| text!("{}", line));
    vec![
        ("", facts),
        ("last connect", attempts::lines(attempts)),
        ("tools", details.tools.clone()),
        ("sent, but not a message", skipped.collect()),
        ("stderr", stderr.collect()),
        ("events", events.cloned().collect()),
    ]
}

/// A head and what stands below it.
pub(super) type Section = (&'static str, Vec<Text>);
