//! Problems: what is wrong, where, and what to do. Plain data, so that any renderer will do.

use std::fmt;

use mcpool_core::Untrusted;

use crate::source::Span;

/// How bad a [`Problem`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Severity {
    /// Works, and could be written better.
    Note,
    /// Works, but perhaps not as meant, or not safely.
    Warning,
    /// The entry, or the file, cannot be used.
    Error,
}

impl Severity {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One thing to say about a configuration.
///
/// No text in it holds a secret, and what the file put into `message`, `help`, `label` and
/// `related` is escaped and cut (see [`Untrusted`]). `server` is as the file wrote it. The source
/// line is shown by [`Span::excerpt`].
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// A stable word for the kind of problem, such as `unknown-field`.
    pub code: &'static str,
    /// What is wrong, in one sentence.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
    /// The server it is about.
    pub server: Option<String>,
    /// The place, when it has one.
    pub span: Option<Span>,
    /// The words beside the caret.
    pub label: Option<String>,
    /// Other places that belong to it, such as the first of two equal keys.
    pub related: Vec<(String, Span)>,
}

impl Problem {
    /// The code of an error that costs a profile and nothing else.
    pub(crate) const WRONG_PROFILE: &str = "wrong-profile";

    pub(crate) fn new(severity: Severity, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            severity,
            code,
            message: clean(message, MAX_MESSAGE_CHARS),
            help: None,
            server: None,
            span: None,
            label: None,
            related: Vec::new(),
        }
    }

    pub(crate) fn error(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, code, message)
    }

    pub(crate) fn warning(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, code, message)
    }

    pub(crate) fn note(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Severity::Note, code, message)
    }

    pub(crate) fn at(mut self, span: Span) -> Self {
        self.span = Some(span);
        self
    }

    pub(crate) fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(clean(label, MAX_LABEL_CHARS));
        self
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(clean(help, MAX_MESSAGE_CHARS));
        self
    }

    pub(crate) fn related(mut self, label: impl Into<String>, span: Span) -> Self {
        self.related.push((clean(label, MAX_LABEL_CHARS), span));
        self
    }

    /// Whether it is an error.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// Whether it is an error that spoils a whole file rather than one server's entry or one
    /// profile.
    #[must_use]
    pub fn spoils_file(&self) -> bool {
        self.is_error() && self.server.is_none() && self.code != Self::WRONG_PROFILE
    }
}

/// How long a message or a help is shown, in characters.
const MAX_MESSAGE_CHARS: usize = 500;

/// How long the words beside a caret are, in characters.
const MAX_LABEL_CHARS: usize = 100;

/// Words of ours with words of a file among them.
fn clean(text: impl Into<String>, max_chars: usize) -> String {
    let text = Untrusted::line(text.into()).clip(max_chars);
    text.into_clean().into_owned()
}

/// One line: severity, place, message.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(span) = &self.span {
            write!(f, "{span}: ")?;
        }
        write!(f, "{}: ", self.severity)?;
        if let Some(server) = &self.server {
            write!(f, "server {:?}: ", Untrusted::line(server))?;
        }
        f.write_str(&self.message)
    }
}

/// The known word that a mistyped one probably stands for: the nearest one, when at most a third
/// of its letters, and at most three, differ; else the only one that begins with it, when it has
/// three letters or more. Case, `-`, `_` and spaces do not count.
#[must_use]
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |text: &str| text.to_lowercase().replace(['-', '_', ' '], "");
    let wanted = plain(word);
    let length = wanted.chars().count();
    let known: Vec<(&str, String)> = known
        .into_iter()
        .map(|candidate| (candidate, plain(candidate)))
        .collect();
    let mut begun = known.iter().filter(|(_, other)| other.starts_with(&wanted));
    let begun = match (begun.next(), begun.next()) {
        (Some((candidate, _)), None) if length >= 3 => Some(*candidate),
        _ => None,
    };
    known
        .iter()
        // A distance over three never counts, and is not worth its time on a long word.
        .filter(|(_, other)| other.chars().count().abs_diff(length) <= 3)
        .map(|(candidate, other)| {
            let distance = strsim::damerau_levenshtein(&wanted, other);
            (distance, other.chars().count(), *candidate)
        })
        .filter(|(distance, length, _)| {
            *distance <= (wanted.chars().count().max(*length) / 3).clamp(1, 3)
                && *distance < wanted.chars().count().max(1)
        })
        .min_by_key(|(distance, _, _)| *distance)
        .map(|(_, _, candidate)| candidate)
        .or(begun)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_words() {
        let known = ["command", "timeout", "startup_timeout", "env", "url"];
        for (word, want) in [
            ("comand", Some("command")),
            ("Command", Some("command")),
            ("startupTimeout", Some("startup_timeout")),
            ("timout", Some("timeout")),
            ("envs", Some("env")),
            ("start", Some("startup_timeout")),
            ("st", None),
            ("banana", None),
            ("", None),
            ("x", None),
        ] {
            assert_eq!(nearest(word, known), want, "{word}");
        }
    }
}
