use mcpool_core::model::{ErrorData, NumberOrString, ServerJsonRpcMessage};
use proptest::prelude::*;

use super::*;

/// rmcp's messages cannot be compared; what they show can.
impl PartialEq for Frame {
    fn eq(&self, other: &Self) -> bool {
        format!("{self:?}") == format!("{other:?}")
    }
}

fn all(decoder: &mut Decoder) -> Vec<Frame> {
    std::iter::from_fn(|| decoder.next_frame()).collect()
}

fn decode(limit: usize, bytes: &[u8]) -> Vec<Frame> {
    let mut decoder = Decoder::new(limit);
    decoder.space().extend_from_slice(bytes);
    decoder.finish();
    all(&mut decoder)
}

fn answer(id: i64) -> Vec<u8> {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#).into_bytes()
}

fn ids(frames: &[Frame]) -> Vec<i64> {
    frames
        .iter()
        .filter_map(|frame| match frame {
            Frame::Message(ServerJsonRpcMessage::Response(response)) => match response.id {
                NumberOrString::Number(id) => Some(id),
                NumberOrString::String(_) => None,
            },
            _ => None,
        })
        .collect()
}

fn number(id: i64) -> RequestId {
    NumberOrString::Number(id)
}

#[test]
fn line_ends_blank_lines_and_a_byte_order_mark() {
    let mut bytes = b"\xEF\xBB\xBF".to_vec();
    bytes.extend(answer(1));
    bytes.extend(b"\r\n\n\r\n  \n");
    bytes.extend(answer(2));
    let frames = decode(1024, &bytes);
    assert_eq!(ids(&frames), [1, 2]);
    assert_eq!(frames.len(), 2, "blank lines are nothing: {frames:?}");
}

#[test]
fn noise_is_skipped_and_named() {
    for (line, why) in [
        (&b"Server listening on stdio"[..], Skip::NotJson),
        (b"\xff\xfe rubbish", Skip::InvalidUtf8),
        (b"{\"a\":\"\xff\"}", Skip::InvalidUtf8),
        (b"{\"level\":\"info\"}", Skip::NotAMessage),
        (b"{\"jsonrpc\":\"2.0\"", Skip::NotJson),
        (b"[1,2]", Skip::NotAMessage),
        (b"[INFO] ready", Skip::NotJson),
        (b"42", Skip::NotJson),
    ] {
        let mut bytes = line.to_vec();
        bytes.push(b'\n');
        bytes.extend(answer(1));
        let frames = decode(1024, &bytes);
        assert_eq!(frames[0], Frame::Skipped(why), "{line:?}");
        assert_eq!(ids(&frames), [1], "{line:?}");
    }
}

#[test]
fn an_answer_that_is_no_message_fails_its_request() {
    let frames = decode(
        1024,
        b"{\"jsonrpc\":\"2.0\",\"id\":7,\"error\":{\"oops\":true}}\n",
    );
    assert!(
        matches!(&frames[..], [Frame::Malformed(id, _)] if *id == number(7)),
        "{frames:?}"
    );
}

#[test]
fn a_batch_gives_its_messages_in_order() {
    let frames = decode(
        1024,
        br#"[{"jsonrpc":"2.0","id":1,"result":{}},{"nonsense":1},{"jsonrpc":"2.0","id":2,"error":{"code":-1,"message":"no"}}]"#,
    );
    let [Frame::Batch(messages, 1)] = &frames[..] else {
        panic!("{frames:?}");
    };
    assert!(matches!(&messages[0], ServerJsonRpcMessage::Response(r) if r.id == number(1)));
    let want = ErrorData::new(mcpool_core::model::ErrorCode(-1), "no", None);
    assert!(matches!(&messages[1], ServerJsonRpcMessage::Error(e)
            if e.id == Some(number(2)) && e.error == want));
}

fn padded(pattern: &str, padding: usize) -> String {
    pattern.replace("PAD", &"x\\\"{[,:".repeat(padding / 7 + 1))
}

#[test]
fn whose_answer_a_long_line_is() {
    let one = |id| Frame::Oversized {
        answers: vec![id],
        requests: vec![],
    };
    let text = |id: &str| NumberOrString::String(id.into());
    for (line, want) in [
        (
            r#"{"jsonrpc":"2.0","id":7,"result":{"t":"PAD"}}"#,
            one(number(7)),
        ),
        (
            r#"{"result":{"id":3,"t":"PAD"},"jsonrpc":"2.0","id":7}"#,
            one(number(7)),
        ),
        (
            r#"{"result":["PAD",{"id":1}],"id" : "a\"b" }"#,
            one(text("a\"b")),
        ),
        (
            r#"{"id":-7,"error":{"code":1,"message":"PAD"}}"#,
            one(number(-7)),
        ),
        (
            r#"{"jsonrpc":"2.0","id":9,"method":"ping","params":{"t":"PAD"}}"#,
            Frame::Oversized {
                answers: vec![],
                requests: vec![number(9)],
            },
        ),
        (
            r#"[{"id":1,"result":"PAD"},{"method":"n","id":2},{"result":{"id":8},"id":3}]"#,
            Frame::Oversized {
                answers: vec![number(1), number(3)],
                requests: vec![number(2)],
            },
        ),
        (
            r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"id":1,"t":"PAD"}}"#,
            Frame::Skipped(Skip::OversizedNotification),
        ),
        (r#"{"jsonrpc":"2.0","id":null,"result":"PAD"}"#, Frame::Lost),
        (r#""PAD""#, Frame::Lost),
        ("noise PAD", Frame::Lost),
    ] {
        let mut bytes = padded(line, 300).into_bytes();
        bytes.push(b'\n');
        bytes.extend(answer(99));
        let frames = decode(100, &bytes);
        assert_eq!(frames[0], want, "{line}");
        assert_eq!(ids(&frames), [99], "the next line is untouched: {line}");
    }
}

#[test]
fn a_long_answer_fails_before_its_line_ends() {
    let mut decoder = Decoder::new(100);
    let line = padded(r#"{"jsonrpc":"2.0","id":7,"result":"PAD"#, 300);
    decoder.space().extend_from_slice(line.as_bytes());
    let frames = all(&mut decoder);
    assert_eq!(
        frames,
        [Frame::Oversized {
            answers: vec![number(7)],
            requests: vec![]
        }]
    );
    decoder.space().extend_from_slice(b"more\"}\n");
    decoder.space().extend_from_slice(&answer(8));
    decoder.finish();
    assert_eq!(ids(&all(&mut decoder)), [8], "and is not told twice");
}

#[test]
fn a_line_without_end_and_id_is_given_up_once() {
    let mut decoder = Decoder::new(100);
    let mut lost = 0;
    for _ in 0..100 {
        decoder.space().extend_from_slice(&[b'x'; 100]);
        lost += all(&mut decoder).len();
    }
    assert_eq!(lost, 1);
}

#[test]
fn a_line_of_exactly_the_limit_passes() {
    let line = answer(1);
    assert_eq!(ids(&decode(line.len(), &line)), [1]);
    assert_eq!(ids(&decode(line.len() - 1, &line)), [] as [i64; 0]);
}

#[test]
fn memory_goes_back_after_a_long_message() {
    let mut decoder = Decoder::new(64 << 20);
    let line = format!(
        "{{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{{\"t\":\"{}\"}}}}\n",
        "x".repeat(2 << 20)
    );
    decoder.space().extend_from_slice(line.as_bytes());
    assert_eq!(ids(&all(&mut decoder)), [1]);
    assert!(decoder.space().capacity() <= LARGE_READ);
}

proptest! {
    /// However the stream is cut, the same frames come out.
    #[test]
    fn cuts_change_nothing(
        lines in proptest::collection::vec(
            prop_oneof![
                (0..1000_i64).prop_map(answer),
                "[a-z{}\\[\\]\",:]{0,40}".prop_map(String::into_bytes),
                (0..50_usize).prop_map(|n| padded(
                    r#"{"result":{"t":"PAD"},"id":4}"#, 200 + n).into_bytes()),
                proptest::collection::vec(any::<u8>(), 0..60),
            ],
            0..12,
        ),
        cuts in proptest::collection::vec(1..50_usize, 1..40),
    ) {
        let stream = lines.join(&b'\n');
        let whole = decode(120, &stream);
        let mut decoder = Decoder::new(120);
        let mut frames = Vec::new();
        let mut rest = &stream[..];
        for cut in cuts.iter().cycle() {
            if rest.is_empty() { break; }
            let (head, tail) = rest.split_at((*cut).min(rest.len()));
            decoder.space().extend_from_slice(head);
            frames.extend(all(&mut decoder));
            rest = tail;
        }
        decoder.finish();
        frames.extend(all(&mut decoder));
        prop_assert_eq!(merge(frames), merge(whole));
    }

    /// The scanner that keeps nothing agrees with a parser that keeps all.
    #[test]
    fn the_scanner_agrees_with_a_parser(
        id in any::<i32>(),
        before in json(), after in json(),
        first in any::<bool>(),
    ) {
        let line = if first {
            serde_json::json!({"id": id, "result": before, "x": after})
        } else {
            serde_json::json!({"x": before, "result": after, "id": id})
        }.to_string();
        let frames = decode(1, line.as_bytes());
        prop_assert_eq!(frames, vec![Frame::Oversized {
            answers: vec![number(id.into())], requests: vec![],
        }]);
    }
}

/// A batch over the limit may be told in one frame or in several, as it comes in.
fn merge(frames: Vec<Frame>) -> Vec<Frame> {
    let mut merged: Vec<Frame> = Vec::new();
    for frame in frames {
        match (merged.last_mut(), frame) {
            (
                Some(Frame::Oversized { answers, requests }),
                Frame::Oversized {
                    answers: more_answers,
                    requests: more_requests,
                },
            ) => {
                answers.extend(more_answers);
                requests.extend(more_requests);
            }
            (_, frame) => merged.push(frame),
        }
    }
    merged
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    use serde_json::Value;
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 5, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            proptest::collection::vec(("id|method|result|[a-z]*", inner), 0..5)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}
