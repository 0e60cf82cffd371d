//! How the program ends: exit codes, and what it says when something failed.

#[cfg(feature = "gateway")]
use std::path::Path;
use std::{error::Error as _, process::ExitCode};

use mcpool::{ConnectFailure, Delivery, Error, ErrorKind, ServerName, StderrLine, config};
use serde_json::{Value, json};

use crate::{invocation::program, render::text::Text, text};

/// The exit codes, which are part of the command line's contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// 0
    Good,
    /// 1: a bug in mcpool, or its output could not be written.
    Internal,
    /// 2: the command line or the config is wrong.
    Usage,
    /// 3: somebody has to log in.
    LoginNeeded,
    /// 4: a server cannot be reached.
    Unreachable,
    /// 5: the tool, or the server, answered with an error.
    ToolError,
    /// 6: the call may have run.
    OutcomeUnknown,
    /// 128 + the signal's number.
    Signal(u8),
}

impl Exit {
    /// The number.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Good => 0,
            Self::Internal => 1,
            Self::Usage => 2,
            Self::LoginNeeded => 3,
            Self::Unreachable => 4,
            Self::ToolError => 5,
            Self::OutcomeUnknown => 6,
            Self::Signal(number) => 128_u8.saturating_add(number),
        }
    }

    /// The code for an error.
    pub(crate) fn of(error: &Error) -> Self {
        Self::of_kind(error.kind())
    }

    fn of_kind(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::InvalidSpec
            | ErrorKind::Unresolved
            | ErrorKind::InvalidArgument
            | ErrorKind::UnknownServer
            | ErrorKind::UnknownTool
            | ErrorKind::Disabled => Self::Usage,
            ErrorKind::AuthRequired | ErrorKind::Forbidden => Self::LoginNeeded,
            ErrorKind::Rpc => Self::ToolError,
            ErrorKind::OutcomeUnknown => Self::OutcomeUnknown,
            ErrorKind::Internal => Self::Internal,
            _ => Self::Unreachable,
        }
    }

    /// The code for an error of a call that may have had an effect: when it may have run, that is
    /// the news. It may have when nothing is known, and when what came for an answer is none that
    /// can be read. A status is an answer, too, and an error.
    pub(crate) fn of_call(error: &Error) -> Self {
        match (Self::of(error), error.delivery(), error.kind()) {
            (Self::Unreachable, Delivery::Answered, ErrorKind::HttpStatus) => Self::ToolError,
            (Self::Unreachable, Delivery::Unknown | Delivery::Answered, _) => Self::OutcomeUnknown,
            (exit, ..) => exit,
        }
    }

    /// The code for a list of failures: theirs if all are of one kind, else unreachable.
    pub(crate) fn of_all(kinds: impl IntoIterator<Item = ErrorKind>) -> Self {
        let mut exit = Self::Good;
        for kind in kinds {
            let this = Self::of_kind(kind);
            exit = match exit {
                Self::Good => this,
                exit if exit == this => exit,
                _ => Self::Unreachable,
            };
        }
        exit
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// What a command gives: its exit code, or why it could not do what it was asked.
pub(crate) type Outcome = Result<Exit, Failure>;

/// Why a command could not do what it was asked.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    message: Text,
    kind: &'static str,
    error: Option<Error>,
    hints: Vec<Text>,
    /// Whether the message or a hint says in words what the innermost cause says in its own.
    is_explained: bool,
}

impl Failure {
    /// Something is wrong with the command line or the config.
    pub(crate) fn usage(message: Text) -> Self {
        Self {
            exit: Exit::Usage,
            message,
            kind: "usage",
            error: None,
            hints: Vec::new(),
            is_explained: false,
        }
    }

    /// A failed call.
    pub(crate) fn call(error: Error) -> Self {
        Self {
            exit: Exit::of_call(&error),
            ..Self::from(error)
        }
    }

    /// Something of our own failed.
    pub(crate) fn internal(message: Text) -> Self {
        Self {
            exit: Exit::Internal,
            message,
            kind: "internal",
            error: None,
            hints: Vec::new(),
            is_explained: false,
        }
    }

    /// Says this to people in place of the error's own words, which programs get.
    pub(crate) fn saying(mut self, message: Text) -> Self {
        self.message = message;
        self
    }

    /// Adds a line that says more: what exactly is wrong, or what to do.
    pub(crate) fn with_hint(mut self, hint: Text) -> Self {
        self.hints.push(hint);
        self
    }

    /// Adds several such lines.
    pub(crate) fn with_hints(mut self, hints: impl IntoIterator<Item = Text>) -> Self {
        self.hints.extend(hints);
        self
    }

    /// Adds how a file is made, where it is not there.
    #[cfg(feature = "gateway")]
    pub(crate) fn with_maker_of(self, path: &Path, how: Text) -> Self {
        self.with_hints((!path.exists()).then_some(how))
    }

    /// Adds how a file with a key that seals is made, where it is not there.
    #[cfg(feature = "gateway")]
    pub(crate) fn with_key_maker(self, path: &Path) -> Self {
        let how = text!(
            "`(umask 077; openssl rand -base64 32 > {})` makes a key",
            path
        );
        self.with_maker_of(path, how)
    }

    /// Adds what to try where the cause is understood: it is not said again in its own words.
    pub(crate) fn with_tries(mut self, tries: Vec<Text>) -> Self {
        self.is_explained |= !tries.is_empty();
        self.hints.extend(tries);
        self
    }

    /// Whether lines say more.
    pub(crate) fn has_hints(&self) -> bool {
        !self.hints.is_empty()
    }

    /// What happened, without hints.
    #[cfg(feature = "gateway")]
    pub(crate) fn message(&self) -> &Text {
        &self.message
    }

    /// The exit code.
    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }

    /// The server that wants a login, unless it is the login that failed.
    pub(crate) fn wants_login(&self) -> Option<&ServerName> {
        let error = self.error.as_ref()?;
        let wants = error.kind() == ErrorKind::AuthRequired && error.operation() != Some("login");
        error.server().filter(|_| wants)
    }

    /// For people, over several lines where there is more to say.
    pub(crate) fn to_text(&self) -> Text {
        let mut text = text!("error: {}", self.message);
        for hint in &self.hints {
            text.push(&text!("\n  {}", hint));
        }
        if let Some(error) = &self.error {
            if let Some(cause) = root_cause(error).filter(|_| !self.is_explained) {
                text.push(&text!("\n  caused by: {}", cause));
            }
            let said = error.stderr_tail();
            if (1..=SHOWN_STDERR).contains(&said.len()) {
                text.push(&text!("\n  the last lines of the server's stderr:"));
                for line in said {
                    text.push(&text!("\n    {}", line));
                }
            } else if let Some(line) = StderrLine::telling(said) {
                // Of a stack the line that says the cause.
                text.push(&text!(
                    "\n  the server said on stderr: {}\n  `{} doctor` shows all {} lines",
                    line,
                    program(),
                    said.len()
                ));
            }
        }
        if self.exit == Exit::OutcomeUnknown {
            text.push(&text!(
                "\n  the call may have run; look before you call again"
            ));
        }
        text
    }

    /// For programs.
    pub(crate) fn to_json(&self) -> Value {
        let mut error = match &self.error {
            Some(error) => json!(error),
            None => json!({
                "kind": self.kind,
                "message": self.message.as_str(),
                "stderr_tail": [],
            }),
        };
        let hints: Vec<&str> = self.hints.iter().map(Text::as_str).collect();
        error["hints"] = json!(hints);
        json!({ "error": error })
    }
}

/// How many lines of stderr are shown whole.
const SHOWN_STDERR: usize = 5;

/// How many names are shown of those that there are.
const SHOWN_NAMES: usize = 20;

/// A name that is none of those that there are: which one was probably meant, else which there
/// are.
pub(crate) fn unknown(what: &'static str, name: &str, known: &[&str]) -> Failure {
    let failure = Failure::usage(text!("there is no {} `{}`", what, name));
    failure.with_hint(match config::nearest(name, known.iter().copied()) {
        Some(near) => text!("did you mean `{}`?", near),
        None if known.is_empty() => text!("there is none at all"),
        None => {
            let names = known
                .iter()
                .take(SHOWN_NAMES)
                .map(|name| text!("{}", *name));
            let mut text = text!("there are: {}", Text::join(names, ", "));
            match known.len().saturating_sub(SHOWN_NAMES) {
                0 => {}
                more => text.push(&text!(" and {} more", more)),
            }
            text
        }
    })
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self {
            exit: Exit::of(&error),
            message: text!("{}", error),
            kind: error.kind().as_str(),
            is_explained: error.kind() == ErrorKind::CommandNotFound,
            error: Some(error),
            hints: Vec::new(),
        }
    }
}

/// How far an error's causes are followed.
const MAX_CAUSES: usize = 32;

/// The innermost cause of an error, unless the error says it already. What stands between only
/// repeats: "error sending request", "client error".
fn root_cause(error: &Error) -> Option<String> {
    let mut root = error.source()?;
    for _ in 0..MAX_CAUSES {
        match root.source() {
            Some(source) => root = source,
            None => break,
        }
    }
    if root.is::<ConnectFailure>() {
        // What was tried, which `doctor` shows.
        return None;
    }
    let root = root.to_string();
    // "Connection refused (os error 111)", "No such file or directory (os error 2)"
    let words = root.split(" (os error").next().unwrap_or_default();
    let words = words.split(" or ").next().unwrap_or_default();
    let is_said = error
        .to_string()
        .to_lowercase()
        .contains(&words.to_lowercase());
    (!is_said).then_some(root)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(kind: ErrorKind) -> Error {
        Error::new(kind, "x")
    }

    #[test]
    fn the_codes_are_the_documented_ones() {
        for (kind, code) in [
            (ErrorKind::InvalidSpec, 2),
            (ErrorKind::UnknownServer, 2),
            (ErrorKind::AuthRequired, 3),
            (ErrorKind::CommandNotFound, 4),
            (ErrorKind::ProcessExited, 4),
            (ErrorKind::Timeout, 4),
            (ErrorKind::Rpc, 5),
            (ErrorKind::OutcomeUnknown, 6),
        ] {
            assert_eq!(Exit::of(&error(kind)).code(), code, "{kind}");
        }
        assert_eq!(Exit::Signal(2).code(), 130);
        assert_eq!(Exit::Signal(15).code(), 143);
    }

    #[test]
    fn a_call_that_may_have_run_is_of_unknown_outcome() {
        let lost = error(ErrorKind::ConnectionLost);
        assert_eq!(Exit::of_call(&lost), Exit::OutcomeUnknown);
        let unsent = lost.with_delivery(Delivery::NotSent);
        assert_eq!(Exit::of_call(&unsent), Exit::Unreachable);
        for (kind, exit) in [
            (ErrorKind::Protocol, Exit::OutcomeUnknown),
            (ErrorKind::TooLarge, Exit::OutcomeUnknown),
            (ErrorKind::HttpStatus, Exit::ToolError),
            (ErrorKind::Rpc, Exit::ToolError),
        ] {
            let answered = error(kind).with_delivery(Delivery::Answered);
            assert_eq!(Exit::of_call(&answered), exit, "{kind}");
        }
    }

    #[test]
    fn many_failures_have_a_code_of_their_own_only_if_all_have_it() {
        let (login, dead) = (ErrorKind::AuthRequired, ErrorKind::Connect);
        assert_eq!(Exit::of_all([]), Exit::Good);
        assert_eq!(Exit::of_all([login, login]), Exit::LoginNeeded);
        let unset = ErrorKind::Unresolved;
        assert_eq!(Exit::of_all([unset]), Exit::Usage);
        assert_eq!(Exit::of_all([unset, login]), Exit::Unreachable);
        assert_eq!(Exit::of_all([login, dead]), Exit::Unreachable);
        assert_eq!(Exit::of_all([dead, login]), Exit::Unreachable);
    }
}
