//! Long answers go to a pager, on a terminal only, when everything else is done: the servers are
//! closed, and Ctrl-C is the pager's.

use std::{
    env,
    io::Write as _,
    process::{Command, Stdio},
    sync::{Mutex, PoisonError},
};

/// What waits for the end.
static WAITING: Mutex<String> = Mutex::new(String::new());

/// Whether a text is for the pager: it has more lines than the terminal has rows.
pub(super) fn wants(text: &str, rows: usize) -> bool {
    text.lines().count() >= rows && command().is_some()
}

/// Keeps a text, cleaned and masked, for [`run`].
pub(super) fn keep(text: &str) {
    WAITING
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push_str(text);
}

/// Shows what was kept. Gives it back when no pager can be started.
pub(super) fn run() -> Option<String> {
    let text = std::mem::take(&mut *WAITING.lock().unwrap_or_else(PoisonError::into_inner));
    if text.is_empty() {
        return None;
    }
    let Some(words) = command() else {
        return Some(text);
    };
    let (program, args) = words.split_first()?;
    let mut pager = Command::new(program);
    pager.args(args).stdin(Stdio::piped());
    if env::var_os("LESS").is_none() {
        // Colours as they are, no clearing of the screen, no pager for a page.
        pager.env("LESS", "FRX");
    }
    let Ok(mut child) = pager.spawn() else {
        return Some(text);
    };
    if let Some(mut input) = child.stdin.take() {
        // A pager that was left early has closed it.
        let _ = input.write_all(text.as_bytes());
    }
    let _ = child.wait();
    None
}

/// `$PAGER`, else `less`. `PAGER=` and `PAGER=cat` ask for none.
fn command() -> Option<Vec<String>> {
    let pager = match env::var("PAGER") {
        Ok(pager) => shlex::split(&pager)?,
        Err(_) => vec!["less".to_owned()],
    };
    match pager.first().map(String::as_str) {
        None | Some("" | "cat") => None,
        Some(_) => Some(pager),
    }
}
