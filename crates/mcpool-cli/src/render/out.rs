//! The only way out: standard output and standard error.
//!
//! What comes here is [`Text`] or JSON, so it was cleaned and masked where it was put together.
//! It passes through a second net all the same: nothing but our own colours may steer the terminal,
//! and no known secret gets by.
#![expect(
    clippy::disallowed_methods,
    reason = "this is where the two streams are written"
)]

#[cfg(feature = "gateway")]
mod aside;

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    borrow::Cow,
    io::{self, IsTerminal as _, Write as _},
    sync::LazyLock,
};
#[cfg(feature = "gateway")]
use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use mcpool::{Masker, Raw, Sensitivity, Untrusted, clean_json, clean_json_pretty, clean_json_text};
use serde::Serialize;
use serde_json::Value;

#[cfg(feature = "gateway")]
use self::aside::Aside;
use super::{pager, text::Text};
use crate::exit::{Exit, Failure};
use crate::text;

/// The secrets that this program knows: one process, one terminal, one masker.
pub(crate) fn masker() -> &'static Masker {
    static MASKER: LazyLock<Masker> = LazyLock::new(Masker::new);
    &MASKER
}

/// Writes to standard output. A reader that has gone away is not an error.
pub(crate) fn print(text: &Text) -> Result<Exit, Failure> {
    stdout(&net(text.as_str(), Styles::None))?;
    Ok(Exit::Good)
}

/// As [`print`], through a pager where standard output is a terminal that the text does not fit
/// on; then at the end of the program.
pub(crate) fn paged(text: &Text) -> Result<Exit, Failure> {
    let size = terminal_size::terminal_size_of(io::stdout());
    let rows = size
        .map(|(_, rows)| usize::from(rows.0))
        .unwrap_or_default();
    if is_terminal() && io::stdin().is_terminal() && rows > 0 && pager::wants(text.as_str(), rows) {
        pager::keep(&net(text.as_str(), Styles::None));
        return Ok(Exit::Good);
    }
    print(text)
}

/// Shows what waits for the pager. Call it when nothing else is left to do.
pub(crate) fn show_pages() {
    if let Some(text) = pager::run() {
        let _ = stdout(&text);
    }
}

/// Text of an answer for a program that reads it: nothing is escaped and nothing added. What is
/// surely a secret is masked. Not for a terminal.
pub(crate) fn raw_text(text: &str) -> Result<(), Failure> {
    raw_bytes(masker().mask(text, Sensitivity::Secret).as_bytes())
}

/// Bytes of an answer for a program that reads them. Not for a terminal.
pub(crate) fn raw_bytes(bytes: &[u8]) -> Result<(), Failure> {
    write_out(bytes).map(drop)
}

/// Writes one line at once; `false` when the reader has gone away.
pub(crate) fn print_line(text: &Text) -> Result<bool, Failure> {
    stdout(&format!("{}\n", net(text.as_str(), Styles::None)))
}

/// Writes one JSON document, indented, to standard output.
pub(crate) fn document(value: &impl Serialize) -> Result<Exit, Failure> {
    write_document(value, Sensitivity::Value)
}

/// As [`document`], for an answer that was asked for: see [`Answer`](super::text::Answer).
pub(crate) fn answer(value: &impl Serialize) -> Result<Exit, Failure> {
    write_document(value, Sensitivity::Secret)
}

/// An answer that was asked for (see [`Answer`](super::text::Answer)), as it came: every member
/// and number as the server wrote it, on one line.
pub(crate) fn raw_answer(raw: &Raw) -> Result<Exit, Failure> {
    let masked = masker().mask(raw.get(), Sensitivity::Secret);
    stdout(&format!("{}\n", clean_json_text(&masked)))?;
    Ok(Exit::Good)
}

/// Writes what the program made of its own words alone, such as a script for a shell.
pub(crate) fn generated(bytes: &[u8]) -> Result<Exit, Failure> {
    stdout(&String::from_utf8_lossy(bytes))?;
    Ok(Exit::Good)
}

/// Writes JSON on one line at once; `false` when the reader has gone away.
pub(crate) fn json_line(mut value: Value) -> Result<bool, Failure> {
    masker().mask_json(&mut value, Sensitivity::Value);
    let line = clean_json(&value).map_err(no_json)?;
    stdout(&format!("{line}\n"))
}

/// Writes to standard error. When that is closed, nothing is written.
pub(crate) fn tell(text: &Text) {
    stderr(&net(text.as_str(), Styles::None));
}

/// From now on what is said on standard error is left to a thread of its own: a program that serves
/// does not wait until somebody reads it. What nobody reads is left out in the end.
#[cfg(feature = "gateway")]
pub(crate) fn serve_meanwhile() {
    let write = || {
        loop {
            ASIDE.write_next(stderr_now);
        }
    };
    let thread = std::thread::Builder::new().name("stderr".to_owned());
    // Without it, the program waits.
    IS_ASIDE.store(thread.spawn(write).is_ok(), Ordering::Relaxed);
}

#[cfg(feature = "gateway")]
static IS_ASIDE: AtomicBool = AtomicBool::new(false);

/// Waits until what was said so is written, but not longer than this.
#[cfg(feature = "gateway")]
pub(crate) fn settle(patience: Duration) {
    ASIDE.settle(patience);
}

#[cfg(feature = "gateway")]
static ASIDE: LazyLock<Aside> = LazyLock::new(Aside::new);

/// Writes text to standard error that a renderer has coloured, and that holds the words of
/// strangers only as [`line`](super::text::line) gives them.
pub(super) fn tell_coloured(text: &str) {
    stderr(&net(text, Styles::Colours));
}

/// What standard error is written to, for who looks how long it is.
#[cfg(all(unix, feature = "gateway"))]
pub(crate) fn file_of_stderr() -> io::Result<std::fs::File> {
    use std::os::fd::AsFd as _;
    Ok(io::stderr().as_fd().try_clone_to_owned()?.into())
}

/// Writes to standard error what a person decides by, such as what a project's file wants: cleaned,
/// and nothing of it masked. Each write is whole characters.
pub(crate) struct Question;

impl io::Write for Question {
    fn write(&mut self, question: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(question);
        let clean = Untrusted::block(text).whole().into_clean();
        io::stderr().lock().write_all(clean.as_bytes())?;
        Ok(question.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// Whether a person reads standard output.
pub(crate) fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Whether a person reads standard error.
pub(crate) fn stderr_is_terminal() -> bool {
    io::stderr().is_terminal()
}

/// The widest terminal that is believed: what is drawn takes room for each of its columns.
pub(crate) const MAX_COLUMNS: u16 = 500;

/// The highest one.
pub(crate) const MAX_ROWS: u16 = 200;

/// How many columns a line of standard output may have: those of the terminal, else `$COLUMNS`,
/// else 80; at most [`MAX_COLUMNS`]. A terminal without a size counts as none.
pub(crate) fn columns() -> usize {
    let terminal = terminal_size::terminal_size_of(io::stdout());
    let of_terminal = terminal.map(|(width, _)| usize::from(width.0));
    let of_variable = || std::env::var("COLUMNS").ok()?.parse().ok();
    of_terminal
        .filter(|columns| *columns > 0)
        .or_else(|| of_variable().filter(|columns| *columns > 0))
        .unwrap_or(80)
        .min(MAX_COLUMNS.into())
}

/// How many columns and rows the terminal behind standard error has; `None` without one, and for
/// one that has no size. At most [`MAX_COLUMNS`] and [`MAX_ROWS`].
pub(crate) fn stderr_size() -> Option<(u16, u16)> {
    let (width, height) = terminal_size::terminal_size_of(io::stderr())?;
    (width.0 > 0 && height.0 > 0).then(|| (width.0.min(MAX_COLUMNS), height.0.min(MAX_ROWS)))
}

/// Writes a moving picture to the terminal behind standard error: words that were cleaned, and what
/// moves the cursor.
pub(super) fn draw_on_stderr(picture: &str) -> io::Result<()> {
    io::stderr().write_all(picture.as_bytes())
}

/// Shows the screen of before on the terminal behind standard output, with its cursor, unless that
/// takes waiting. No lock is taken: another thread may hold it, and wait.
#[cfg(all(unix, feature = "screen"))]
pub(crate) fn leave_screen_at_once() {
    use std::os::unix::fs::OpenOptionsExt as _;

    use nix::libc::{O_NOCTTY, O_NONBLOCK};

    let Ok(path) = nix::unistd::ttyname(io::stdout()) else {
        return;
    };
    // Opened once more: standard output is shared with other programs, and so are its flags.
    let opened = std::fs::OpenOptions::new()
        .write(true)
        .custom_flags(O_NONBLOCK | O_NOCTTY)
        .open(path);
    if let Ok(mut terminal) = opened {
        let _ = terminal.write(b"\x1b[?1049l\x1b[?25h");
    }
}

/// Whether standard error takes colours.
pub(crate) fn takes_colours() -> bool {
    stderr_is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

/// Says why a command failed: to people on standard error, to programs on standard output as well.
pub(crate) fn failure(failure: &Failure, json: bool) {
    if json {
        // Standard error still says what happened when standard output is closed.
        let _ = document(&failure.to_json());
    }
    tell(&text!("{}\n", failure.to_text()));
}

/// What the command line's parser has to say, and the exit code.
pub(crate) fn command_line(error: &clap::Error, json: bool) -> u8 {
    let text = error.render().to_string();
    let text = net(&text, Styles::None);
    if error.use_stderr() {
        if json {
            // The usage behind the first empty line is for people.
            let said: Vec<&str> = text.lines().take_while(|line| !line.is_empty()).collect();
            let said = said
                .iter()
                .map(|line| line.trim())
                .collect::<Vec<_>>()
                .join(" ");
            let message = said.strip_prefix("error: ").unwrap_or(&said);
            let tips = text
                .lines()
                .filter_map(|line| line.trim().strip_prefix("tip: "));
            let failure = Failure::usage(text!("{}", message));
            let failure = failure.with_hints(tips.map(|tip| text!("{}", tip)));
            let _ = document(&failure.to_json());
        }
        stderr(&text);
    } else {
        // Help and version: whether anybody reads them makes no difference.
        let _ = stdout(&text);
    }
    u8::try_from(error.exit_code()).unwrap_or(2)
}

/// Panics are reported as everything else is: their messages may quote anything.
pub(crate) fn catch_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let backtrace = Backtrace::capture();
        let mut text = format!("{panic}\n");
        if backtrace.status() == BacktraceStatus::Captured {
            text.push_str(&format!("{backtrace}\n"));
        }
        stderr(&net(&text, Styles::None));
    }));
}

/// Where the log goes: one event, as the formatter has put it together, for each write.
pub(crate) struct Log;

impl io::Write for Log {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        stderr(&net(&String::from_utf8_lossy(event), Styles::Colours));
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        // Each event was.
        Ok(())
    }
}

/// Whether colours that a renderer of ours has set may pass.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Styles {
    None,
    Colours,
}

/// The second net.
fn net(text: &str, styles: Styles) -> Cow<'_, str> {
    let masked = masker().mask(text, Sensitivity::Secret);
    let clean = |text: &str| Untrusted::block(text.to_owned()).whole().into_clean();
    if styles == Styles::None {
        return Cow::Owned(clean(&masked).into_owned());
    }
    let mut out = String::with_capacity(masked.len());
    let mut rest = &*masked;
    while let Some(at) = rest.find('\x1b') {
        out.push_str(&clean(&rest[..at]));
        let (escape, after) = rest[at..].split_at(colour(&rest[at..]).unwrap_or(1));
        match escape.len() {
            1 => out.push_str(&clean(escape)),
            _ => out.push_str(escape),
        }
        rest = after;
    }
    out.push_str(&clean(rest));
    Cow::Owned(out)
}

/// The length of a `CSI … m` (ECMA-48, SGR) at the start of a text: it sets colours and nothing
/// else.
fn colour(text: &str) -> Option<usize> {
    let parameters = text.strip_prefix("\x1b[")?;
    let end = parameters.find(|c: char| !c.is_ascii_digit() && c != ';')?;
    parameters[end..].starts_with('m').then_some(2 + end + 1)
}

/// As [`document`], for what a person or a program decides by: nothing is masked.
pub(crate) fn question_document(value: &impl Serialize) -> Result<Exit, Failure> {
    let document = clean_json_pretty(value).map_err(no_json)?;
    stdout(&format!("{document}\n"))?;
    Ok(Exit::Good)
}

fn write_document(value: &impl Serialize, least: Sensitivity) -> Result<Exit, Failure> {
    let mut value = serde_json::to_value(value).map_err(no_json)?;
    masker().mask_json(&mut value, least);
    let document = clean_json_pretty(&value).map_err(no_json)?;
    stdout(&format!("{document}\n"))?;
    Ok(Exit::Good)
}

fn no_json(error: serde_json::Error) -> Failure {
    Failure::internal(text!("cannot write JSON: {}", error.to_string()))
}

/// `false` when the reader has gone away.
fn stdout(text: &str) -> Result<bool, Failure> {
    write_out(text.as_bytes())
}

fn write_out(bytes: &[u8]) -> Result<bool, Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::internal(text!(
            "cannot write to standard output: {}",
            error
        ))),
    }
}

fn stderr(text: &str) {
    #[cfg(feature = "gateway")]
    if IS_ASIDE.load(Ordering::Relaxed) {
        return ASIDE.push(text.to_owned());
    }
    stderr_now(text);
}

fn stderr_now(text: &str) {
    let mut out = io::stderr().lock();
    // When it is closed, nobody can see a message.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_our_colours_steers_the_terminal() {
        for (text, plain, coloured) in [
            ("a\tb\n", "a\tb\n", "a\tb\n"),
            (
                "\x1b[31mred\x1b[0m",
                "\\u{1b}[31mred\\u{1b}[0m",
                "\x1b[31mred\x1b[0m",
            ),
            ("\x1b[2J", "\\u{1b}[2J", "\\u{1b}[2J"),
            ("\x1b]0;t\x07", "\\u{1b}]0;t\\u{7}", "\\u{1b}]0;t\\u{7}"),
            (
                "\x1b[1;\u{9b}m\x1b",
                "\\u{1b}[1;\\u{9b}m\\u{1b}",
                "\\u{1b}[1;\\u{9b}m\\u{1b}",
            ),
            ("\u{202e}é", "\\u{202e}é", "\\u{202e}é"),
        ] {
            assert_eq!(net(text, Styles::None), plain);
            assert_eq!(net(text, Styles::Colours), coloured);
        }
    }
}
