//! What strangers say, and URLs, as they may be shown.

use mcpool_core::Untrusted;
use url::Url;

/// How much of a stranger's words is shown.
const MAX_SHOWN: usize = 200;

/// One line of a bounded length: it comes from a stranger and goes to a terminal.
pub(crate) fn shorten(text: &str) -> String {
    Untrusted::line(text)
        .clip(MAX_SHOWN)
        .into_clean()
        .into_owned()
}

/// A URL that is safe to show.
pub(crate) fn redacted(url: &Url) -> String {
    let mut shown = url.clone();
    shown.set_query(None);
    shown.set_fragment(None);
    let _ = shown.set_username("");
    let _ = shown.set_password(None);
    shown.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_strangers_say_is_one_short_line() {
        assert_eq!(shorten("a\n\u{1b}[2Jb"), r"a\n\u{1b}[2Jb");
        assert_eq!(shorten(&"x".repeat(300)).chars().count(), MAX_SHOWN);
    }
}
