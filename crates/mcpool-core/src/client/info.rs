//! What is known of a connection and of the server at its other end.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::Instant;

use crate::{
    ConnectEvidence, Diagnostics, ProtocolVersion, Raw, RawObject, ServerName, TransportKind,
};

/// What was agreed when a session was made.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ConnectionInfo {
    /// The application's name for the server.
    pub server: ServerName,
    /// The transport that is used.
    pub transport: TransportKind,
    /// The protocol version that was agreed on.
    pub protocol: ProtocolVersion,
    /// What the server says of itself. Untrusted text.
    pub peer: PeerInfo,
    /// How the transport and the protocol were found out.
    pub evidence: ConnectEvidence,
}

impl ConnectionInfo {
    /// Puts it together; the evidence starts empty.
    #[must_use]
    pub fn new(
        server: ServerName,
        transport: TransportKind,
        protocol: ProtocolVersion,
        peer: PeerInfo,
    ) -> Self {
        Self {
            server,
            transport,
            protocol,
            peer,
            evidence: ConnectEvidence::default(),
        }
    }

    /// Adds the evidence.
    #[must_use]
    pub fn with_evidence(mut self, evidence: ConnectEvidence) -> Self {
        self.evidence = evidence;
        self
    }
}

/// What a server says of itself in its answer to `initialize` or `server/discover`.
///
/// Read leniently: a member that is missing or of another type counts as not said, and is named
/// in [`odd`](PeerInfo::odd).
#[derive(Debug, Clone, Default, Serialize)]
#[non_exhaustive]
pub struct PeerInfo {
    /// Its name, not ours for it.
    pub name: String,
    /// A name for people.
    pub title: Option<String>,
    /// Its own version.
    pub version: String,
    /// How it wants to be used.
    pub instructions: Option<String>,
    /// What it offers.
    pub capabilities: ServerCapabilities,
    /// What was odd in the answer, in words.
    pub odd: Vec<String>,
    /// The answer, as it came.
    #[serde(skip)]
    pub raw: Option<Raw>,
}

impl PeerInfo {
    /// Reads an answer to `initialize` or `server/discover`.
    #[must_use]
    pub fn read(raw: &Raw) -> Self {
        #[derive(Default, Deserialize)]
        #[serde(default, rename_all = "camelCase")]
        struct Answer {
            server_info: Value,
            instructions: Value,
            capabilities: Option<Raw>,
            #[serde(rename = "_meta")]
            meta: Value,
        }
        let mut odd = Vec::new();
        let answer: Answer = raw.parse().unwrap_or_else(|_| {
            odd.push("the answer is no object".to_owned());
            Answer::default()
        });
        // Up to MCP 2025-11-25 a member of its own, from 2026-07-28 on one of `_meta`.
        let server_info = match &answer.server_info {
            Value::Null => answer.meta.get("io.modelcontextprotocol/serverInfo"),
            info => Some(info),
        };
        let server_info = server_info.cloned().unwrap_or_default();
        let mut text = |value: &Value, what: &str| match value {
            Value::String(text) => Some(text.clone()),
            Value::Null => None,
            Value::Number(number) => {
                odd.push(format!("{what} is a number"));
                Some(number.to_string())
            }
            _ => {
                odd.push(format!("{what} is not text"));
                None
            }
        };
        let member = |name: &str| server_info.get(name).cloned().unwrap_or_default();
        let name = text(&member("name"), "serverInfo.name").unwrap_or_default();
        let title = text(&member("title"), "serverInfo.title");
        let version = text(&member("version"), "serverInfo.version").unwrap_or_default();
        let instructions = text(&answer.instructions, "instructions");
        if !server_info.is_object() {
            odd.push("serverInfo is no object".to_owned());
        }
        let capabilities = match &answer.capabilities {
            Some(raw) => ServerCapabilities::read(raw, &mut odd),
            None => {
                odd.push("there are no capabilities".to_owned());
                ServerCapabilities::default()
            }
        };
        Self {
            name,
            title,
            version,
            instructions,
            capabilities,
            odd,
            raw: Some(raw.clone()),
        }
    }

    /// Sets what it offers.
    #[must_use]
    pub fn with_capabilities(mut self, capabilities: ServerCapabilities) -> Self {
        self.capabilities = capabilities;
        self
    }
}

/// What a server offers.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ServerCapabilities {
    /// Tools.
    pub tools: bool,
    /// It announces their changes.
    pub tools_list_changed: bool,
    /// Prompts.
    pub prompts: bool,
    /// It announces their changes.
    pub prompts_list_changed: bool,
    /// Resources.
    pub resources: bool,
    /// It announces their changes.
    pub resources_list_changed: bool,
    /// It announces changes of a resource to its subscribers.
    pub resources_subscribe: bool,
    /// Log messages.
    pub logging: bool,
    /// Completions of arguments.
    pub completions: bool,
    /// All of it, as it came.
    #[serde(skip)]
    pub raw: Option<Raw>,
}

impl ServerCapabilities {
    /// Those of a server with tools and nothing else.
    #[must_use]
    pub fn tools_only() -> Self {
        Self {
            tools: true,
            ..Self::default()
        }
    }

    /// Reads them. A capability of another type, `true` for one, counts as offered; `false` and
    /// `null` as not.
    #[must_use]
    pub fn read(raw: &Raw, odd: &mut Vec<String>) -> Self {
        let Ok(members) = RawObject::parse(raw) else {
            odd.push("capabilities is no object".to_owned());
            return Self::default();
        };
        let mut offers = |name: &str| {
            let Some(member) = members.get(name) else {
                return (false, None);
            };
            match RawObject::parse(member) {
                Ok(object) => (true, Some(object)),
                Err(_) => {
                    odd.push(format!("capabilities.{name} is no object"));
                    (!matches!(member.get(), "false" | "null"), None)
                }
            }
        };
        let flag = |object: &Option<RawObject>, name: &str| {
            object
                .as_ref()
                .and_then(|object| object.get(name))
                .is_some_and(|value| value.get() == "true")
        };
        let (tools, in_tools) = offers("tools");
        let (prompts, in_prompts) = offers("prompts");
        let (resources, in_resources) = offers("resources");
        let (logging, _) = offers("logging");
        let (completions, _) = offers("completions");
        Self {
            tools,
            tools_list_changed: flag(&in_tools, "listChanged"),
            prompts,
            prompts_list_changed: flag(&in_prompts, "listChanged"),
            resources,
            resources_list_changed: flag(&in_resources, "listChanged"),
            resources_subscribe: flag(&in_resources, "subscribe"),
            logging,
            completions,
            raw: Some(raw.clone()),
        }
    }
}

/// What is known of a client now.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ClientSnapshot {
    /// When the session became ready, by the wall clock.
    pub connected_at: SystemTime,
    /// When the session became ready.
    pub connected: Instant,
    /// When the server was last heard of, probes not counted.
    pub last_activity: Instant,
    /// What the transport knows: stderr, process id, counters.
    pub diagnostics: Diagnostics,
}

impl ClientSnapshot {
    /// A session that became ready now, of which nothing else is known.
    #[must_use]
    pub fn now() -> Self {
        let now = Instant::now();
        Self {
            connected_at: SystemTime::now(),
            connected: now,
            last_activity: now,
            diagnostics: Diagnostics::default(),
        }
    }

    /// Adds what the transport knows.
    #[must_use]
    pub fn with_diagnostics(mut self, diagnostics: Diagnostics) -> Self {
        self.diagnostics = diagnostics;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> PeerInfo {
        PeerInfo::read(&Raw::from_text(text.to_owned()).unwrap())
    }

    #[test]
    fn what_a_server_says_is_read_member_by_member() {
        let peer = read(
            r#"{"protocolVersion":"2025-11-25","serverInfo":{"name":"n","version":2},
                "capabilities":{"tools":true,"prompts":{"listChanged":true},"resources":null,
                "logging":[]},"instructions":["x"]}"#,
        );
        assert_eq!((&*peer.name, &*peer.version), ("n", "2"));
        assert_eq!(peer.instructions, None);
        let capabilities = &peer.capabilities;
        assert!(capabilities.tools && capabilities.prompts_list_changed && capabilities.logging);
        assert!(!capabilities.resources && !capabilities.tools_list_changed);
        assert_eq!(peer.odd.len(), 5, "{:?}", peer.odd);
    }

    #[test]
    fn from_2026_on_the_server_says_who_it_is_in_meta() {
        let peer = read(
            r#"{"supportedVersions":["2026-07-28"],"capabilities":{},
                "_meta":{"io.modelcontextprotocol/serverInfo":{"name":"n","version":"1"}}}"#,
        );
        assert_eq!((&*peer.name, &*peer.version), ("n", "1"));
        assert_eq!(peer.odd, [""; 0]);
    }

    #[test]
    fn nothing_at_all_is_no_error() {
        for text in ["{}", "[]", "null", r#"{"capabilities":7,"serverInfo":"x"}"#] {
            let peer = read(text);
            assert_eq!(peer.name, "");
            assert!(!peer.odd.is_empty(), "{text}");
        }
    }
}
