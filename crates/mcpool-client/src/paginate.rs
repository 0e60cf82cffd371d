//! Walks the pages of a list, and stops a server that never ends it.

use std::collections::HashSet;

use mcpool_core::{Error, Result};

use crate::error_map;

/// The cursors of one list. A pure state machine.
#[derive(Debug)]
pub(crate) struct Pages {
    seen: HashSet<String>,
    fetched: usize,
    max: usize,
}

impl Pages {
    /// A walk of at most so many pages; 0 counts as 1.
    pub(crate) fn new(max: usize) -> Self {
        Self {
            seen: HashSet::new(),
            fetched: 0,
            max: max.max(1),
        }
    }

    /// A page came, with this `nextCursor`. Gives the cursor of the next page; `None` when that
    /// was the last one.
    ///
    /// Cursors are opaque: an empty string is one (MCP 2025-11-25, "Pagination").
    pub(crate) fn turn(&mut self, next: Option<String>) -> Result<Option<String>> {
        self.fetched += 1;
        let Some(cursor) = next else {
            return Ok(None);
        };
        if !self.seen.insert(cursor.clone()) {
            return Err(endless(format!(
                "the server repeats the cursor {cursor:?} after {} pages",
                self.fetched
            )));
        }
        if self.fetched >= self.max {
            return Err(endless(format!(
                "the list has more than {} pages (limits.max_pages)",
                self.max
            )));
        }
        Ok(Some(cursor))
    }
}

fn endless(message: String) -> Error {
    error_map::protocol(message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mcpool_core::ErrorKind;

    #[test]
    fn a_missing_cursor_ends_the_list_and_an_empty_one_does_not() {
        let mut pages = Pages::new(10);
        assert_eq!(
            pages.turn(Some(String::new())).unwrap().as_deref(),
            Some("")
        );
        assert_eq!(pages.turn(None).unwrap(), None);
    }

    #[test]
    fn a_cursor_that_repeats_is_an_error() {
        let mut pages = Pages::new(10);
        pages.turn(Some("a".into())).unwrap();
        pages.turn(Some("b".into())).unwrap();
        let error = pages.turn(Some("a".into())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol);
        assert!(error.message().contains("\"a\""), "{error}");
    }

    #[test]
    fn pages_are_counted() {
        let mut pages = Pages::new(500);
        for n in 1..500 {
            pages.turn(Some(n.to_string())).unwrap();
        }
        assert!(Pages::new(500).turn(None).is_ok());
        assert!(pages.turn(Some("500".into())).is_err());

        let mut exact = Pages::new(1);
        assert_eq!(exact.turn(None).unwrap(), None);
    }
}
