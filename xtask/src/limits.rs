//! `docs/limits.md` lists every bound, and its numbers are those of the code.
//!
//! The last cell of each row says what shows it: a constant or a field's default (`` `NAME` in
//! `crate/src/file.rs` ``), whose value must stand in the row, or a test (`` `its_name` ``),
//! which must be there. The other way round, a constant that has a bound's name must have a row.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use crate::{Outcome, tools::root};

const DOCUMENT: &str = "docs/limits.md";

/// Fails on a row that is not true, and on a bound that has no row.
pub(crate) fn run() -> Outcome {
    let read = |path: &Path| {
        fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
    };
    let document = read(&root().join(DOCUMENT))?;
    let mut sources = BTreeMap::new();
    collect(&root().join("crates"), &root().join("crates"), &mut sources)?;
    let problems = compare(&document, &sources);
    if problems.is_empty() {
        return Ok(());
    }
    for problem in &problems {
        eprintln!("{DOCUMENT}: {problem}");
    }
    Err(format!("{DOCUMENT}: {} problems", problems.len()))
}

/// The Rust files below a directory, by their paths below `base`.
fn collect(
    directory: &Path,
    base: &Path,
    sources: &mut BTreeMap<String, String>,
) -> Result<(), String> {
    let failed = |error| format!("{}: {error}", directory.display());
    for entry in fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.is_dir() {
            collect(&path, base, sources)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).map_err(failed)?;
            let name = path.strip_prefix(base).unwrap_or(&path);
            sources.insert(name.to_string_lossy().into_owned(), text);
        }
    }
    Ok(())
}

/// What is wrong with the document.
fn compare(document: &str, sources: &BTreeMap<String, String>) -> Vec<String> {
    let mut problems = Vec::new();
    let mut listed = BTreeSet::new();
    for (number, row) in rows(document) {
        let mut problem = |what: String| problems.push(format!("line {number}: {what}"));
        let Some((said, proof)) = row
            .trim_matches('|')
            .rsplit_once('|')
            .filter(|(_, proof)| proof.contains('`'))
        else {
            problem("the last cell names no constant, field or test".into());
            continue;
        };
        for (name, file) in proofs(proof) {
            let Some(file) = file else {
                if !sources
                    .values()
                    .any(|text| text.contains(&format!("fn {name}(")))
                {
                    problem(format!("there is no test {name}"));
                }
                continue;
            };
            match sources.get(file).and_then(|text| value_of(text, name)) {
                None => problem(format!("{file} has no {name} whose value can be read")),
                Some(value) if !value.is_said_in(said) => problem(format!(
                    "{name} in {file} is {value:?}, which the row does not say"
                )),
                Some(_) => {}
            }
            listed.insert((file.to_owned(), name.to_owned()));
        }
    }
    for (file, text) in sources {
        if file.starts_with("mcpool-testkit/") || !file.contains("/src/") {
            continue;
        }
        let unlisted = bounds(text).filter(|name| {
            !listed.contains(&(file.clone(), (*name).to_owned())) && value_of(text, name).is_some()
        });
        problems.extend(unlisted.map(|name| format!("no row for {name} in {file}")));
    }
    problems
}

/// The rows of all tables with their line numbers, without heads.
fn rows(document: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines: Vec<&str> = document.lines().collect();
    let is_head = move |index: usize| {
        let line = |index: usize| lines.get(index).copied().unwrap_or_default();
        line(index).starts_with("|-") || line(index + 1).starts_with("|-")
    };
    document
        .lines()
        .enumerate()
        .filter(move |(index, line)| line.starts_with('|') && !is_head(*index))
        .map(|(index, line)| (index + 1, line))
}

/// The names in backticks; a file after " in " belongs to the names before it.
fn proofs(cell: &str) -> Vec<(&str, Option<&str>)> {
    let mut proofs: Vec<(&str, Option<&str>)> = Vec::new();
    let mut open = 0;
    for part in cell.split('`').skip(1).step_by(2) {
        if part.ends_with(".rs") {
            for proof in &mut proofs[open..] {
                proof.1 = Some(part);
            }
            open = proofs.len();
        } else {
            proofs.push((part, None));
        }
    }
    proofs
}

/// The constants of a file whose names are those of bounds.
fn bounds(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| {
        let declared = line.trim_start().trim_start_matches("pub ");
        let declared = declared.trim_start_matches("pub(crate) ");
        let (name, _) = declared.strip_prefix("const ")?.split_once(':')?;
        let is_bound = name.starts_with("MAX_")
            || ["LIMIT", "TIMEOUT", "PATIENCE", "CAPACITY", "QUEUE", "MAX"]
                .iter()
                .any(|end| name.ends_with(end));
        is_bound.then_some(name)
    })
}

/// What a constant or a field's default is.
#[derive(Debug, PartialEq, Eq)]
enum Value {
    Number(u64),
    Milliseconds(u64),
}

impl Value {
    /// Whether the text has it, in one of the ways that people write it.
    fn is_said_in(&self, text: &str) -> bool {
        // "10 000" is "10000".
        let mut joined = String::new();
        let mut rest = text.chars().peekable();
        while let Some(letter) = rest.next() {
            let between = letter == ' '
                && joined.ends_with(|last: char| last.is_ascii_digit())
                && rest.peek().is_some_and(char::is_ascii_digit);
            if !between {
                joined.push(letter);
            }
        }
        let (amount, units): (u64, &[(u64, &str)]) = match self {
            Self::Number(number) => (
                *number,
                &[
                    (1, ""),
                    (1 << 10, " KiB"),
                    (1 << 20, " MiB"),
                    (1 << 30, " GiB"),
                ],
            ),
            Self::Milliseconds(number) => (
                *number,
                &[
                    (1, " ms"),
                    (1_000, " s"),
                    (60_000, " min"),
                    (3_600_000, " h"),
                    (86_400_000, " d"),
                    (31_536_000_000, " a"),
                ],
            ),
        };
        units.iter().any(|(size, unit)| {
            amount % size == 0 && has_token(&joined, &format!("{}{unit}", amount / size))
        })
    }
}

/// Whether the token stands in the text, and no longer number or word instead.
fn has_token(text: &str, token: &str) -> bool {
    text.match_indices(token).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + token.len()..].chars().next();
        !before.is_some_and(|letter| letter.is_ascii_digit())
            && !after.is_some_and(char::is_alphanumeric)
    })
}

/// The value that a file gives a name: `const NAME: … = value;` or `name: value,`.
fn value_of(text: &str, name: &str) -> Option<Value> {
    let constant = format!("const {name}:");
    let field = format!("{name}:");
    text.lines().find_map(|line| {
        if let Some((_, rest)) = line.split_once(&constant) {
            return evaluate(rest.split_once('=')?.1.trim().strip_suffix(';')?);
        }
        evaluate(
            line.trim_start()
                .strip_prefix(&field)?
                .trim()
                .strip_suffix(',')?,
        )
    })
}

/// Numbers, their products and shifts, durations, and these in `Some`.
fn evaluate(text: &str) -> Option<Value> {
    let text = text.trim();
    let text = text.strip_prefix("std::time::").unwrap_or(text);
    let inside = |text: &'_ str, before: &str| -> Option<String> {
        Some(text.strip_prefix(before)?.strip_suffix(')')?.to_owned())
    };
    if let Some(inner) = inside(text, "Some(") {
        return evaluate(&inner);
    }
    for (before, factor) in [
        ("Duration::from_secs(", 1_000),
        ("Duration::from_millis(", 1),
    ] {
        if let Some(inner) = inside(text, before) {
            return Some(Value::Milliseconds(number(&inner)?.checked_mul(factor)?));
        }
    }
    number(text).map(Value::Number)
}

fn number(text: &str) -> Option<u64> {
    if let Some((value, shift)) = text.split_once("<<") {
        let shift = u32::try_from(number(shift)?).ok()?;
        return number(value)?.checked_mul(1_u64.checked_shl(shift)?);
    }
    text.split('*').try_fold(1_u64, |product, factor| {
        product.checked_mul(factor.trim().replace('_', "").parse().ok()?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources() -> BTreeMap<String, String> {
        let file = "const MAX_BODY: usize = 64 * 1024;\npub const WAIT_TIMEOUT: Duration = \
                    Duration::from_secs(10);\nfn a_test() {}\nfn default() {\n  Self {\n    \
                    rounds: usize,\n    rounds: 10_000,\n";
        BTreeMap::from([("mcpool-a/src/lib.rs".to_owned(), file.to_owned())])
    }

    fn with(row: &str) -> Vec<String> {
        let known = "| a | 64 KiB | fixed | `MAX_BODY`, `MAX_BODY` in `mcpool-a/src/lib.rs` |\n\
                     | b | 10 s | fixed | `WAIT_TIMEOUT` in `mcpool-a/src/lib.rs` |\n";
        let document =
            format!("| what | bound | setting | shown by |\n|---|---|---|---|\n{known}{row}");
        compare(&document, &sources())
    }

    #[test]
    fn rows_that_are_true() {
        assert_eq!(with(""), [""; 0]);
        assert_eq!(
            with("| c | 10 000 | `rounds` | `rounds` in `mcpool-a/src/lib.rs` |"),
            [""; 0]
        );
        assert_eq!(with("| c | none | fixed | `a_test` |"), [""; 0]);
    }

    #[test]
    fn rows_that_are_not() {
        for (row, problem) in [
            (
                "| c | 1000 | x | `rounds` in `mcpool-a/src/lib.rs` |",
                "is Number(10000)",
            ),
            (
                "| c | 110 000 | x | `rounds` in `mcpool-a/src/lib.rs` |",
                "is Number(10000)",
            ),
            (
                "| c | 1 | x | `other` in `mcpool-a/src/lib.rs` |",
                "has no other",
            ),
            ("| c | 1 | x | `no_test` |", "no test no_test"),
            ("| c | 1 | x | |", "names no constant"),
        ] {
            let problems = with(row);
            assert_eq!(problems.len(), 1, "{row}: {problems:?}");
            assert!(
                problems[0].starts_with("line 5: ") && problems[0].contains(problem),
                "{problems:?}"
            );
        }
    }

    #[test]
    fn a_bound_without_a_row() {
        let problems = compare("", &sources());
        assert_eq!(
            problems,
            [
                "no row for MAX_BODY in mcpool-a/src/lib.rs",
                "no row for WAIT_TIMEOUT in mcpool-a/src/lib.rs"
            ]
        );
    }

    #[test]
    fn units() {
        for (text, value) in [
            ("1 << 20", Value::Number(1 << 20)),
            (
                "Some(Duration::from_millis(1_500))",
                Value::Milliseconds(1_500),
            ),
            ("365 * 24", Value::Number(8_760)),
        ] {
            assert_eq!(evaluate(text), Some(value), "{text}");
        }
        assert!(Value::Milliseconds(600_000).is_said_in("at most 10 min"));
        assert!(Value::Number(16 << 20).is_said_in("16 MiB, then an error"));
        assert!(!Value::Milliseconds(1_000).is_said_in("11 s"));
        assert!(!Value::Milliseconds(1_000).is_said_in("1 small"));
    }
}
