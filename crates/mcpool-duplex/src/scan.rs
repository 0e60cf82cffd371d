//! Finds out whose answer a text is that cannot be parsed, or is too long to be kept.
//!
//! Many servers write the id last (`{"result":…,"jsonrpc":"2.0","id":7}`), so a look at the
//! beginning is not enough: the whole text goes through a small JSON scanner that keeps nothing
//! but the ids and the names of the members of the top level. It accepts what `serde_json` does
//! not: `NaN`, bare control characters, escapes that are none. Pure.

use mcpool_core::{Raw, RequestId, ResponseId};
use serde_json::value::RawValue;

/// The longest member name or id that is looked at, in bytes.
const MAX_TOKEN: usize = 1024;

/// The requests that a text is about.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Ids {
    /// Requests of ours that it answers.
    pub answers: Vec<RequestId>,
    /// Requests of the server in it: their ids, as they came.
    pub requests: Vec<Raw>,
}

impl Ids {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.answers.is_empty() && self.requests.is_empty()
    }
}

/// Looks for ids in one framed text while it streams past: a message, or a batch of them.
#[derive(Debug, Default)]
pub struct IdScanner {
    depth: u32,
    /// The depth inside a message: 1, or 2 in a batch; 0 before the first byte.
    base: u32,
    broken: bool,
    in_string: bool,
    escaped: bool,
    /// Whether the next string at the base depth is a name.
    expect_name: bool,
    /// Whether the scan is inside a message.
    open: bool,
    capture: Capture,
    token: Vec<u8>,
    name_is_id: bool,
    member: Member,
    /// Answers that name no request.
    nameless: usize,
    found: Ids,
}

/// What is known of the message that is being scanned.
#[derive(Debug, Default)]
struct Member {
    id: Option<Box<RawValue>>,
    has_method: bool,
    has_answer: bool,
    has_version: bool,
    noted: bool,
}

/// What the scanner collects the bytes of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Capture {
    #[default]
    Nothing,
    Name,
    Id,
}

impl IdScanner {
    /// A scanner at the beginning of a text.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The ids in a whole text.
    #[must_use]
    pub fn scan(text: &[u8]) -> Ids {
        let mut scanner = Self::new();
        scanner.feed(text);
        scanner.finish();
        scanner.take()
    }

    /// The next bytes of the text.
    pub fn feed(&mut self, bytes: &[u8]) {
        let mut at = 0;
        while at < bytes.len() && !self.broken {
            if self.in_string {
                at = self.string(bytes, at);
            } else {
                self.outside(bytes[at]);
                at += 1;
            }
        }
    }

    /// The end of the text.
    pub fn finish(&mut self) {
        self.finish_member();
    }

    /// What was found since the last time; an id of a message that is still under way comes as
    /// soon as it is known what it is of.
    pub fn take(&mut self) -> Ids {
        self.note();
        std::mem::take(&mut self.found)
    }

    /// Whether nobody waits for any of it, as far as can be known at the end of the text: it holds
    /// notifications, or no message at all.
    #[must_use]
    pub fn nobody_waits(&self) -> bool {
        !self.broken && self.base > 0 && self.nameless == 0
    }

    /// Goes on inside a string; gives where to go on after.
    fn string(&mut self, bytes: &[u8], mut at: usize) -> usize {
        if self.capture == Capture::Nothing && !self.escaped {
            // Most of a long text is one string that nobody looks at.
            match memchr::memchr2(b'"', b'\\', &bytes[at..]) {
                Some(skipped) => at += skipped,
                None => return bytes.len(),
            }
        }
        let byte = bytes[at];
        self.collect(byte);
        if self.escaped {
            self.escaped = false;
        } else if byte == b'\\' {
            self.escaped = true;
        } else if byte == b'"' {
            self.in_string = false;
            self.string_ended();
        }
        at + 1
    }

    fn collect(&mut self, byte: u8) {
        if self.capture != Capture::Nothing {
            if self.token.len() < MAX_TOKEN {
                self.token.push(byte);
            } else {
                self.capture = Capture::Nothing;
            }
        }
    }

    fn string_ended(&mut self) {
        match self.capture {
            Capture::Name => {
                let name = serde_json::from_slice::<String>(&self.token).unwrap_or_default();
                self.name_is_id = name == "id";
                self.member.has_method |= name == "method";
                self.member.has_answer |= name == "result" || name == "error";
                self.member.has_version |= name == "jsonrpc";
            }
            Capture::Id => self.keep_id(),
            Capture::Nothing => {}
        }
        if self.depth == self.base {
            self.expect_name = false;
        }
        self.capture = Capture::Nothing;
    }

    fn keep_id(&mut self) {
        self.member.id = serde_json::from_slice(&self.token).ok();
    }

    fn outside(&mut self, byte: u8) {
        let at_base = self.base > 0 && self.depth == self.base;
        if self.capture == Capture::Id
            && !matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E')
        {
            self.keep_id();
            self.capture = Capture::Nothing;
        }
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' | b':' => {}
            b'{' | b'[' => {
                if self.base == 0 {
                    self.base = if byte == b'{' { 1 } else { 2 };
                }
                self.depth += 1;
                if self.depth == self.base && byte == b'{' {
                    self.open = true;
                    self.expect_name = true;
                }
            }
            b'}' | b']' => {
                if at_base {
                    self.finish_member();
                }
                match self.depth.checked_sub(1) {
                    Some(depth) => self.depth = depth,
                    None => self.broken = true,
                }
            }
            b',' if at_base => self.expect_name = true,
            b'"' => {
                if self.base == 0 {
                    self.broken = true;
                }
                self.in_string = true;
                if at_base && self.expect_name {
                    self.start(Capture::Name, byte);
                } else if at_base && self.name_is_id {
                    self.start(Capture::Id, byte);
                }
            }
            b'0'..=b'9' | b'-' if at_base && !self.expect_name && self.name_is_id => {
                if self.capture == Capture::Id {
                    self.collect(byte);
                } else if self.member.id.is_none() {
                    self.start(Capture::Id, byte);
                }
            }
            _ if self.base == 0 => self.broken = true,
            _ => self.collect(byte),
        }
    }

    fn start(&mut self, capture: Capture, first: u8) {
        self.capture = capture;
        self.token.clear();
        self.token.push(first);
    }

    /// Notes the message that is being scanned, as soon as enough of it is known.
    fn note(&mut self) {
        let member = &mut self.member;
        if member.noted || !(member.has_method || member.has_answer) {
            return;
        }
        if let Some(id) = member.id.take() {
            member.noted = true;
            if member.has_method {
                self.found.requests.push(Raw::from_value(id));
            } else if let ResponseId::Ours(id) = ResponseId::read(&id) {
                self.found.answers.push(id);
            }
        }
    }

    /// Ends the message that is being scanned and makes ready for the next of a batch.
    fn finish_member(&mut self) {
        if !self.open {
            return;
        }
        self.open = false;
        self.note();
        let member = std::mem::take(&mut self.member);
        if !member.noted && !member.has_method {
            match member.id.as_deref().map(ResponseId::read) {
                // It calls itself JSON-RPC, so it was meant as an answer.
                Some(ResponseId::Ours(id)) if member.has_version => self.found.answers.push(id),
                Some(_) => {}
                None if member.has_answer => self.nameless += 1,
                None => {}
            }
        }
        self.name_is_id = false;
        self.expect_name = false;
        self.capture = Capture::Nothing;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn padded(pattern: &str) -> String {
        pattern.replace("PAD", &"x\\\"{[,:".repeat(40))
    }

    /// The numbers of our requests, and the ids of the server's.
    fn ids(text: &str) -> (Vec<u64>, Vec<String>) {
        let found = IdScanner::scan(text.as_bytes());
        (
            found.answers.iter().map(|id| id.get()).collect(),
            found
                .requests
                .iter()
                .map(|id| id.get().to_owned())
                .collect(),
        )
    }

    #[test]
    fn whose_answer_a_text_is() {
        for (text, answers, requests) in [
            (
                r#"{"jsonrpc":"2.0","id":7,"result":{"t":"PAD"}}"#,
                vec![7],
                vec![],
            ),
            (
                r#"{"result":{"id":3,"t":"PAD"},"jsonrpc":"2.0","id":7}"#,
                vec![7],
                vec![],
            ),
            (
                r#"{"id":"7","error":{"code":1,"message":"PAD"}}"#,
                vec![7],
                vec![],
            ),
            (r#"{"id":1,"result":NaN}"#, vec![1], vec![]),
            ("{\"id\":1,\"result\":\"a\tb\\q\"}", vec![1], vec![]),
            (r#"{"jsonrpc":"2.0","id":1}"#, vec![1], vec![]),
            // No JSON-RPC: a program logs in JSON.
            (r#"{"level":"info","id":1}"#, vec![], vec![]),
            (
                r#"{"result":["PAD",{"id":1}],"id" : "a\"b" }"#,
                vec![],
                vec![],
            ),
            (r#"{"id":-7,"result":1}"#, vec![], vec![]),
            (
                r#"{"jsonrpc":"2.0","id":"x","method":"ping","params":{"t":"PAD"}}"#,
                vec![],
                vec!["\"x\""],
            ),
            (
                r#"[{"id":1,"result":"PAD"},{"method":"n","id":2},{"result":{"id":8},"id":3}]"#,
                vec![1, 3],
                vec!["2"],
            ),
            (
                r#"{"method":"notifications/message","params":{"id":1,"t":"PAD"}}"#,
                vec![],
                vec![],
            ),
            ("noise PAD", vec![], vec![]),
        ] {
            let (seen_answers, seen_requests) = ids(&padded(text));
            assert_eq!(seen_answers, answers, "{text}");
            assert_eq!(seen_requests, requests, "{text}");
        }
    }

    #[test]
    fn for_what_nobody_waits() {
        for (text, wanted) in [
            (
                r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"id":1}}"#,
                true,
            ),
            (r#"{"level":"info"}"#, true),
            (r#"{"id":"x","result":1}"#, true),
            (r#"{"jsonrpc":"2.0","id":null,"result":1}"#, false),
            (r#"[{"method":"n"},{"result":1}]"#, false),
            ("noise", false),
            ("\"text\"", false),
        ] {
            let mut scanner = IdScanner::new();
            scanner.feed(text.as_bytes());
            scanner.finish();
            assert_eq!(scanner.nobody_waits(), wanted, "{text}");
        }
    }

    #[test]
    fn an_id_is_known_before_the_end_and_comes_once() {
        let mut scanner = IdScanner::new();
        scanner.feed(br#"{"jsonrpc":"2.0","id":7,"result":"half"#);
        assert_eq!(scanner.take().answers, [RequestId::new(7)]);
        scanner.feed(br#" and half"}"#);
        scanner.finish();
        assert!(scanner.take().is_empty());
    }

    proptest! {
        /// The scanner that keeps nothing agrees with a parser that keeps all, wherever the text
        /// is cut.
        #[test]
        fn the_scanner_agrees_with_a_parser(
            id in any::<u32>(), before in json(), after in json(), first in any::<bool>(),
            cut in any::<prop::sample::Index>(),
        ) {
            let text = if first {
                serde_json::json!({"id": id, "result": before, "x": after})
            } else {
                serde_json::json!({"x": before, "result": after, "id": id})
            }.to_string();
            let (head, tail) = text.as_bytes().split_at(cut.index(text.len()));
            let mut scanner = IdScanner::new();
            scanner.feed(head);
            scanner.feed(tail);
            scanner.finish();
            prop_assert_eq!(scanner.take().answers, [RequestId::new(id.into())]);
        }

        #[test]
        fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = IdScanner::scan(&bytes);
        }
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
}
