use base64::prelude::*;
use proptest::prelude::*;
use serde_json::json;

use super::*;

fn masker(values: &[&str]) -> Masker {
    let masker = Masker::new();
    for value in values {
        masker.add(value, Sensitivity::Secret);
    }
    masker
}

fn mask(values: &[&str], text: &str) -> String {
    masker(values).mask(text, Sensitivity::Value).into_owned()
}

#[test]
fn values_go_wherever_they_stand() {
    let key = "/abc+def/ghi=";
    for (text, want) in [
        ("bad token /abc+def/ghi=.", "bad token [redacted]."),
        ("x/abc+def/ghi=y", "x[redacted]y"),
        ("?k=%2Fabc%2bdef%2Fghi%3D&x", "?k=[redacted]&x"),
        (r#"{"k":"\/abc\u002bdef\/ghi="}"#, r#"{"k":"[redacted]"}"#),
        (
            r#""{\"k\":\"\\/abc+def\\/ghi=\"}""#,
            r#""{\"k\":\"[redacted]\"}""#,
        ),
        ("cut: /abc+def/", "cut: [redacted]"),
        ("cut: /abc+def…", "cut: [redacted]…"),
        ("short: /abc+", "short: /abc+"),
        ("nothing", "nothing"),
    ] {
        assert_eq!(mask(&[key], text), want);
    }
}

#[test]
fn a_value_from_a_url_is_found_as_it_was_meant() {
    assert_eq!(
        mask(&["p%40ss-word"], "p@ss-word p%40ss-word"),
        "[redacted] [redacted]"
    );
}

#[test]
fn overlapping_values_go_together() {
    let values = ["canary-1", "canary-1-long", "long-tail-2"];
    assert_eq!(
        mask(&values, "a canary-1-long-tail-2 b canary-1"),
        "a [redacted] b [redacted]"
    );
}

#[test]
fn a_value_of_several_lines_goes_whole_and_line_by_line() {
    let key = "-----BEGIN KEY-----\nMIIEvgIBADAN\nqhkiG9w0BAQE\n-----END KEY-----\n";
    assert_eq!(mask(&[key], &format!("key: {key}")), "key: [redacted]\n");
    assert_eq!(mask(&[key], "read qhkiG9w0BAQE"), "read [redacted]");
    let shown = crate::Untrusted::line(key).to_string();
    assert_eq!(mask(&[key], &shown), r"[redacted]\n");
}

#[test]
fn words_and_numbers_that_stand_everywhere_stay() {
    let values = ["true", "DEBUG", "8080", "abc", "production"];
    let text = "true debug DEBUG 8080 abc production";
    assert_eq!(mask(&values, text), text);
    assert!(masker(&values).is_empty());
    assert_eq!(
        mask(&["pass1"], "pass1 pass12 xpass1"),
        "[redacted] pass12 xpass1"
    );
}

#[test]
fn what_is_no_secret_stays_in_results() {
    let masker = Masker::new();
    masker.add("eu-central-1", Sensitivity::Value);
    assert_eq!(
        masker.mask("at eu-central-1", Sensitivity::Value),
        "at [redacted]"
    );
    assert_eq!(
        masker.mask("at eu-central-1", Sensitivity::Secret),
        "at eu-central-1"
    );
    masker.add("eu-central-1", Sensitivity::Secret);
    masker.add("eu-central-1", Sensitivity::Value);
    assert_eq!(
        masker.mask("at eu-central-1", Sensitivity::Secret),
        "at [redacted]"
    );
}

#[test]
fn json_is_masked_in_texts_and_keys() {
    let masker = masker(&["canary-one", "canary-two"]);
    let mut value = json!({"canary-one": 1, "canary-two": ["a canary-one", 7], "k": null});
    masker.mask_json(&mut value, Sensitivity::Secret);
    assert_eq!(
        value,
        json!({"[redacted]": 1, "[redacted] 2": ["a [redacted]", 7], "k": null})
    );
}

#[test]
fn what_was_not_added_for_long_is_forgotten_first() {
    let masker = masker(&["the-first-value", "the-second-value"]);
    for n in 2..Masker::MAX_VALUES {
        masker.add(&format!("value-{n}-of-many"), Sensitivity::Secret);
    }
    masker.add("the-first-value", Sensitivity::Secret);
    masker.add("the-last-value", Sensitivity::Secret);
    assert_eq!(
        masker.mask("the-first-value the-second-value", Sensitivity::Value),
        "[redacted] the-second-value"
    );
}

#[test]
fn debug_shows_no_value() {
    assert_eq!(format!("{:?}", masker(&["canary-value"])), "Masker");
}

/// A secret, whatever its characters: no plain word, and long enough to be masked anywhere.
fn secret() -> impl Strategy<Value = String> {
    "[!-~é字\n\t\\\\\"%/+=]{12,40}"
        .prop_filter("has white space around it", |text| text.trim() == text)
}

proptest! {
    #[test]
    fn a_secret_is_found_under_any_escape(secret in secret(), before in "[a-z ]{0,8}", after in "[a-z ]{0,8}") {
        let masker = masker(&[&secret]);
        let plain = format!("{before}{secret}{after}");
        let json = serde_json::to_string(&plain).unwrap();
        let percent = |text: &str| -> String {
            text.bytes().map(|byte| match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
                byte => format!("%{byte:02X}"),
            }).collect()
        };
        for text in [
            plain.clone(),
            json.clone(),
            serde_json::to_string(&json).unwrap(),
            percent(&plain),
            serde_json::to_string(&percent(&plain)).unwrap(),
            crate::Untrusted::line(&*plain).quoted().to_string(),
        ] {
            let masked = masker.mask(&text, Sensitivity::Secret);
            prop_assert_eq!(masked.matches(REDACTED).count(), 1, "{} in {}", masked, text);
            let rest = masked.replace(REDACTED, "");
            prop_assert!(rest.len() <= text.len() - secret.len(), "{} in {}", masked, text);
        }
        for text in [BASE64_STANDARD.encode(&plain), BASE64_URL_SAFE.encode(&plain)] {
            let masked = masker.mask(&text, Sensitivity::Secret);
            prop_assert!(masked.contains(REDACTED), "{} in {}", masked, text);
        }
    }

    #[test]
    fn no_text_holds_a_value_after_it(value in "\\PC{8,20}", text in any::<String>()) {
        let value = value.trim();
        prop_assume!(forms::is_masked(value) && value.len() >= 8 && !value.contains("redacted"));
        let masked = mask(&[value], &format!("{text}{value}{text}"));
        prop_assert!(!masked.contains(value), "{masked}");
    }
}
