//! Logging to standard error: off unless asked for.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use crate::args::Global;

/// Starts it as `--log`, `$MCPOOL_LOG` or `-v` say.
pub(crate) fn start(global: &Global) -> Result<(), String> {
    let filter = match (&global.log, global.verbose) {
        (Some(filter), _) => filter.as_str(),
        (None, 0) => return Ok(()),
        (None, 1) => "mcpool=info",
        (None, 2) => "mcpool=debug",
        (None, _) => "mcpool=trace,rmcp=debug",
    };
    let filter = EnvFilter::try_new(filter).map_err(|error| format!("--log {filter}: {error}"))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    Ok(())
}
