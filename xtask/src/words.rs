//! `cargo xtask ci words`: words that the project no longer uses stay out.
//!
//! The documents, the sources and what they print are in plain technical English; `docs/glossary.md`
//! has its terms. A word comes on this list when the last place that had it was rewritten.

use std::{fs, path::Path};

use crate::{Outcome, documents, tools::root};

/// A word that is not written, and what is written for it.
type Word = (&'static str, &'static str);

const REMOVED: &[Word] = &[
    ("anew", "again"),
    ("bereave", "kill, end"),
    ("farewell", "shutdown, close"),
    ("hither", "here"),
    ("in vain", "without success"),
    ("are let pass", "are allowed, are ignored"),
    ("is let pass", "is allowed, is ignored"),
    ("so-many-th", "N-th"),
    ("tells of", "reports"),
    ("time-out", "timeout"),
    ("time-outs", "timeouts"),
    ("to the letter", "exactly"),
    ("whosoever", "who, any caller"),
    ("whoever", "who, any caller"),
];

/// What documents and comments do not say besides: in code these are names as well.
const REMOVED_FROM_TEXT: &[Word] = &[
    ("are spent", "are used up"),
    ("as ever", "as before"),
    ("last words", "last lines"),
    ("let go of", "release, drop"),
    ("lets go of", "releases, drops"),
    ("shall", "must, is to"),
    ("tell", "say, report, notify"),
    ("tells", "says, reports, notifies"),
    ("told", "notified, reported"),
    ("twice is once", "idempotent"),
];

/// This list itself.
const HERE: &str = "xtask/src/words.rs";

/// Checks documents and sources.
pub(crate) fn run() -> Outcome {
    let mut count = 0;
    let mut check = |path: &Path, text: &str, words: &[Word]| {
        for (number, line) in text.lines().enumerate() {
            for (word, instead) in found(line, words) {
                println!(
                    "words: {}:{}: {word} ({instead})",
                    path.display(),
                    number + 1
                );
                count += 1;
            }
        }
    };
    for document in documents::all()? {
        check(&document.path, &document.text, REMOVED);
        check(&document.path, &document.text, REMOVED_FROM_TEXT);
    }
    for path in documents::rust_files()? {
        if path != Path::new(HERE) {
            let failed = |error| format!("{}: {error}", path.display());
            let text = fs::read_to_string(root().join(&path)).map_err(failed)?;
            check(&path, &text, REMOVED);
            check(&path, &comments(&text), REMOVED_FROM_TEXT);
        }
    }
    match count {
        0 => Ok(()),
        count => Err(format!("{count} places have words that were removed")),
    }
}

/// The comments of a source, each in its line; the other lines are empty.
fn comments(source: &str) -> String {
    let lines = source.lines().map(|line| {
        // `://` is an address.
        let mut starts = line.match_indices("//");
        let start = starts.find(|(at, _)| !line[..*at].ends_with(':'));
        start.map_or("", |(at, _)| &line[at..])
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The removed words of a line.
fn found(line: &str, words: &[Word]) -> Vec<Word> {
    let line = line.to_lowercase();
    let mut found = words.to_vec();
    found.retain(|(word, _)| has_word(&line, word));
    found
}

/// Whether a text has a word that is not a part of a longer one.
fn has_word(text: &str, word: &str) -> bool {
    let inside = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '-');
    text.match_indices(word).any(|(at, _)| {
        let before = text.get(..at).and_then(|text| text.chars().next_back());
        let after = text
            .get(at + word.len()..)
            .and_then(|text| text.chars().next());
        !inside(before) && !inside(after)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_code_are_no_words() {
        let source = "let told = \"http://told\"; // told\nlet told = 1;";
        assert_eq!(comments(source), "// told\n");
    }

    #[test]
    fn only_whole_words_count() {
        let found = |line| found(line, REMOVED);
        assert_eq!(found("it starts Anew."), [("anew", "again")]);
        assert!(found("a timeout, janewood, start_anew").is_empty());
        assert_eq!(found("the time-out of").len(), 1);
        assert_eq!(found("its time-outs").len(), 1);
    }
}
