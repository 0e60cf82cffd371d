//! Progress on standard error while servers connect, on a terminal only.

use std::{
    cell::RefCell,
    io,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle, TermLike};
use mcpool::ServerName;

use super::{out, text::Text};
use crate::text;

/// How many names are shown of those that are waited for.
const SHOWN: usize = 4;

/// One line that says who is still being waited for. Dropping it clears the line.
pub(crate) struct Connecting {
    bar: ProgressBar,
    total: usize,
    state: RefCell<State>,
}

struct State {
    waiting: Vec<ServerName>,
    ready: usize,
}

impl Connecting {
    /// Shows the line, after a moment, so that fast servers do not make it flicker.
    pub(crate) fn start(names: &[ServerName]) -> Self {
        let target = match out::stderr_is_terminal() {
            true => ProgressDrawTarget::term_like(Box::new(Terminal::default())),
            false => ProgressDrawTarget::hidden(),
        };
        let bar = ProgressBar::with_draw_target(None, target);
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed:.dim}") {
            bar.set_style(style);
        }
        if !bar.is_hidden() {
            // In a thread of its own.
            bar.enable_steady_tick(Duration::from_millis(120));
        }
        let progress = Self {
            bar,
            total: names.len(),
            state: RefCell::new(State {
                waiting: names.to_vec(),
                ready: 0,
            }),
        };
        progress.show();
        progress
    }

    /// This server is done.
    pub(crate) fn done(&self, server: &ServerName, ready: bool) {
        {
            let mut state = self.state.borrow_mut();
            state.waiting.retain(|name| name != server);
            state.ready += usize::from(ready);
        }
        self.show();
    }

    fn show(&self) {
        let state = self.state.borrow();
        let line = line(self.total, &state);
        self.bar.set_message(line.as_str().to_owned());
    }
}

impl Drop for Connecting {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// The terminal behind standard error, with a bounded size: indicatif pads lines to its width.
/// What is drawn is kept until it is whole.
#[derive(Debug, Default)]
struct Terminal(Mutex<String>);

impl Terminal {
    fn draw(&self, piece: &str) -> io::Result<()> {
        self.picture().push_str(piece);
        Ok(())
    }

    fn move_cursor(&self, by: usize, direction: char) -> io::Result<()> {
        match by {
            0 => Ok(()),
            by => self.draw(&format!("\x1b[{by}{direction}")),
        }
    }

    fn picture(&self) -> MutexGuard<'_, String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TermLike for Terminal {
    fn width(&self) -> u16 {
        out::stderr_size().map_or(80, |(width, _)| width)
    }

    fn height(&self) -> u16 {
        out::stderr_size().map_or(24, |(_, height)| height)
    }

    fn move_cursor_up(&self, lines: usize) -> io::Result<()> {
        self.move_cursor(lines, 'A')
    }

    fn move_cursor_down(&self, lines: usize) -> io::Result<()> {
        self.move_cursor(lines, 'B')
    }

    fn move_cursor_right(&self, columns: usize) -> io::Result<()> {
        self.move_cursor(columns, 'C')
    }

    fn move_cursor_left(&self, columns: usize) -> io::Result<()> {
        self.move_cursor(columns, 'D')
    }

    fn write_line(&self, line: &str) -> io::Result<()> {
        self.draw(line)?;
        self.draw("\n")
    }

    fn write_str(&self, piece: &str) -> io::Result<()> {
        self.draw(piece)
    }

    fn clear_line(&self) -> io::Result<()> {
        self.draw("\r\x1b[2K")
    }

    fn flush(&self) -> io::Result<()> {
        out::draw_on_stderr(&std::mem::take(&mut *self.picture()))
    }
}

fn line(total: usize, state: &State) -> Text {
    let mut text = text!("{} of {} connected", state.ready, total);
    if state.waiting.is_empty() {
        return text;
    }
    let names = state.waiting.iter().take(SHOWN);
    text.push(&text!(", waiting for {}", Text::list(names)));
    match state.waiting.len().saturating_sub(SHOWN) {
        0 => {}
        more => text.push(&text!(" and {} more", more)),
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_names_who_is_waited_for() {
        let names = |n: usize| (0..n).map(|i| format!("s{i}").parse().unwrap()).collect();
        let state = State {
            waiting: names(6),
            ready: 2,
        };
        assert_eq!(
            line(8, &state).as_str(),
            "2 of 8 connected, waiting for s0, s1, s2, s3 and 2 more"
        );
        let state = State {
            waiting: Vec::new(),
            ready: 1,
        };
        assert_eq!(line(1, &state).as_str(), "1 of 1 connected");
    }
}
