//! What `mcpool bench` has measured, and how it is shown.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::{
    render::{
        table::{Table, milliseconds},
        text::Text,
    },
    text,
};

/// Times are kept to three digits.
const DIGITS: u8 = 3;

/// How long the longest bar of the histogram is.
const BAR: usize = 40;

/// The times of many calls.
#[derive(Debug, Clone)]
pub(super) struct Measured {
    /// In nanoseconds. Its room does not grow with the count.
    times: Histogram<u64>,
    pub(super) errors: u64,
    pub(super) first_error: Option<String>,
    /// How long it took altogether.
    pub(super) wall: Duration,
}

impl Default for Measured {
    fn default() -> Self {
        #[expect(
            clippy::expect_used,
            reason = "it fails for more than five digits alone"
        )]
        let times = Histogram::new(DIGITS).expect("three digits are allowed");
        Self {
            times,
            errors: 0,
            first_error: None,
            wall: Duration::ZERO,
        }
    }
}

impl Measured {
    /// Adds a call.
    pub(super) fn add(&mut self, took: Duration, error: Option<String>) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        // It fails where a time is too large for a histogram that does not grow; this one does.
        let _ = self.times.record(nanos.max(1));
        self.errors += u64::from(error.is_some());
        self.first_error = self.first_error.take().or(error);
    }

    /// Adds what another has measured.
    pub(super) fn join(&mut self, other: Self) {
        let _ = self.times.add(&other.times);
        self.errors += other.errors;
        self.first_error = self.first_error.take().or(other.first_error);
        self.wall += other.wall;
    }

    fn calls(&self) -> u64 {
        self.times.len()
    }

    /// Zero when there are no calls.
    fn percentile(&self, percent: f64) -> Duration {
        match self.calls() {
            0 => Duration::ZERO,
            _ => Duration::from_nanos(self.times.value_at_percentile(percent)),
        }
    }

    fn calls_per_s(&self) -> f64 {
        #[expect(
            clippy::cast_precision_loss,
            reason = "a count of calls is far below 2^52"
        )]
        let calls = self.calls() as f64;
        // A clock may stand still for as long as a few calls take.
        calls / self.wall.as_secs_f64().max(1e-9)
    }

    /// How many calls took up to so long, each bound twice the one before.
    fn buckets(&self) -> Vec<(Duration, u64)> {
        if self.calls() == 0 {
            return Vec::new();
        }
        let least = self.times.min().max(1_000).next_power_of_two();
        let steps = self.times.iter_log(least, 2.0);
        steps
            .map(|step| {
                let bound = Duration::from_nanos(step.value_iterated_to());
                (bound, step.count_since_last_iteration())
            })
            .collect()
    }
}

/// The figures of one server.
#[derive(Debug, Clone, Copy)]
pub(super) struct Figures<'a> {
    pub(super) name: &'a str,
    pub(super) measured: &'a Measured,
}

fn micros(time: Duration) -> Option<u64> {
    u64::try_from(time.as_micros()).ok()
}

/// For programs: the first server's figures, and below `against` those of the other.
pub(super) fn to_json(
    figures: &[Figures<'_>],
    at_once: usize,
    connect: Duration,
    interrupted: bool,
) -> Value {
    let one = |figures: &Figures<'_>| {
        let measured = figures.measured;
        let buckets = measured.buckets().into_iter();
        let buckets: Vec<Value> = buckets
            .map(|(bound, count)| json!({"up_to_us": micros(bound), "calls": count}))
            .collect();
        json!({
            "server": figures.name,
            "calls": measured.calls(),
            "duration_ms": u64::try_from(measured.wall.as_millis()).ok(),
            "calls_per_s": (measured.calls_per_s() * 10.0).round() / 10.0,
            "p50_us": micros(measured.percentile(50.0)),
            "p90_us": micros(measured.percentile(90.0)),
            "p99_us": micros(measured.percentile(99.0)),
            "max_us": micros(measured.percentile(100.0)),
            "errors": measured.errors,
            "first_error": measured.first_error,
            "histogram": buckets,
        })
    };
    let mut document = figures.first().map(one).unwrap_or_default();
    document["concurrency"] = json!(at_once);
    document["connect_ms"] = json!(u64::try_from(connect.as_millis()).ok());
    document["rss_bytes"] = json!(peak_memory());
    document["interrupted"] = json!(interrupted);
    document["against"] = figures.get(1).map(one).unwrap_or_default();
    document
}

/// For people: a column for each server, then the histogram of each.
pub(super) fn to_text(figures: &[Figures<'_>], at_once: usize, connect: Duration) -> Text {
    let mut table = match figures.len() {
        0 | 1 => Table::new(&["", ""]),
        _ => Table::new(&["", "", "", ""]),
    };
    let mut row = |name: &str, cells: Vec<String>, ratio: Option<String>| {
        let cells = cells.iter().map(String::as_str);
        table.row(std::iter::once(name).chain(cells).chain(ratio.as_deref()));
    };
    let all = |show: &dyn Fn(&Measured) -> String| -> Vec<String> {
        figures.iter().map(|one| show(one.measured)).collect()
    };
    let several = figures.len() > 1;
    if several {
        let names = figures.iter().map(|one| one.name.to_owned()).collect();
        row("", names, Some("second / first".to_owned()));
    }
    let empty = several.then(String::new);
    row("calls", all(&|m| m.calls().to_string()), empty.clone());
    row("calls/s", all(&|m| format!("{:.0}", m.calls_per_s())), {
        ratio(figures, Measured::calls_per_s)
    });
    for (name, percent) in [("p50", 50.0), ("p90", 90.0), ("p99", 99.0), ("max", 100.0)] {
        row(name, all(&|m| milliseconds(m.percentile(percent))), {
            ratio(figures, |m| m.percentile(percent).as_secs_f64())
        });
    }
    row("errors", all(&|m| m.errors.to_string()), empty);
    let mut text = table.to_text();
    for one in figures {
        text.push(&text!("\n"));
        if several {
            text.push(&text!("{}\n", one.name));
        }
        text.push(&bars(&one.measured.buckets()));
    }
    let memory = peak_memory().map_or_else(
        || "not known".to_owned(),
        |bytes| format!("{} MiB", bytes / (1024 * 1024)),
    );
    text.push(&text!(
        "\nconnected in {}, {} at once, own peak memory {}\n",
        milliseconds(connect),
        at_once,
        memory
    ));
    text
}

/// How much larger a figure of the second server is than the first's.
fn ratio(figures: &[Figures<'_>], of: impl Fn(&Measured) -> f64) -> Option<String> {
    let [first, second] = figures else {
        return None;
    };
    let (first, second) = (of(first.measured), of(second.measured));
    Some(format!("{:.2}", second / first.max(f64::MIN_POSITIVE)))
}

/// A line for each bucket; those that few calls are in have a mark all the same.
fn bars(buckets: &[(Duration, u64)]) -> Text {
    let most = buckets
        .iter()
        .map(|(_, count)| *count)
        .max()
        .unwrap_or(1)
        .max(1);
    let mut text = Text::default();
    for (bound, count) in buckets {
        let share = u128::from(*count) * BAR as u128 / u128::from(most);
        let length = usize::try_from(share)
            .unwrap_or(BAR)
            .max(usize::from(*count > 0));
        let bar = "█".repeat(length);
        text.push(&text!(
            "up to {:>9}  {:>8}  {}\n",
            milliseconds(*bound),
            *count,
            bar
        ));
    }
    text
}

/// The most memory that this process has had, in bytes, where the system reports it.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(times: impl IntoIterator<Item = u64>) -> Measured {
        let mut measured = Measured::default();
        for time in times {
            measured.add(Duration::from_micros(time), None);
        }
        measured
    }

    #[test]
    fn percentiles_are_right_to_three_digits() {
        let measured = measured(1..=200);
        let near = |percent: f64, wanted: u64| {
            let found = measured.percentile(percent).as_nanos();
            found.abs_diff(u128::from(wanted) * 1_000) <= u128::from(wanted)
        };
        assert!(near(50.0, 100) && near(99.0, 198) && near(100.0, 200));
        assert_eq!(Measured::default().percentile(50.0), Duration::ZERO);
    }

    #[test]
    fn every_call_is_in_one_bucket() {
        for times in [vec![1, 3, 5, 900, 1_000_000], vec![7], vec![0, 0]] {
            let count = times.len() as u64;
            let buckets = measured(times).buckets();
            assert_eq!(buckets.iter().map(|(_, count)| count).sum::<u64>(), count);
            assert!(buckets.is_sorted_by_key(|(bound, _)| *bound));
        }
        assert!(Measured::default().buckets().is_empty());
    }

    #[test]
    fn two_servers_stand_side_by_side() {
        let (fast, slow) = (measured([100, 100]), measured([200, 200]));
        let figures = [
            Figures {
                name: "a",
                measured: &fast,
            },
            Figures {
                name: "b",
                measured: &slow,
            },
        ];
        let text = to_text(&figures, 1, Duration::from_millis(5));
        let p50 = text
            .as_str()
            .lines()
            .find(|line| line.starts_with("p50"))
            .unwrap();
        assert!(p50.ends_with("2.00"), "{p50}");
    }

    #[cfg(unix)]
    #[test]
    fn this_process_has_used_some_memory() {
        let peak = peak_memory().unwrap();
        assert!((1 << 20..1 << 40).contains(&peak), "{peak}");
    }
}
