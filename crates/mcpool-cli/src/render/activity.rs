//! What a server says while a call runs, on standard error: its progress and its log messages. On
//! a terminal the progress is one line that moves, elsewhere it is lines.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle, WeakProgressBar};
use mcpool::{Progress, ServerNotice};
use serde_json::Value;

use super::{
    out,
    text::{Text, line},
};
use crate::text;

/// Where there is no terminal, progress has one line in this time at most.
const LINE_EVERY: Duration = Duration::from_millis(250);

/// How often the line moves.
const TICK: Duration = Duration::from_millis(120);

/// The line that is drawn now. There is one terminal.
static SHOWN: Mutex<Option<WeakProgressBar>> = Mutex::new(None);

fn lock() -> MutexGuard<'static, Option<WeakProgressBar>> {
    SHOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Does something on the terminal that the line must not overwrite, such as a question.
pub(crate) fn paused<T>(work: impl FnOnce() -> T) -> T {
    let bar = lock().as_ref().and_then(WeakProgressBar::upgrade);
    if let Some(bar) = &bar {
        bar.disable_steady_tick();
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    let done = work();
    if let Some(bar) = &bar {
        bar.set_draw_target(ProgressDrawTarget::stderr());
        bar.enable_steady_tick(TICK);
    }
    done
}

/// A call under way. Dropping it clears its line.
pub(crate) struct Activity {
    bar: ProgressBar,
    verbose: bool,
    last_line: Option<Instant>,
}

impl Activity {
    /// Shows that this runs, after a moment. With `verbose` the server's `debug` messages are
    /// shown too.
    pub(crate) fn start(what: &str, verbose: bool) -> Self {
        // indicatif draws nothing where standard error is not a terminal.
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix} {msg} {elapsed:.dim}") {
            bar.set_style(style);
        }
        bar.set_prefix(line(what).to_string());
        bar.enable_steady_tick(TICK);
        *lock() = Some(bar.downgrade());
        Self {
            bar,
            verbose,
            last_line: None,
        }
    }

    /// The server reported progress.
    pub(crate) fn progress(&mut self, progress: &Progress) {
        let shown = progress_text(progress);
        if out::stderr_is_terminal() {
            self.bar.set_message(shown.as_str().to_owned());
            return;
        }
        let ends = progress
            .total
            .is_some_and(|total| progress.progress >= total);
        let is_due = |last: Instant| last.elapsed() >= LINE_EVERY;
        if ends || self.last_line.is_none_or(is_due) {
            self.last_line = Some(Instant::now());
            out::tell(&text!("{}\n", shown));
        }
    }

    /// The server said something by itself.
    pub(crate) fn notice(&self, notice: &ServerNotice) {
        let shown = match notice {
            ServerNotice::Log { level, .. } if level == "debug" && !self.verbose => return,
            ServerNotice::Log {
                level,
                logger,
                data,
            } => {
                let said: Value = data.parse().unwrap_or_default();
                let said = match said {
                    Value::String(text) => text,
                    _ => data.get().to_owned(),
                };
                match logger {
                    Some(logger) => text!("{} ({}): {}\n", level, logger, said),
                    None => text!("{}: {}\n", level, said),
                }
            }
            ServerNotice::Missed { count } => {
                text!("{} messages of the server were missed\n", *count)
            }
            _ => return,
        };
        self.bar.suspend(|| out::tell(&shown));
    }
}

impl Drop for Activity {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// `2 of 5: reading`, `40 %` where the whole is a fraction, `7` where it is not known.
fn progress_text(progress: &Progress) -> Text {
    let number = |value: f64| match value.fract() == 0.0 {
        true => format!("{value:.0}"),
        false => format!("{value:.2}"),
    };
    let done = number(progress.progress);
    let mut text = match progress.total {
        Some(1.0) => text!("{} %", format!("{:.0}", progress.progress * 100.0)),
        Some(total) => text!("{} of {}", done, number(total)),
        None => text!("{}", done),
    };
    if let Some(message) = progress.message.as_deref().filter(|text| !text.is_empty()) {
        text.push(&text!(": {}", message));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_in_words() {
        for (progress, total, message, shown) in [
            (
                2.0,
                Some(5.0),
                Some("reading\u{1b}[2J"),
                r"2 of 5: reading\u{1b}[2J",
            ),
            (0.4, Some(1.0), None, "40 %"),
            (7.0, None, Some(""), "7"),
            (1.25, Some(3.0), None, "1.25 of 3"),
            (f64::NAN, Some(f64::INFINITY), None, "NaN of inf"),
        ] {
            let progress = Progress::new(progress, total, message.map(str::to_owned));
            assert_eq!(progress_text(&progress).as_str(), shown);
        }
    }
}
