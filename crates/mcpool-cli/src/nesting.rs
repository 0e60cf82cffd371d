//! A gateway that would start itself: hosts start `mcpool serve`, and a config may import a host's
//! servers. Each would start the next, without end.

use mcpool::{ServerSpec, TransportSpec};

use crate::{config_files, exit::Failure, global::Global, text};

/// Names to a server's process the gateways that it is started within, by their configs.
const WITHIN: &str = "MCPOOL_WITHIN";

/// The gateways that this one is started within, and this one.
#[derive(Debug, Clone)]
pub(crate) struct Nesting(String);

impl Nesting {
    /// Begins a gateway of this config.
    ///
    /// # Errors
    /// When it is started by a server of a gateway of the same config.
    pub(crate) fn enter(global: &Global) -> Result<Self, Failure> {
        // Without a config there is no server that could start it.
        let files = config_files::find(global).ok();
        let own = files.and_then(|files| files.digest().ok());
        let outer = std::env::var(WITHIN).unwrap_or_default();
        let all = outer.split(':').filter(|id| !id.is_empty());
        if all.clone().any(|id| own.as_deref() == Some(id)) {
            return Err(Failure::usage(text!(
                "this gateway is started by a server of its own config, and would start itself \
                 without end"
            ))
            .with_hint(text!(
                "take the entry that runs `mcpool serve` out of the config, or disable it; \
                 `mcpool list` shows where it stands"
            )));
        }
        let all: Vec<&str> = all.chain(own.as_deref()).collect();
        Ok(Self(all.join(":")))
    }

    /// Names the gateways to the processes of these servers.
    pub(crate) fn mark(&self, specs: &mut [ServerSpec]) {
        for spec in specs {
            if let TransportSpec::Stdio(process) = &mut spec.transport {
                process.env.insert(WITHIN.to_owned(), self.0.clone().into());
            }
        }
    }
}
