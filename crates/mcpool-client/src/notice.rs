//! What the application learns of a server's notification.

use mcpool_core::{Notification, Raw, ServerNotice};
use serde::Deserialize;
use serde_json::Value;

/// What the application learns of a notification; `None` for those that are the session's own
/// business. Members of another type count as missing.
pub(crate) fn of(notification: &Notification) -> Option<ServerNotice> {
    let params = notification.params.as_ref();
    Some(match notification.method.as_str() {
        "notifications/tools/list_changed" => ServerNotice::ToolsChanged,
        "notifications/prompts/list_changed" => ServerNotice::PromptsChanged,
        "notifications/resources/list_changed" => ServerNotice::ResourcesChanged,
        "notifications/resources/updated" => match params.and_then(updated) {
            Some(uri) => ServerNotice::ResourceUpdated { uri },
            // Some resource has changed, and it is not said which.
            None => ServerNotice::ResourcesChanged,
        },
        "notifications/message" => log(params),
        "notifications/progress"
        | "notifications/cancelled"
        | "notifications/subscriptions/acknowledged" => return None,
        method => ServerNotice::Other {
            method: method.to_owned(),
            params: params.cloned(),
        },
    })
}

fn updated(params: &Raw) -> Option<String> {
    #[derive(Deserialize)]
    struct Params {
        uri: String,
    }
    params.parse::<Params>().ok().map(|params| params.uri)
}

fn log(params: Option<&Raw>) -> ServerNotice {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Params {
        level: Value,
        logger: Value,
        data: Option<Raw>,
    }
    let params: Params = params
        .and_then(|params| params.parse().ok())
        .unwrap_or_default();
    ServerNotice::Log {
        level: match params.level {
            Value::String(level) => level,
            Value::Null => "info".to_owned(),
            other => other.to_string(),
        },
        logger: params.logger.as_str().map(str::to_owned),
        data: params.data.unwrap_or_else(Raw::null),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_notification_has_its_notice() {
        let read = |name: &str, params: Option<&str>| {
            let params = params.map(|text| Raw::from_text(text.to_owned()).unwrap());
            of(&Notification::new(format!("notifications/{name}"), params))
        };
        let raw = |text: &str| Raw::from_text(text.to_owned()).unwrap();
        let log = |level: &str, logger: Option<&str>, data: &str| ServerNotice::Log {
            level: level.to_owned(),
            logger: logger.map(str::to_owned),
            data: raw(data),
        };
        for (name, params, wanted) in [
            ("tools/list_changed", None, ServerNotice::ToolsChanged),
            (
                "prompts/list_changed",
                Some("{}"),
                ServerNotice::PromptsChanged,
            ),
            (
                "resources/list_changed",
                None,
                ServerNotice::ResourcesChanged,
            ),
            (
                "resources/updated",
                Some(r#"{"uri":"a:b"}"#),
                ServerNotice::ResourceUpdated {
                    uri: "a:b".to_owned(),
                },
            ),
            (
                "resources/updated",
                Some(r#"{"uri":5}"#),
                ServerNotice::ResourcesChanged,
            ),
            (
                "message",
                Some(r#"{"level":"warning","logger":"db","data":{"x":1e999}}"#),
                log("warning", Some("db"), r#"{"x":1e999}"#),
            ),
            (
                "message",
                Some(r#"{"level":4,"logger":4}"#),
                log("4", None, "null"),
            ),
            ("message", None, log("info", None, "null")),
            (
                "vendor",
                Some(r#"{"n":1}"#),
                ServerNotice::Other {
                    method: "notifications/vendor".to_owned(),
                    params: Some(raw(r#"{"n":1}"#)),
                },
            ),
        ] {
            assert_eq!(read(name, params), Some(wanted), "{name} {params:?}");
        }
        assert_eq!(read("progress", Some(r#"{"progressToken":"x"}"#)), None);
    }
}
