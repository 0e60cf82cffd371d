//! The envelope under any text: nothing panics, and payloads stay the text that came.
//! `PROPTEST_CASES` says how many inputs; the `fuzz` step of the checks takes many.
#![allow(clippy::unwrap_used)]

use mcpool_core::{
    Message, ParsedLine, Raw, RawObject, RequestId, ResponseId, RpcError, WireRequest, encode,
    encode_response, parse_line,
};
use proptest::{collection::vec, prelude::*, sample::select};

/// Pieces of messages as servers write them, good and bad.
const TOKENS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "\\",
    "\\ud800",
    "\\udc00",
    "\\u0000",
    "\u{feff}",
    "\n",
    "\r",
    "null",
    "true",
    "NaN",
    "1e400",
    "-0",
    "1.0",
    "18446744073709551616",
    "\"jsonrpc\":\"2.0\"",
    "\"id\":1",
    "\"id\":\"1\"",
    "\"id\":null",
    "\"id\":1.0",
    "\"id\":{}",
    "\"method\":\"ping\"",
    "\"method\":7",
    "\"params\":{}",
    "\"params\":[1]",
    "\"result\":{}",
    "\"result\":null",
    "\"error\":{\"code\":1,\"message\":\"m\"}",
    "\"error\":\"text\"",
    "\"error\":null",
    "\u{202e}",
    "\u{10ffff}",
];

/// A JSON value as text, with what typed parsing would not keep: spaces, long numbers, surrogates.
fn value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("1e400".to_owned()),
        Just("1.50".to_owned()),
        Just("123456789012345678901234567890".to_owned()),
        Just("\"\\ud800x\"".to_owned()),
        "[a-z\u{fc}]{0,8}".prop_map(|text| format!("\"{text}\"")),
        any::<i64>().prop_map(|number| number.to_string()),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(", "))),
            vec((0..6_u8, inner), 0..4).prop_map(|members| {
                let members = members.iter();
                let members: Vec<String> = members
                    .map(|(name, value)| format!("\"m{name}\" : {value}"))
                    .collect();
                format!("{{{}}}", members.join(","))
            }),
        ]
    })
}

fn object() -> impl Strategy<Value = String> {
    vec(value(), 0..5).prop_map(|values| {
        let members = values.iter().enumerate();
        let members: Vec<String> = members
            .map(|(n, value)| format!("\"m{n}\":{value}"))
            .collect();
        format!("{{{}}}", members.join(","))
    })
}

fn only(text: &str) -> Message {
    match parse_line(text).unwrap() {
        ParsedLine::One(message) => message.unwrap(),
        other => panic!("{other:?}"),
    }
}

proptest! {
    #[test]
    fn no_text_panics(tokens in vec(select(TOKENS), 0..24), wrap in any::<bool>()) {
        let text = match wrap {
            true => format!("{{{}}}", tokens.join(",")),
            false => tokens.concat(),
        };
        if let Ok(ParsedLine::Batch(members)) = parse_line(&text) {
            prop_assert!(members.len() <= text.len());
        }
        if let Ok(raw) = Raw::from_text(text) {
            let _ = RawObject::parse(&raw);
        }
    }

    #[test]
    fn a_result_stays_the_text_that_came(result in value(), id in any::<u64>()) {
        let raw = Raw::from_text(result).unwrap();
        let line = encode_response(&Raw::of(&id).unwrap(), &Ok(raw.clone())).unwrap();
        prop_assert!(!line.contains('\n'));
        let expected = Message::Response {
            id: ResponseId::Ours(RequestId::new(id)),
            outcome: Ok(raw),
        };
        prop_assert_eq!(only(&line), expected);
    }

    #[test]
    fn an_error_keeps_code_message_and_data(
        code in any::<i32>(),
        message in ".{0,40}",
        data in value(),
    ) {
        let error = RpcError::new(code.into(), message).with_data(Raw::from_text(data).unwrap());
        let line = encode_response(&Raw::of("a").unwrap(), &Err(error.clone())).unwrap();
        let Message::Response { outcome, .. } = only(&line) else {
            panic!("{line}")
        };
        prop_assert_eq!(outcome, Err(error));
    }

    #[test]
    fn a_request_keeps_its_parameters(
        params in object(),
        progress in any::<bool>(),
        id in any::<u64>(),
    ) {
        let raw = Raw::from_text(params).unwrap();
        let wire = WireRequest::new("tools/call", Some(&raw));
        let line = encode(RequestId::new(id), &wire, progress).unwrap();
        let Message::Request(read) = only(&line) else {
            panic!("{line}")
        };
        prop_assert_eq!(&*read.method, "tools/call");
        let mut kept = RawObject::parse(&read.params.unwrap()).unwrap();
        prop_assert_eq!(kept.remove("_meta").is_some(), progress);
        let expected = RawObject::parse(&raw).unwrap();
        prop_assert_eq!(kept.to_raw().unwrap(), expected.to_raw().unwrap());
    }
}
