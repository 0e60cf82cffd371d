//! The line of a server's stderr that says why it ended. Pure.

use super::StderrLine;

impl StderrLine {
    /// The line of a server's stderr that says what is wrong: the first that begins as an error
    /// does, else the first that has such a word, else the last. A guess.
    #[must_use]
    pub fn telling(lines: &[Self]) -> Option<&Self> {
        let best = lines
            .iter()
            .enumerate()
            .filter(|(_, line)| !line.text.trim().is_empty())
            .max_by_key(|(at, line)| {
                let weight = weight(&line.text);
                // Of two errors the first is the cause; of two lines that are none the last one.
                let place = isize::try_from(*at).unwrap_or(isize::MAX);
                (weight, if weight > 0 { -place } else { place })
            });
        best.map(|(_, line)| line)
    }
}

/// How much a line looks like the cause of an end.
fn weight(line: &str) -> u8 {
    // The frames of a stack, and what a source line says of itself.
    let quotes = ["throw ", "raise ", "at ", "File ", "Traceback", "^"];
    let text = line.trim_start();
    if text.len() != line.len() || quotes.iter().any(|quote| text.starts_with(quote)) {
        return 0;
    }
    let lower = text.to_lowercase();
    let first = lower.split([':', ' ']).next().unwrap_or_default();
    let begins = ["error", "exception", "fatal", "panic", "panicked", "usage"];
    let first = first.trim_matches(|c: char| !c.is_alphanumeric());
    if begins.iter().any(|word| first.ends_with(word)) || lower.starts_with("npm err") {
        return 2;
    }
    let words = [
        "error",
        "fatal",
        "panicked",
        "cannot",
        "could not",
        "not found",
        "no such",
        "missing",
        "required",
        "must ",
        "invalid",
        "denied",
        "refused",
        "failed",
        "unable",
        "not set",
        "usage:",
    ];
    u8::from(words.iter().any(|word| lower.contains(word)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<StderrLine> {
        text.lines().map(StderrLine::now).collect()
    }

    fn telling(text: &str) -> String {
        StderrLine::telling(&lines(text)).unwrap().text.clone()
    }

    #[test]
    fn the_line_that_says_the_cause_is_found_in_a_stack() {
        let node = "[eval]:1\nthrow new Error('KEY is not set')\n^\nError: KEY is not set\n    at [eval]:1:7\nNode.js v20";
        assert_eq!(telling(node), "Error: KEY is not set");
        let python = "Traceback (most recent call last):\n  File \"a.py\", line 1, in <module>\n    raise ValueError(1)\nModuleNotFoundError: No module named 'mcp'";
        assert_eq!(
            telling(python),
            "ModuleNotFoundError: No module named 'mcp'"
        );
        let npm = "npm error code E404\nnpm error 404 Not Found\nnpm error A complete log";
        assert_eq!(telling(npm), "npm error code E404");
        assert_eq!(telling("starting\nlistening\n\n"), "listening");
        assert!(StderrLine::telling(&[]).is_none());
    }
}
