//! What was found out about one server.

use std::time::Duration;

use mcpool::{
    Client, ConnectEvidence, ConnectFailure, ConnectionManager, Diagnostics, Error, Listing,
    PeerInfo, ProtocolVersion, Requester as _, StderrLine, TransportKind, Verbs as _,
};
use serde_json::{Value, json};

use super::other_ways::{self, Way};
use crate::{
    app::{App, Attempt},
    commands::left_out::{self, LeftOut},
    render::{
        attempts,
        problems::counted,
        table,
        text::{Answer, Text},
    },
    text,
    verdict::{self, Verdict},
};

/// How many lines of stderr are shown of a server that is well.
const STDERR_LINES: usize = 5;

/// How many characters of a server's instructions are shown.
const MAX_INSTRUCTIONS_CHARS: usize = 500;

/// What was found out about one server.
pub(super) struct Finding {
    server: String,
    /// Its command line or its URL, secrets overwritten.
    reached_by: String,
    evidence: Option<ConnectEvidence>,
    /// Why it could not be connected.
    pub(super) error: Option<Error>,
    verdict: Option<Verdict>,
    /// Where an MCP server does answer.
    other_ways: Vec<Way>,
    session: Option<Session>,
    diagnostics: Diagnostics,
    stderr: Vec<StderrLine>,
}

/// What is known of a server that is connected.
struct Session {
    peer: PeerInfo,
    protocol: ProtocolVersion,
    transport: TransportKind,
    connect_time: Option<Duration>,
    offers: Vec<Offered>,
    left_out: Vec<LeftOut>,
}

impl Finding {
    /// Looks at a server after its connect.
    pub(super) async fn of(app: &App, manager: &ConnectionManager, attempt: &Attempt) -> Self {
        let name = &attempt.server;
        let mut finding = Self {
            server: name.to_string(),
            reached_by: app.reached_by(name).to_owned(),
            evidence: None,
            error: None,
            verdict: None,
            other_ways: Vec::new(),
            session: None,
            diagnostics: Diagnostics::default(),
            stderr: Vec::new(),
        };
        let server = match manager.server(name.as_str()) {
            Ok(server) => server,
            Err(error) => {
                finding.error = Some(error);
                return finding;
            }
        };
        let client = match &attempt.result {
            Ok(()) => server.client(),
            Err(error) => Err(error.clone()),
        };
        match client {
            Ok(client) => {
                finding.diagnostics = client.snapshot().diagnostics;
                finding.stderr = finding.diagnostics.stderr_tail.clone();
                if let Some(info) = client.info() {
                    let (offers, left_out) = offers(&*client, &finding.server, &info.peer).await;
                    finding.evidence = Some(info.evidence.clone());
                    finding.session = Some(Session {
                        peer: info.peer.clone(),
                        protocol: info.protocol.clone(),
                        transport: info.transport,
                        connect_time: server.status().ok().and_then(|s| s.connect_time),
                        offers,
                        left_out,
                    });
                }
            }
            Err(error) => {
                finding.evidence = ConnectFailure::evidence_of(&error).cloned();
                if let Some(evidence) = &finding.evidence {
                    let seen = &mut finding.diagnostics;
                    seen.skipped_lines = evidence.skipped_lines;
                    seen.skipped_samples.clone_from(&evidence.skipped_samples);
                    seen.oddities.clone_from(&evidence.oddities);
                }
                finding.stderr = error.stderr_tail().to_vec();
                if let Ok(spec) = server.spec() {
                    finding.verdict = Some(verdict::on(&spec, &error, app.access(name)));
                    finding.other_ways = other_ways::find(app, &spec, &error).await;
                }
                finding.error = Some(error);
            }
        }
        finding
    }

    /// For programs.
    pub(super) fn to_json(&self) -> Value {
        let session = self.session.as_ref();
        let offers: serde_json::Map<String, Value> = session
            .into_iter()
            .flat_map(|session| &session.offers)
            .map(|(what, count)| match count {
                Ok(count) => ((*what).to_owned(), json!(count)),
                Err(error) => ((*what).to_owned(), json!({ "error": error })),
            })
            .collect();
        json!({
            "name": self.server,
            "reached_by": self.reached_by,
            "good": self.error.is_none(),
            "reason": self.verdict.as_ref().map(|verdict| verdict.says.as_str()),
            "next": self.next().iter().map(Text::as_str).collect::<Vec<_>>(),
            "evidence": self.evidence,
            "server_info": session.map(|session| &session.peer),
            "protocol": session.map(|session| &session.protocol),
            "transport": session.map(|session| session.transport),
            "connect_ms": session
                .and_then(|session| session.connect_time)
                .and_then(|took| u64::try_from(took.as_millis()).ok()),
            "offers": offers,
            "left_out": left_out::to_json(session.map_or(&[], |session| &session.left_out)),
            "skipped": self.diagnostics.skipped_lines,
            "skipped_samples": self.diagnostics.skipped_samples,
            "oddities": self.diagnostics.oddities,
            "stderr_tail": self.stderr.iter().map(|line| &line.text).collect::<Vec<_>>(),
            "error": self.error.as_ref(),
        })
    }

    /// What to try: what was seen to work, else what usually helps.
    fn next(&self) -> Vec<Text> {
        if !self.other_ways.is_empty() {
            return self.other_ways.iter().map(Way::to_text).collect();
        }
        let tries = self.verdict.iter().map(|verdict| verdict.tries.clone());
        tries.flatten().collect()
    }

    /// For people.
    pub(super) fn to_text(&self, columns: usize) -> Text {
        let mut out = text!("{}\n", self.server);
        let mut line = |text: Text| out.push(&text.wrapped("  ", "      ", columns));
        if !self.reached_by.is_empty() {
            line(text!("reached by {}", self.reached_by));
        }
        let attempts = self.evidence.as_ref().map_or(&[][..], |e| &e.attempts);
        for step in attempts::lines(attempts) {
            line(step);
        }
        match (&self.error, &self.session) {
            (Some(error), _) => {
                let says = self.verdict.as_ref().map(|verdict| verdict.says.clone());
                let says = says.unwrap_or_else(|| text!("{}", error.message()));
                line(text!("failed: {}", says));
                for step in self.next() {
                    line(text!("  → {}", step));
                }
            }
            (None, Some(session)) => session.describe(&mut line),
            (None, None) => {}
        }
        let Diagnostics {
            skipped_lines,
            skipped_samples,
            oddities,
            ..
        } = &self.diagnostics;
        if *skipped_lines > 0 {
            let times = counted(
                usize::try_from(*skipped_lines).unwrap_or(usize::MAX),
                "time",
            );
            line(text!("sent, but not a message: {}", times));
            let mut samples = skipped_samples.clone();
            samples.dedup();
            for sample in &samples {
                line(text!("  {}", sample));
            }
        }
        let odd = self.session.iter().flat_map(|session| &session.peer.odd);
        for odd in odd.chain(oddities) {
            line(text!("odd: {}", *odd));
        }
        // All of it where something is wrong, else the last.
        let skip = match self.error {
            Some(_) => 0,
            None => self.stderr.len().saturating_sub(STDERR_LINES),
        };
        if !self.stderr.is_empty() {
            line(text!("stderr:"));
            for said in self.stderr.iter().skip(skip) {
                line(text!("  {}", said));
            }
        }
        out
    }
}

impl Session {
    fn describe(&self, line: &mut impl FnMut(Text)) {
        let peer = &self.peer;
        let mut who = match (peer.name.is_empty(), peer.version.is_empty()) {
            (true, _) => text!("a server without a name"),
            (false, true) => text!("{}", peer.name),
            (false, false) => text!("{} {}", peer.name, peer.version),
        };
        if let Some(title) = peer.title.as_deref().filter(|title| *title != peer.name) {
            who.push(&text!(" ({})", title));
        }
        let mut text = text!(
            "good: {}, MCP {} over {}",
            who,
            self.protocol.to_string(),
            self.transport.as_str()
        );
        if let Some(took) = self.connect_time {
            text.push(&text!(", ready in {}", table::milliseconds(took)));
        }
        line(text);
        let counted = self.offers.iter().map(|(what, count)| match count {
            Ok(1) => text!("1 {}", what.strip_suffix('s').unwrap_or(what)),
            Ok(count) => text!("{} {}", *count, *what),
            Err(error) => text!("{} that cannot be listed: {}", *what, error.message()),
        });
        let counted = Text::join(counted, ", ");
        line(match counted.is_empty() {
            true => text!("offers nothing"),
            false => text!("offers {}", counted),
        });
        for entry in &self.left_out {
            line(entry.to_text());
        }
        if let Some(instructions) = peer.instructions.as_deref() {
            let whole = instructions.trim();
            let mut short: String = whole.chars().take(MAX_INSTRUCTIONS_CHARS).collect();
            if short.len() < whole.len() {
                short.push('…');
            }
            line(text!("instructions: {}", Answer(&short)));
        }
    }
}

/// A kind of thing that a server has, and how many there are.
type Offered = (&'static str, Result<usize, Error>);

/// How many there are of each thing that the server says it has, and what of it cannot be used.
async fn offers(
    client: &dyn Client,
    server: &str,
    peer: &PeerInfo,
) -> (Vec<Offered>, Vec<LeftOut>) {
    let has = &peer.capabilities;
    let mut offers = Vec::new();
    let mut left_out = Vec::new();
    if has.tools {
        let tools = client.list_tools().await;
        offers.push(("tools", count(server, "tools/list", tools, &mut left_out)));
    }
    if has.resources {
        let resources = client.list_resources().await;
        let resources = count(server, "resources/list", resources, &mut left_out);
        offers.push(("resources", resources));
        // Templates are optional: a server that has resources may refuse to list them.
        let templates = client.list_resource_templates().await;
        let templates = count(server, "resources/templates/list", templates, &mut left_out);
        if matches!(templates, Ok(1..)) {
            offers.push(("templates", templates));
        }
    }
    if has.prompts {
        let prompts = client.list_prompts().await;
        offers.push((
            "prompts",
            count(server, "prompts/list", prompts, &mut left_out),
        ));
    }
    (offers, left_out)
}

fn count<T>(
    server: &str,
    list: &'static str,
    listing: Result<Listing<T>, Error>,
    left_out: &mut Vec<LeftOut>,
) -> Result<usize, Error> {
    let listing = listing?;
    left_out.extend(left_out::of_list(server, list, &listing));
    Ok(listing.items.len())
}
