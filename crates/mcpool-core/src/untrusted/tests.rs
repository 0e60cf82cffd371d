use proptest::prelude::*;

use super::*;

fn line(text: &str) -> String {
    Untrusted::line(text).to_string()
}

/// Characters that the issue names, and their neighbours.
fn hostile() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        prop::sample::select(vec![
            "\x1b[2J",
            "\x1b]52;c;aGk=\x07",
            "\x07",
            "\r",
            "\n",
            "\t",
            "\u{9b}31m",
            "\u{90}q\u{9c}",
            "\u{85}",
            "\x7f",
            "\u{61c}",
            "\u{200b}",
            "\u{200d}",
            "\u{200e}",
            "\u{200f}",
            "\u{2028}",
            "\u{2029}",
            "\u{202a}",
            "\u{202e}",
            "\u{2060}",
            "\u{2066}",
            "\u{2069}",
            "\u{feff}",
            "\u{fffe}",
            "\u{e0041}",
            "\u{e0100}",
            "\\",
            "\"",
            "\\u{1b}",
            "é",
            "字",
        ])
        .prop_map(str::to_owned),
        any::<String>(),
    ];
    prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

#[test]
fn what_steers_a_terminal_is_shown_escaped() {
    for (text, shown) in [
        ("plain, é字 👍\u{fe0f}", "plain, é字 👍\u{fe0f}"),
        ("\x1b]0;x\x07", r"\u{1b}]0;x\u{7}"),
        ("a\r\n\tb", r"a\r\n\tb"),
        ("\u{9b}1m\x7f", r"\u{9b}1m\u{7f}"),
        ("\u{202e}\u{2066}\u{61c}", r"\u{202e}\u{2066}\u{61c}"),
        ("\u{200b}\u{feff}\u{2028}", r"\u{200b}\u{feff}\u{2028}"),
        ("\u{e0041}\u{10ffff}", r"\u{e0041}\u{10ffff}"),
    ] {
        assert_eq!(line(text), shown);
    }
}

#[test]
fn a_block_keeps_its_lines_and_nothing_else() {
    let block = Untrusted::block("a\r\n\tb\x0bc");
    assert_eq!(block.to_string(), "a\\r\n\tb\\u{b}c");
}

#[test]
fn a_cut_text_says_so_and_no_escape_is_halved() {
    let clip = |text: &str, max| Untrusted::line(text).clip(max).to_string();
    assert_eq!(clip("abcd", 4), "abcd");
    assert_eq!(clip("abcde", 4), "abc…");
    assert_eq!(clip("a\x1bbc", 8), "a\\u{1b}…");
    assert_eq!(clip("a\x1bbc", 7), "a…");
    assert_eq!(clip("a\x1b", 7), "a\\u{1b}");
    assert_eq!(clip("abc", 0), "…");
    assert_eq!(
        Untrusted::line("x".repeat(5_000))
            .to_string()
            .chars()
            .count(),
        1_000
    );
    assert_eq!(
        Untrusted::line("x".repeat(5_000)).whole().to_string().len(),
        5_000
    );
}

#[test]
fn quotes_tell_a_text_from_what_looks_like_it() {
    let quoted = |text: &str| Untrusted::line(text).quoted().to_string();
    assert_eq!(quoted("a \"b\" \\n\n"), r#""a \"b\" \\n\n""#);
    assert_ne!(quoted("\\u{1b}"), quoted("\x1b"));
    assert_eq!(format!("{:?}", Untrusted::line("\x1b")), r#""\u{1b}""#);
}

#[test]
fn a_width_pads_what_is_shown() {
    assert_eq!(format!("{:6}|", Untrusted::line("a\n")), r"a\n   |");
}

#[cfg(unix)]
#[test]
fn a_path_that_is_not_utf8_loses_no_byte() {
    use std::os::unix::ffi::OsStrExt as _;
    let path = std::path::Path::new(OsStr::from_bytes(b"/a/\xff\x1b"));
    assert_eq!(Untrusted::os(path).to_string(), r"/a/\xff\u{1b}");
}

#[test]
fn letters_stay_and_controls_do_not() {
    // The Hangul fillers count as letters, and are blank.
    let filler = |c| matches!(c, '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}');
    for c in (0..=0x10_ffff).filter_map(char::from_u32) {
        assert!(
            !c.is_control() || is_unshowable(c),
            "{}",
            c.escape_unicode()
        );
        let visible = c.is_alphanumeric() || c.is_ascii_graphic();
        assert!(
            !visible || filler(c) || !is_unshowable(c),
            "{}",
            c.escape_unicode()
        );
    }
}

proptest! {
    #[test]
    fn any_text_is_clean_bounded_and_not_cleaned_twice(text in hostile(), max in 1usize..80) {
        for untrusted in [Untrusted::line(&*text), Untrusted::block(&*text)] {
            let shown = untrusted.clone().whole().to_string();
            let kept = |c: char| untrusted.shape == Shape::Block && matches!(c, '\n' | '\t');
            prop_assert!(shown.chars().all(|c| !is_unshowable(c) || kept(c)), "{shown:?}");
            let again = Untrusted { text: (&*shown).into(), ..untrusted.clone() };
            prop_assert_eq!(again.whole().to_string(), &*shown);
            prop_assert_eq!(untrusted.clone().whole().into_clean(), &*shown);
            let cut = untrusted.clone().clip(max).to_string();
            prop_assert!(cut.chars().count() <= max);
            let start = cut.strip_suffix('…').unwrap_or(&cut);
            prop_assert!(shown.starts_with(start));
            prop_assert_eq!(cut == shown, shown.chars().count() <= max);
        }
    }

    #[test]
    fn json_stays_equal_and_is_clean(text in hostile()) {
        let value = serde_json::json!({ text.clone(): [text, 1, null] });
        for json in [clean_json(&value).unwrap(), clean_json_pretty(&value).unwrap()] {
            prop_assert!(json.chars().all(|c| c == '\n' || !is_unshowable(c)), "{json:?}");
            prop_assert_eq!(&serde_json::from_str::<serde_json::Value>(&json).unwrap(), &value);
        }
    }
}
