//! The question whether a project's file may be used.
//!
//! A person has to see all of it, and must be able to distinguish the program's words from the file's.
//! So each row that holds a text of the file's begins with [`FRAME`], also where a long one goes
//! on in the next row; no row is longer than the screen is wide, so that the terminal breaks none
//! by itself; and a question that is longer than the screen is shown page by page.

use std::io::{self, BufRead, IsTerminal as _, Read as _, Write};

use mcpool::config::{Standing, TrustRequest};

use crate::render::out;

/// What every row with foreign text begins with. The program's own rows never do.
const FRAME: &str = "| ";

/// What a row begins with that goes on with the row before.
const CONTINUED: &str = "|           ";

/// The narrowest and the lowest screen that a question fits on.
const LEAST: (usize, usize) = (24, 6);

/// The size of a screen that does not say how large it is.
const USUAL: (usize, usize) = (80, 24);

/// How much of an answer is read, in bytes. A line is as long as a terminal lets it be; this is
/// for whatever else stands in its place.
const MAX_ANSWER: u64 = 4 * 1024;

/// What a person said.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Yes, but for these servers.
    Yes { refused: Vec<String> },
    /// No, or nothing.
    No,
    /// There is nobody to ask.
    Nobody,
}

/// Asks on the terminal; [`Answer::Nobody`] without one. Blocks until the person answers.
pub(super) fn ask(request: &TrustRequest) -> io::Result<Answer> {
    if !io::stdin().is_terminal() || !out::stderr_is_terminal() {
        return Ok(Answer::Nobody);
    }
    let (width, height) = size();
    if width < LEAST.0 || height < LEAST.1 {
        // Rows that the terminal breaks by itself could be taken for the program's own.
        return Err(io::Error::other(
            "the terminal is too small for the question",
        ));
    }
    Dialog {
        input: io::stdin().lock(),
        output: out::Question,
        width,
        height,
        before_question: forget_typed,
    }
    .ask(request)
}

/// Writes the whole question, for where nobody can be asked.
pub(super) fn show(request: &TrustRequest) -> io::Result<()> {
    // A file or a pipe breaks no rows, and exact words are then easier to find.
    let width = match out::stderr_is_terminal() {
        true => size().0.max(LEAST.0),
        false => usize::MAX,
    };
    writeln!(out::Question, "{}", head(request))?;
    for row in framed(&lines(request), width) {
        writeln!(out::Question, "{row}")?;
    }
    Ok(())
}

fn size() -> (usize, usize) {
    out::stderr_size().map_or(USUAL, |(width, height)| (width.into(), height.into()))
}

/// Drops what was typed before the question stood there: a line that somebody was led to paste
/// is no answer to it.
fn forget_typed() {
    #[cfg(unix)]
    let _ = nix::sys::termios::tcflush(io::stdin(), nix::sys::termios::FlushArg::TCIFLUSH);
}

fn head(request: &TrustRequest) -> String {
    let state = if request.changed {
        "has changed since you trusted it"
    } else {
        "is new"
    };
    format!(
        "The project's file {state}. It wants to use {}, with all rights that you have:",
        servers(request.actions.len())
    )
}

fn servers(count: usize) -> String {
    match count {
        1 => "1 server".to_owned(),
        count => format!("{count} servers"),
    }
}

/// Everything that the file says, and what an approval means.
fn lines(request: &TrustRequest) -> Vec<String> {
    let mut lines = request.lines();
    for action in &request.actions {
        lines.push(String::new());
        lines.extend(action.lines());
    }
    lines.push(String::new());
    lines.extend(request.coverage());
    lines
}

/// Rows of at most this width, each behind the frame. A line that is too long is broken behind a
/// space where there is one, else anywhere; nothing is added or left out.
fn framed(lines: &[String], width: usize) -> Vec<String> {
    let mut rows = Vec::new();
    for line in lines {
        let (mut front, mut rest) = (FRAME, line.as_str());
        loop {
            let (row, next) = rest.split_at(fitting(rest, width - front.len()));
            rows.push(format!("{front}{row}"));
            if next.is_empty() {
                break;
            }
            (front, rest) = (CONTINUED, next);
        }
    }
    rows
}

/// How many bytes of a text go into a row of this width: at least one character.
fn fitting(text: &str, width: usize) -> usize {
    let (mut columns, mut space) = (0, 0);
    for (at, c) in text.char_indices() {
        // No character takes more than two columns; how many exactly, terminals differ.
        columns += if c.is_ascii() { 1 } else { 2 };
        if columns > width {
            return if space > at / 2 { space } else { at };
        }
        if c == ' ' {
            space = at + 1;
        }
    }
    text.len()
}

/// A conversation with a person.
struct Dialog<R, W> {
    input: R,
    output: W,
    width: usize,
    height: usize,
    before_question: fn(),
}

impl<R: BufRead, W: Write> Dialog<R, W> {
    fn ask(mut self, request: &TrustRequest) -> io::Result<Answer> {
        writeln!(self.output, "{}", head(request))?;
        if !self.pages(&framed(&lines(request), self.width))? {
            return Ok(Answer::No);
        }
        let refused: Vec<String> = request
            .actions
            .iter()
            .filter(|action| action.standing == Standing::Refused)
            .map(|action| action.server.clone())
            .collect();
        let but = match refused.len() {
            0 => String::new(),
            count => format!(" but the {count} that you said no to"),
        };
        let question = match request.actions.len() {
            1 => "Trust it? [y]es, [N]o: ".to_owned(),
            count => format!("Trust all {count}{but}? [y]es, [N]o, [c]hoose for each: "),
        };
        Ok(match self.answer(&question)?.as_str() {
            "y" | "Y" | "yes" => Answer::Yes { refused },
            "c" | "C" | "choose" if request.actions.len() > 1 => self.choose(request)?,
            _ => Answer::No,
        })
    }

    /// Asks about each server by itself.
    fn choose(&mut self, request: &TrustRequest) -> io::Result<Answer> {
        let count = request.actions.len();
        let mut refused = Vec::new();
        for (index, action) in request.actions.iter().enumerate() {
            let used = self.pages(&framed(&action.lines(), self.width))?
                && matches!(
                    self.answer(&format!(
                        "Use server {} of {count}? [y]es, [N]o: ",
                        index + 1
                    ))?
                    .as_str(),
                    "y" | "Y" | "yes"
                );
            if !used {
                refused.push(action.server.clone());
            }
        }
        let question = format!(
            "Trust the file with {} of its {}? [y]es, [N]o: ",
            count - refused.len(),
            servers(count)
        );
        Ok(match self.answer(&question)?.as_str() {
            "y" | "Y" | "yes" => Answer::Yes { refused },
            _ => Answer::No,
        })
    }

    /// Shows rows page by page, so that none leaves the screen unseen; `false` when the person
    /// has seen enough.
    fn pages(&mut self, rows: &[String]) -> io::Result<bool> {
        // Room for what stands above, and for the question below.
        let page = self.height - 2;
        let mut shown = 0;
        for rows_of_page in rows.chunks(page) {
            if shown > 0 {
                let question = format!(
                    "-- {shown} of {} rows seen; Enter shows the next, n ends: ",
                    rows.len()
                );
                if !self.answer(&question)?.is_empty() {
                    return Ok(false);
                }
            }
            for row in rows_of_page {
                writeln!(self.output, "{row}")?;
            }
            shown += rows_of_page.len();
        }
        Ok(true)
    }

    /// One line of the person's; `n` at the end of the input.
    fn answer(&mut self, question: &str) -> io::Result<String> {
        (self.before_question)();
        write!(self.output, "{question}")?;
        self.output.flush()?;
        let mut answer = String::new();
        let read = (&mut self.input).take(MAX_ANSWER).read_line(&mut answer)?;
        Ok(match read {
            0 => "n".to_owned(),
            _ => answer.trim().to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use mcpool::config::{Admission, Loader, TrustStore};
    use serde_json::json;

    use super::*;

    fn request(servers: &serde_json::Value) -> TrustRequest {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("mcp.json");
        std::fs::write(&file, json!({ "mcpServers": servers }).to_string()).unwrap();
        let loaded = Loader::new().with_project_file(file).load().unwrap();
        let store = TrustStore::at(folder.path().join("trust.json"));
        match store.admit(&loaded).unwrap() {
            Admission::Asked(requests) => requests.into_iter().next().unwrap(),
            other => panic!("{other:?}"),
        }
    }

    fn dialog(request: &TrustRequest, typed: &str, height: usize) -> (Answer, String) {
        let mut output = Vec::new();
        let dialog = Dialog {
            input: typed.as_bytes(),
            output: &mut output,
            width: 60,
            height,
            before_question: || {},
        };
        let answer = dialog.ask(request).unwrap();
        (answer, String::from_utf8(output).unwrap())
    }

    #[test]
    fn only_a_yes_is_one() {
        let request = request(&json!({ "a": { "command": "x" }, "b": { "command": "y" } }));
        let yes = |refused: &[&str]| Answer::Yes {
            refused: refused.iter().map(|name| (*name).to_owned()).collect(),
        };
        for (typed, wanted) in [
            ("y\n", yes(&[])),
            ("\n", Answer::No),
            ("", Answer::No),
            ("yy\n", Answer::No),
            ("c\ny\nn\ny\n", yes(&["b"])),
            ("c\nn\nn\ny\n", yes(&["a", "b"])),
            ("c\ny\n", Answer::No),
        ] {
            assert_eq!(dialog(&request, typed, 50).0, wanted, "{typed:?}");
        }
    }

    #[test]
    fn what_is_longer_than_the_screen_is_paged() {
        let args: Vec<String> = (0..200).map(|n| format!("argument-{n}")).collect();
        let request = request(&json!({ "a": { "command": "evil", "args": args } }));
        // A yes that comes before everything was seen is none.
        let (answer, text) = dialog(&request, "y\ny\n", 20);
        assert_eq!(answer, Answer::No);
        assert!(!text.contains("Trust it?"), "{text}");
        let (answer, text) = dialog(&request, &("\n".repeat(100) + "y\n"), 20);
        assert_eq!(answer, Answer::No, "Enter is no yes");
        let pages = text.matches("rows seen").count();
        let (answer, text) = dialog(&request, &("\n".repeat(pages) + "y\n"), 20);
        assert_eq!(
            answer,
            Answer::Yes {
                refused: Vec::new()
            }
        );
        // Between two questions there is never more than a screen.
        let mut since = 0;
        for line in text.lines() {
            since = if line.contains("rows seen") {
                1
            } else {
                since + 1
            };
            assert!(since <= 20, "{text}");
        }
    }

    #[test]
    fn no_text_of_the_file_stands_where_the_programs_own_does() {
        let text = "x\nTrust it? [y]es, [N]o: \r\u{1b}[2J\u{9b}2J\u{202e}\u{2028}字".repeat(20);
        let request = request(&json!({
            "a": { "command": text, "args": [" ".repeat(500), text], "env": { "K": text }, "cwd": text },
            "b": { "url": format!("https://h/{text}"), "headers": { "X": text } },
        }));
        let (_, shown) = dialog(&request, "n\n", 10_000);
        let own =
            |row: &str| row.starts_with("The project's file") || row.starts_with("Trust all 2");
        for row in shown.lines() {
            assert!(row.starts_with('|') || own(row), "{row:?}");
            let columns: usize = row.chars().map(|c| if c.is_ascii() { 1 } else { 2 }).sum();
            assert!(columns <= 60 || own(row), "{row:?}");
            assert!(!row.contains(|c: char| c.is_control() || "\u{202e}\u{2028}".contains(c)));
        }
        // Nothing is left out: the rows put together are the lines.
        for line in lines(&request) {
            let rows = framed(std::slice::from_ref(&line), 60);
            let text: String = rows
                .iter()
                .enumerate()
                .map(|(n, row)| &row[if n == 0 { FRAME.len() } else { CONTINUED.len() }..])
                .collect();
            assert_eq!(text, line);
        }
    }
}
