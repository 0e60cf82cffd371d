//! From text to messages.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{Notification, RequestId, RpcError, ServerRequest};
use crate::{Raw, raw::elements};

/// The most members of a batch. Each is kept apart, so many short ones take far more room than their
/// text.
const MAX_BATCH: usize = 4096;

/// A message from the server.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Message {
    /// The answer to a request of ours.
    Response {
        /// Which request.
        id: ResponseId,
        /// The result, or the error.
        outcome: Result<Raw, RpcError>,
    },
    /// A request of the server.
    Request(ServerRequest),
    /// A notification.
    Notification(Notification),
}

/// Which request an answer is to.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum ResponseId {
    /// One of ours, as a number or as a text of it.
    Ours(RequestId),
    /// Null, or left out.
    Null,
    /// Nothing that we ever sent, as its JSON text.
    Foreign(Raw),
}

impl ResponseId {
    /// Reads an id.
    #[must_use]
    pub fn read(raw: &RawValue) -> Self {
        let text = raw.get();
        if let Ok(number) = text.parse() {
            return Self::Ours(RequestId::new(number));
        }
        if text == "null" {
            return Self::Null;
        }
        let digits = text.trim_matches('"');
        // Some write 1 as 1.0.
        let digits = digits.strip_suffix(".0").unwrap_or(digits);
        match digits.parse() {
            Ok(number) => Self::Ours(RequestId::new(number)),
            Err(_) => Self::Foreign(Raw::copied(raw)),
        }
    }
}

/// A JSON value that is no JSON-RPC message, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NotAMessage {
    /// What is wrong, in one line, with no text of the server's.
    pub reason: String,
}

impl fmt::Display for NotAMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

/// What one framed text holds.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum ParsedLine {
    /// One message, or one thing that is none.
    One(Result<Message, NotAMessage>),
    /// The members of a batch, in order.
    Batch(Vec<Result<Message, NotAMessage>>),
}

/// Reads one framed text: a message, or a batch of them. A byte-order mark in front is skipped. A
/// batch with more than 4096 members is no message.
///
/// # Errors
/// What `serde_json` says of text that is no JSON at all.
pub fn parse_line(text: &str) -> Result<ParsedLine, serde_json::Error> {
    let text = text.trim_start_matches('\u{feff}').trim();
    if text.starts_with('[') {
        return Ok(match elements(text, MAX_BATCH)? {
            Some(members) => ParsedLine::Batch(members.into_iter().map(read_member).collect()),
            None => ParsedLine::One(Err(NotAMessage {
                reason: format!("it is a batch of more than {MAX_BATCH} messages"),
            })),
        });
    }
    if !text.starts_with('{') {
        serde_json::from_str::<IgnoredAny>(text)?;
        return Ok(ParsedLine::One(Err(no_message("it is no JSON object"))));
    }
    let envelope: Envelope<'_> = serde_json::from_str(text)?;
    Ok(ParsedLine::One(envelope.into_message()))
}

fn read_member(raw: &RawValue) -> Result<Message, NotAMessage> {
    match serde_json::from_str::<Envelope<'_>>(raw.get()) {
        Ok(envelope) => envelope.into_message(),
        Err(_) => Err(no_message("it is no JSON object")),
    }
}

fn no_message(reason: &str) -> NotAMessage {
    NotAMessage {
        reason: reason.to_owned(),
    }
}

/// Whether a value may be the id of a request: MCP has texts and numbers.
fn may_be_id(raw: &RawValue) -> bool {
    raw.get()
        .starts_with(|first: char| first == '"' || first == '-' || first.is_ascii_digit())
}

/// The members of a message. Presence counts: `result: null` is a result.
#[derive(Default)]
struct Envelope<'a> {
    id: Option<&'a RawValue>,
    method: Option<&'a RawValue>,
    params: Option<&'a RawValue>,
    result: Option<&'a RawValue>,
    error: Option<&'a RawValue>,
}

impl Envelope<'_> {
    fn into_message(self) -> Result<Message, NotAMessage> {
        if let Some(method) = self.method {
            let Ok(method) = Raw::copied(method).parse::<String>() else {
                return Err(no_message("its `method` is not text"));
            };
            let params = self
                .params
                .filter(|raw| raw.get() != "null")
                .map(Raw::copied);
            return match self.id.filter(|id| id.get() != "null") {
                Some(id) if !may_be_id(id) => {
                    Err(no_message("its `id` is neither text nor a number"))
                }
                Some(id) => Ok(Message::Request(ServerRequest::new(
                    Raw::copied(id),
                    method,
                    params,
                ))),
                None => Ok(Message::Notification(Notification::new(method, params))),
            };
        }
        let id = self.id.map_or(ResponseId::Null, ResponseId::read);
        let error = self.error.filter(|raw| raw.get() != "null");
        let outcome = match (error, self.result) {
            (Some(error), _) => Err(RpcError::read(error)),
            (None, Some(result)) => Ok(Raw::copied(result)),
            (None, None) => {
                return Err(no_message(
                    "it has neither `method` nor `result` nor `error`",
                ));
            }
        };
        Ok(Message::Response { id, outcome })
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Envelope<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Envelope<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON-RPC message")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Envelope<'de>, A::Error> {
                let mut envelope = Envelope::default();
                while let Some(Name(name)) = map.next_key()? {
                    let slot = match &*name {
                        "id" => &mut envelope.id,
                        "method" => &mut envelope.method,
                        "params" => &mut envelope.params,
                        "result" => &mut envelope.result,
                        "error" => &mut envelope.error,
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                            continue;
                        }
                    };
                    *slot = Some(map.next_value()?);
                }
                Ok(envelope)
            }
        }

        deserializer.deserialize_map(Members)
    }
}

/// A member's name, borrowed where it holds no escape.
struct Name<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Name<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl<'de> Visitor<'de> for Text {
            type Value = Name<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a member's name")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Owned(text.to_owned())))
            }
        }

        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Message {
        match parse_line(text).unwrap() {
            ParsedLine::One(message) => message.unwrap(),
            other => panic!("{other:?}"),
        }
    }

    fn raw(text: &str) -> Raw {
        Raw::from_text(text.to_owned()).unwrap()
    }

    #[test]
    fn answers_by_number_by_text_and_by_null() {
        for (id, wanted) in [
            ("7", ResponseId::Ours(RequestId::new(7))),
            ("\"7\"", ResponseId::Ours(RequestId::new(7))),
            ("7.0", ResponseId::Ours(RequestId::new(7))),
            ("null", ResponseId::Null),
            (
                "\"server-error\"",
                ResponseId::Foreign(raw("\"server-error\"")),
            ),
            ("-1", ResponseId::Foreign(raw("-1"))),
        ] {
            let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#);
            let Message::Response { id, outcome } = one(&text) else {
                panic!("{text}")
            };
            assert_eq!(id, wanted, "{text}");
            assert_eq!(outcome.unwrap().get(), "{}");
        }
    }

    #[test]
    fn a_null_result_is_a_result_and_a_null_error_is_none() {
        let Message::Response { outcome, .. } = one(r#"{"id":1,"result":null,"error":null}"#)
        else {
            panic!()
        };
        assert!(outcome.unwrap().is_null());
    }

    #[test]
    fn payloads_stay_as_they_came() {
        let text = r#"{"result":{"n":1e999,"s":"\ud800","d":1,"d":2},"id":1,"extra":[]}"#;
        let Message::Response { outcome, .. } = one(text) else {
            panic!()
        };
        assert_eq!(
            outcome.unwrap().get(),
            r#"{"n":1e999,"s":"\ud800","d":1,"d":2}"#
        );
    }

    #[test]
    fn requests_keep_their_id_and_notifications_have_none() {
        let Message::Request(request) = one(r#"{"id":"x-1","method":"roots\/list"}"#) else {
            panic!()
        };
        assert_eq!(
            (request.id.get(), &*request.method),
            ("\"x-1\"", "roots/list")
        );
        let notice = one(r#"{"method":"notifications/message","id":null,"params":null}"#);
        assert_eq!(
            notice,
            Message::Notification(Notification::new("notifications/message", None))
        );
    }

    #[test]
    fn an_id_is_text_or_a_number() {
        for id in ["\"\"", "\"x\"", "0", "-1", "1.5"] {
            let text = format!(r#"{{"id": {id} ,"method":"ping"}}"#);
            assert!(matches!(one(&text), Message::Request(_)), "{id}");
        }
        for id in ["{}", "[]", "true", "false", "[1]"] {
            let text = format!(r#"{{"id": {id} ,"method":"ping"}}"#);
            let ParsedLine::One(Err(why)) = parse_line(&text).unwrap() else {
                panic!("{id}")
            };
            assert!(why.reason.contains("`id`"), "{why}");
        }
    }

    #[test]
    fn batches_keep_their_order_and_their_bad_members() {
        let text = r#"[{"id":1,"result":1},5,{"method":7},{"id":2,"result":2}]"#;
        let ParsedLine::Batch(members) = parse_line(text).unwrap() else {
            panic!()
        };
        let good: Vec<bool> = members.iter().map(Result::is_ok).collect();
        assert_eq!(good, [true, false, false, true]);
    }

    #[test]
    fn a_batch_has_at_most_so_many_members() {
        let batch = |members: usize| format!("[{}]", vec!["1"; members].join(","));
        let ParsedLine::Batch(most) = parse_line(&batch(MAX_BATCH)).unwrap() else {
            panic!()
        };
        assert_eq!(most.len(), MAX_BATCH);
        let ParsedLine::One(Err(why)) = parse_line(&batch(MAX_BATCH + 1)).unwrap() else {
            panic!()
        };
        assert!(why.reason.contains("more than 4096"), "{why}");
        // What is no JSON is none however much stands before it.
        assert!(parse_line(&batch(MAX_BATCH + 2).replace(']', ",}")).is_err());
    }

    #[test]
    fn what_is_no_message_says_so() {
        assert!(parse_line("hello").is_err());
        assert!(parse_line(r#"{"id":1,"result":NaN}"#).is_err());
        for text in ["5", "\"x\"", "{}", r#"{"jsonrpc":"2.0","id":1}"#] {
            assert!(
                matches!(parse_line(text).unwrap(), ParsedLine::One(Err(_))),
                "{text}"
            );
        }
        assert!(matches!(
            one("\u{feff}{\"id\":1,\"result\":1}"),
            Message::Response { .. }
        ));
    }
}
