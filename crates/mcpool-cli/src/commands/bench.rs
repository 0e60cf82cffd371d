//! `mcpool bench SERVER TOOL`: how fast a server answers through mcpool.

use std::{
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use mcpool::{ServerHandle, Verbs as _};
use serde_json::json;
use tokio::task::JoinSet;

use super::{Outcome, call};
use crate::{
    app::App,
    args::BenchArgs,
    arguments::{Given, Object},
    exit::{Exit, Failure},
    render::{out, table},
    text,
};

/// What was measured.
struct Figures {
    calls: usize,
    concurrency: usize,
    connect: Duration,
    calls_per_s: f64,
    p50: Duration,
    p90: Duration,
    p99: Duration,
    errors: usize,
    first_error: Option<String>,
    peak_memory: Option<u64>,
}

/// Makes one call after the other.
struct Worker {
    server: ServerHandle,
    tool: String,
    arguments: Object,
}

impl Worker {
    /// How long one call took, and what went wrong.
    async fn call(&self) -> (Duration, Option<String>) {
        let start = Instant::now();
        let result = self.server.call_tool(&self.tool, &self.arguments).await;
        let error = match result {
            Ok(result) if result.is_error == Some(true) => {
                Some("the tool reported an error".to_owned())
            }
            Ok(_) => None,
            Err(error) => Some(error.to_string()),
        };
        (start.elapsed(), error)
    }
}

/// Runs it.
pub(crate) async fn run(app: &App, mut args: BenchArgs) -> Outcome {
    let calls = NonZeroUsize::new(args.calls)
        .ok_or_else(|| Failure::usage(text!("-n: at least one call is needed")))?;
    let concurrency = args.concurrency.max(1);
    let start = Instant::now();
    let (server, tool) = app
        .connected_tool(&args.server, args.tool, &mut args.pairs)
        .await?;
    let connect = start.elapsed();
    let given = Given::read(args.pairs, args.args).await?;
    let arguments = call::fitting(&server, &tool, &given, true).await?;

    let next = Arc::new(AtomicUsize::new(0));
    let mut workers = JoinSet::new();
    let start = Instant::now();
    for _ in 0..concurrency.min(calls.get()) {
        let worker = Worker {
            server: server.clone(),
            tool: tool.clone(),
            arguments: arguments.clone(),
        };
        let next = Arc::clone(&next);
        let calls = calls.get();
        workers.spawn(async move {
            let mut outcomes = Vec::new();
            while next.fetch_add(1, Ordering::Relaxed) < calls {
                outcomes.push(worker.call().await);
            }
            outcomes
        });
    }
    let outcomes: Vec<(Duration, Option<String>)> =
        workers.join_all().await.into_iter().flatten().collect();
    let total = start.elapsed();

    let mut times: Vec<Duration> = outcomes.iter().map(|(time, _)| *time).collect();
    times.sort_unstable();
    let errors: Vec<&String> = outcomes.iter().filter_map(|(_, e)| e.as_ref()).collect();
    let figures = Figures {
        calls: calls.get(),
        concurrency,
        connect,
        calls_per_s: per_second(calls.get(), total),
        p50: percentile(&times, 50),
        p90: percentile(&times, 90),
        p99: percentile(&times, 99),
        errors: errors.len(),
        first_error: errors.first().map(|error| (*error).clone()),
        peak_memory: peak_memory(),
    };
    show(app, &figures)?;
    if figures.errors > 0 {
        return Ok(Exit::ToolError);
    }
    Ok(Exit::Good)
}

fn per_second(calls: usize, total: Duration) -> f64 {
    #[expect(
        clippy::cast_precision_loss,
        reason = "a count of calls is far below 2^52"
    )]
    let calls = calls as f64;
    calls / total.as_secs_f64().max(f64::MIN_POSITIVE)
}

/// The nearest-rank percentile of sorted times; zero when there are none.
fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted
        .get(rank.saturating_sub(1))
        .copied()
        .unwrap_or_default()
}

/// The most memory that this process has had, in bytes, where the system tells.
#[cfg(unix)]
fn peak_memory() -> Option<u64> {
    use nix::sys::resource::{UsageWho, getrusage};
    let peak = getrusage(UsageWho::RUSAGE_SELF).ok()?.max_rss();
    // Kibibytes, but on macOS bytes.
    let unit = if cfg!(target_os = "macos") { 1 } else { 1024 };
    u64::try_from(peak).ok().map(|peak| peak * unit)
}

#[cfg(not(unix))]
fn peak_memory() -> Option<u64> {
    None
}

fn show(app: &App, figures: &Figures) -> Result<Exit, Failure> {
    let micros = |time: Duration| u64::try_from(time.as_micros()).ok();
    if app.global.json {
        return out::document(&json!({
            "calls": figures.calls,
            "concurrency": figures.concurrency,
            "connect_ms": u64::try_from(figures.connect.as_millis()).ok(),
            "calls_per_s": (figures.calls_per_s * 10.0).round() / 10.0,
            "p50_us": micros(figures.p50),
            "p90_us": micros(figures.p90),
            "p99_us": micros(figures.p99),
            "errors": figures.errors,
            "rss_bytes": figures.peak_memory,
        }));
    }
    let mut rows = table::Table::new(&["", ""]);
    let memory = figures.peak_memory.map_or_else(
        || "not known".to_owned(),
        |bytes| format!("{} MiB", bytes / (1024 * 1024)),
    );
    for (name, value) in [
        ("calls", figures.calls.to_string()),
        ("at once", figures.concurrency.to_string()),
        ("connect", table::milliseconds(figures.connect)),
        ("calls/s", format!("{:.0}", figures.calls_per_s)),
        ("p50", table::milliseconds(figures.p50)),
        ("p90", table::milliseconds(figures.p90)),
        ("p99", table::milliseconds(figures.p99)),
        ("errors", figures.errors.to_string()),
        ("own peak memory", memory),
    ] {
        rows.row([name, &value]);
    }
    out::print(&rows.to_text())?;
    if let Some(error) = &figures.first_error {
        out::tell(&text!("the first error: {}\n", error));
    }
    Ok(Exit::Good)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let times: Vec<Duration> = (1..=200).map(Duration::from_micros).collect();
        assert_eq!(percentile(&times, 50), Duration::from_micros(100));
        assert_eq!(percentile(&times, 99), Duration::from_micros(198));
        assert_eq!(percentile(&times[..1], 99), Duration::from_micros(1));
        assert_eq!(percentile(&[], 50), Duration::ZERO);
    }

    #[cfg(unix)]
    #[test]
    fn this_process_has_used_some_memory() {
        let peak = peak_memory().unwrap();
        assert!((1 << 20..1 << 40).contains(&peak), "{peak}");
    }
}
