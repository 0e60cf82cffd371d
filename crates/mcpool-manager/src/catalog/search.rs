//! Finds tools by words: ranks them by how well their names and descriptions fit (BM25).
//!
//! ```
//! use mcpool_manager::search;
//!
//! let tools = ["read_file Reads a file", "get-sum Adds numbers", "listFiles Lists the files"];
//! let found = search::rank("files", tools.map(str::to_owned).to_vec());
//! assert_eq!(found.len(), 2);
//! assert!(!found.contains(&1));
//! ```

use std::fmt;

use bm25::{SearchEngine, SearchEngineBuilder, Tokenizer};
use mcpool_core::model::Tool;

/// What is searched of a tool: its name, which counts twice, its title, its description, and the
/// names of its parameters.
#[must_use]
pub fn document(name: &str, tool: &Tool) -> String {
    let title = tool.title.as_deref().unwrap_or_default();
    let description = tool.description.as_deref().unwrap_or_default();
    let mut text = format!("{name} {name} {title} {description}");
    let parameters = tool.input_schema.get("properties");
    for parameter in parameters
        .and_then(|all| all.as_object())
        .into_iter()
        .flatten()
    {
        text.push(' ');
        text.push_str(parameter.0);
    }
    text
}

/// The indices of the documents that have any of the words, the best first. Of two that fit as
/// well the earlier one comes first.
///
/// Parts of `read_file`, `read-file` and `readFile` are words; case and the `s` of a plural make no
/// difference. It reads every document each time: see [`Index`].
#[must_use]
pub fn rank(words: &str, documents: Vec<String>) -> Vec<usize> {
    Index::new(documents).rank(words)
}

/// Documents that are searched more than once. What takes time is to make it: reading them.
pub struct Index(SearchEngine<u32, u32, Words>);

impl Index {
    /// Reads the documents.
    #[must_use]
    pub fn new(documents: Vec<String>) -> Self {
        let engine =
            SearchEngineBuilder::<u32, u32, _>::with_tokenizer_and_corpus(Words, documents);
        Self(engine.build())
    }

    /// As [`rank`].
    #[must_use]
    pub fn rank(&self, words: &str) -> Vec<usize> {
        let mut found = self.0.search(words, None);
        found.sort_by(|a, b| {
            let by_score = b.score.total_cmp(&a.score);
            by_score.then(a.document.id.cmp(&b.document.id))
        });
        let ids = found.into_iter().map(|found| found.document.id);
        ids.filter_map(|id| usize::try_from(id).ok()).collect()
    }
}

impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Index").finish_non_exhaustive()
    }
}

/// Words as names and descriptions have them: parts of `read_file`, `read-file` and `readFile`,
/// in lower case, without a plural's `s`.
#[derive(Debug)]
struct Words;

impl Tokenizer for Words {
    fn tokenize(&self, text: &str) -> Vec<String> {
        let mut words = Vec::new();
        for part in text.split(|c: char| !c.is_alphanumeric()) {
            let mut word = String::new();
            let mut after_lower = false;
            for c in part.chars() {
                if c.is_uppercase() && after_lower {
                    words.push(singular(std::mem::take(&mut word)));
                }
                after_lower = c.is_lowercase();
                word.extend(c.to_lowercase());
            }
            if !word.is_empty() {
                words.push(singular(word));
            }
        }
        words
    }
}

fn singular(word: String) -> String {
    match word.strip_suffix('s') {
        Some(one) if one.chars().count() > 2 && !one.ends_with('s') => one.to_owned(),
        _ => word,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn best(words: &str) -> Vec<usize> {
        let documents = [
            "read_file Reads the contents of a file",
            "listDirectory Lists files and directories",
            "get-sum Returns the sum of two numbers",
            "write_file Writes a file. A file is written whole",
        ];
        rank(words, documents.map(str::to_owned).to_vec())
    }

    #[test]
    fn names_and_descriptions_are_searched_by_words() {
        assert_eq!(best("sum of numbers")[0], 2);
        assert_eq!(best("directory"), [1]);
        assert_eq!(best("DIRECTORY"), [1]);
        assert_eq!(best("read")[0], 0);
        assert!(best("files").len() == 3 && !best("files").contains(&2));
        assert_eq!(best("nothing like it"), Vec::<usize>::new());
        assert_eq!(best(""), Vec::<usize>::new());
        assert_eq!(rank("x", Vec::new()), Vec::<usize>::new());
    }

    #[test]
    fn words_are_cut_where_names_are() {
        let words = Words.tokenize("readTextFile list_files HTTPServer class é1");
        assert_eq!(
            words,
            [
                "read",
                "text",
                "file",
                "list",
                "file",
                "httpserver",
                "class",
                "é1"
            ]
        );
    }
}
