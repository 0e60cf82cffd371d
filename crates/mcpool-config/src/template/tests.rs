use proptest::prelude::*;

use super::*;

fn known(pairs: &[(&str, Option<&str>)]) -> Known {
    pairs
        .iter()
        .map(|(name, value)| {
            let reference = match name.split_once(':') {
                Some((scheme, name)) => Reference::new(Some(scheme), name),
                None => Reference::new(None, name),
            };
            (reference, value.map(Secret::new))
        })
        .collect()
}

fn expand(text: &str, pairs: &[(&str, Option<&str>)]) -> Expansion {
    Template::parse(text, Syntax::native())
        .unwrap()
        .expand(&known(pairs))
}

#[test]
fn native_expansion() {
    let env = [
        ("A", Some("1")),
        ("EMPTY", Some("")),
        ("UNSET", None),
        ("env:A", Some("2")),
        ("file:/x/y", Some("3")),
        ("input:id", Some("4")),
        ("userHome", Some("/home/me")),
    ];
    for (text, want) in [
        ("", ""),
        ("plain", "plain"),
        ("${A}", "1"),
        ("x${A}y${A}z", "x1y1z"),
        ("${env:A}", "2"),
        ("${file:/x/y}", "3"),
        ("${input:id}", "4"),
        ("${userHome}/bin", "/home/me/bin"),
        ("$$", "$"),
        ("$${A}", "${A}"),
        ("$$$${A}", "$${A}"),
        ("$A", "$A"),
        ("$", "$"),
        ("100 % {A} }", "100 % {A} }"),
        ("${UNSET:-d}", "d"),
        ("${UNSET-d}", "d"),
        ("${EMPTY:-d}", "d"),
        ("${EMPTY-d}", ""),
        ("${EMPTY}", ""),
        ("${UNSET:-}", ""),
        ("${UNSET:-${A}}", "1"),
        ("${UNSET:-${UNSET:-${UNSET:-deep}}}", "deep"),
        ("${UNSET:-a:-b}", "a:-b"),
        ("${UNSET:-{\"k\":{\"v\":1}}}", "{\"k\":{\"v\":1}}"),
        ("${UNSET:-http://h:80/p?q=${A}}", "http://h:80/p?q=1"),
        ("${UNSET | A}", "1"),
        ("${UNSET | value:v}", "v"),
        ("${env:A | value:v}", "2"),
    ] {
        let got = expand(text, &env);
        assert_eq!(got.text, want, "{text}");
        assert!(got.missing.is_empty() && got.needed.is_empty(), "{text}");
    }
}

#[test]
fn missing_and_needed() {
    let got = expand("a ${X} ${Y}", &[("X", None), ("Y", None)]);
    assert_eq!(
        got.missing,
        [
            (Reference::new(None, "X"), 2),
            (Reference::new(None, "Y"), 7)
        ]
    );
    let got = expand("${X:-${Y}}", &[("X", Some("x"))]);
    assert!(
        got.needed.is_empty(),
        "a default that is not needed is not asked for"
    );
    let got = expand("${X:-${Y}}", &[("X", None)]);
    assert_eq!(got.needed.len(), 1);
}

#[test]
fn values_are_not_expanded_again() {
    let got = expand("${A}", &[("A", Some("${A} ${B} $$"))]);
    assert_eq!(got.text, "${A} ${B} $$");
}

#[test]
fn what_is_wrong_is_said() {
    for (text, offset) in [
        ("${", 0),
        ("ab${A", 2),
        ("${}", 0),
        ("${ }", 0),
        ("${env:}", 0),
        ("${A B}", 0),
        ("${:x}", 0),
        ("${A:-${B}", 0),
    ] {
        let error = Template::parse(text, Syntax::native()).unwrap_err();
        assert_eq!(error.offset, offset, "{text}: {}", error.message);
    }
    let deep = "${A:-".repeat(20) + &"}".repeat(20);
    assert!(Template::parse(&deep, Syntax::native()).is_err());
}

/// What a host would make of a text, by way of the native syntax.
fn host(text: &str, syntax: Syntax, pairs: &[(&str, Option<&str>)]) -> String {
    let native = Template::parse(text, syntax)
        .unwrap()
        .to_native(syntax.when_unset);
    let got = expand(&native, pairs);
    assert!(got.needed.is_empty(), "{native} needs {:?}", got.needed);
    assert!(got.missing.is_empty(), "{native} misses {:?}", got.missing);
    got.text
}

#[test]
fn hosts_and_their_ways() {
    let env = [
        ("V", Some("v")),
        ("env:V", Some("v")),
        ("U", None),
        ("env:U", None),
        ("input:i", Some("i")),
        ("file:f", None),
    ];
    let literal = Syntax::native()
        .without_dollar_dollar()
        .unset(WhenUnset::KeepLiteral);
    let empty = Syntax::editor().unset(WhenUnset::Empty);
    let gemini = literal.with_bare_dollar().with_percent();
    let opencode = Syntax::bare_brace().unset(WhenUnset::Empty);
    for (text, syntax, want) in [
        ("${V} ${U}", literal, "v ${U}"),
        ("${U:-d} $$ $", literal, "d $$ $"),
        ("${broken ${V}", literal, "${broken v"),
        ("${env:V}${env:U}", empty, "v"),
        ("${input:i}", empty, "i"),
        ("$V ${V} %V% $U %U% $5 50%", gemini, "v v v $U %U% $5 50%"),
        ("{env:V}{env:U}{file:f} ${V} {x}", opencode, "v ${V} {x}"),
        ("${V} $V {env:V}", Syntax::none(), "${V} $V {env:V}"),
        ("a$", Syntax::none(), "a$"),
    ] {
        assert_eq!(host(text, syntax, &env), want, "{text}");
    }
}

#[test]
fn a_megabyte_of_dollars_is_read_in_no_time() {
    let started = std::time::Instant::now();
    for text in [
        "${".repeat(20_000),
        "${a:-".repeat(20_000),
        "${a:-}".repeat(100_000),
    ] {
        let _ = Template::parse(&text, Syntax::native());
        let _ = Template::parse(&text, Syntax::native().unset(WhenUnset::KeepLiteral));
    }
    assert!(started.elapsed() < std::time::Duration::from_secs(20));
}

/// Texts that are mostly made of what the parser looks at.
fn tricky() -> impl Strategy<Value = String> {
    proptest::collection::vec(
        prop_oneof![
            Just("$".to_owned()),
            Just("{".to_owned()),
            Just("}".to_owned()),
            Just(":-".to_owned()),
            Just("|".to_owned()),
            Just("${A".to_owned()),
            Just("${A:-".to_owned()),
            Just("env:".to_owned()),
            Just("%A%".to_owned()),
            Just("{env:A}".to_owned()),
            "[a-zé ]{0,3}",
        ],
        0..24,
    )
    .prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn parsing_and_expanding_never_panics(text in prop_oneof![tricky(), any::<String>()], keep in any::<bool>()) {
        let when = if keep { WhenUnset::KeepLiteral } else { WhenUnset::Empty };
        for syntax in [
            Syntax::native(),
            Syntax::native().unset(when),
            Syntax::bare_brace().unset(when),
            Syntax::native().with_bare_dollar().with_percent().with_dollar_env().unset(when),
            Syntax::none(),
        ] {
            let Ok(template) = Template::parse(&text, syntax) else {
                prop_assert_eq!(syntax.when_unset, WhenUnset::Fail);
                continue;
            };
            let all: Known = template.references().into_iter().map(|r| (r, None)).collect();
            let out = template.expand(&all);
            prop_assert!(out.needed.is_empty());
            let set: Known = all.into_keys().map(|r| (r, Some(Secret::new("v")))).collect();
            let out = template.expand(&set);
            prop_assert!(out.missing.is_empty());
            // The native form of any host's text is a native text.
            let native = template.to_native(syntax.when_unset);
            prop_assert!(Template::parse(&native, Syntax::native()).is_ok(), "{} -> {}", text, native);
        }
    }

    #[test]
    fn an_escaped_text_is_itself(text in prop_oneof![tricky(), any::<String>()]) {
        let escaped = escape(&text);
        let template = Template::parse(&escaped, Syntax::native()).unwrap();
        prop_assert!(template.is_literal());
        prop_assert_eq!(template.expand(&Known::new()).text, text);
    }

    #[test]
    fn a_text_without_a_dollar_is_itself(text in "[^$]*") {
        let template = Template::parse(&text, Syntax::native()).unwrap();
        prop_assert_eq!(template.expand(&Known::new()).text, text);
    }
}
