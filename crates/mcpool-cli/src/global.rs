//! The flags that every command has.

use std::{path::PathBuf, time::Duration};

use clap::{ArgAction, Args};
use mcpool::ServerSpec;

use crate::targets::TargetFlags;

/// The flags that every command has.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Global {
    /// A file with servers; may be given several times. Default: $MCPOOL_CONFIG, ./mcp.json,
    /// ./.mcp.json, then mcpool/mcp.json in the user's config directory
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) config: Vec<PathBuf>,

    /// One JSON document on standard output, for programs
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// How long to wait for a server to connect ("500ms", "5s"); default: what its config says,
    /// or 30s
    #[arg(long, value_name = "TIME", global = true, value_parser = parse_duration)]
    pub(crate) connect_timeout: Option<Duration>,

    /// What to log to standard error, as a tracing filter ("mcpool=debug"); also $MCPOOL_LOG
    #[arg(
        long,
        value_name = "FILTER",
        global = true,
        env = "MCPOOL_LOG",
        hide_env = true
    )]
    pub(crate) log: Option<String>,

    /// Log more: -v progress, -vv details, -vvv every message on the wire, redacted
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,

    /// Write every message on the wire to FILE, redacted, one JSON object a line
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) trace: Option<PathBuf>,

    /// Connect from this process, and not through a running gateway (`mcpool up`)
    #[cfg(all(unix, feature = "gateway"))]
    #[arg(long, global = true)]
    pub(crate) direct: bool,

    #[command(flatten)]
    pub(crate) target: TargetFlags,
}

impl Global {
    /// What `--connect-timeout` says wins over the config.
    pub(crate) fn set_connect_timeout(&self, specs: &mut [ServerSpec]) {
        if let Some(timeout) = self.connect_timeout {
            for spec in specs {
                spec.policy.timeouts.startup = timeout;
            }
        }
    }
}

/// A duration with its unit: `250ms`, `5s`, `1m30s`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|error| format!("{error}; write a number and a unit, as in \"5s\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_needs_its_unit() {
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert!(parse_duration("5").unwrap_err().contains("unit"));
    }
}
