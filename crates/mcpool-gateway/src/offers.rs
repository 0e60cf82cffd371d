//! What a client learns of the gateway before it asks for anything: versions, capabilities,
//! instructions.

use mcpool_core::{Raw, RawObject, Requester as _, RpcError};
use serde_json::json;

use crate::{fault, gateway::Gateway, scope::Scope};

/// Bytes of the instructions of all servers that a client is shown.
const MAX_INSTRUCTIONS: usize = 16 * 1024;

impl Gateway {
    /// The result of `server/discover`, but for what every result has.
    pub(crate) fn discover(&self, scope: &Scope, http: bool) -> Result<Raw, RpcError> {
        let mut result = RawObject::new();
        let versions = Raw::of(Self::speaks(http));
        result.insert(
            "supportedVersions",
            versions.unwrap_or_else(|_| Raw::null()),
        );
        result.insert("capabilities", self.capabilities(scope));
        if let Some(instructions) = self.instructions(scope) {
            result.insert("instructions", instructions);
        }
        result.to_raw().map_err(|error| fault::rpc(&error))
    }

    /// What is offered. Of a pool that is everything: a server that has it may be added later.
    pub(crate) fn capabilities(&self, scope: &Scope) -> Raw {
        let all = json!({
            "tools": {"listChanged": true},
            "prompts": {"listChanged": true},
            "resources": {"subscribe": true, "listChanged": true},
            "completions": {},
            "logging": {},
        });
        let mut offered = Raw::of(&all).unwrap_or_else(|_| Raw::empty_object());
        if let Scope::Server(server) = scope
            && let Ok(handle) = self.0.manager.server(server.as_str())
            && let Some(info) = handle.info()
            && let Ok(mut members) = RawObject::parse(&offered)
        {
            let of_server = &info.peer.capabilities;
            members.retain(|name| match name {
                "tools" => of_server.tools,
                "prompts" => of_server.prompts,
                "resources" => of_server.resources,
                "completions" => of_server.completions,
                _ => of_server.logging,
            });
            if let Ok(members) = members.to_raw() {
                offered = members;
            }
        }
        offered
    }

    /// How the servers that are connected want to be used.
    pub(crate) fn instructions(&self, scope: &Scope) -> Option<Raw> {
        let mut text = String::new();
        for name in self.0.manager.names() {
            let Ok(handle) = self.0.manager.server(name.as_str()) else {
                continue;
            };
            let info = handle.info().filter(|_| scope.covers(&name));
            let Some(said) = info
                .as_ref()
                .and_then(|info| info.peer.instructions.as_ref())
            else {
                continue;
            };
            if matches!(scope, Scope::Server(_)) {
                return Raw::of(said).ok();
            }
            // Whole ones only: half a sentence may say the opposite.
            if text.len() + said.len() <= MAX_INSTRUCTIONS {
                text.push_str(&format!("# {name}\n\n{}\n\n", said.trim()));
            }
        }
        let text = text.trim_end();
        if text.is_empty() {
            None
        } else {
            Raw::of(text).ok()
        }
    }
}
