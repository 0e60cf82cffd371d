//! What the application is told of a server's notification.
#![allow(
    deprecated,
    reason = "log messages are deprecated by MCP 2026-07-28, sent by older servers"
)]

use mcpool_core::{ServerNotice, model::ServerNotification};
use serde_json::Value;

/// What the application is told of a notification.
pub(crate) fn from(notification: ServerNotification) -> ServerNotice {
    match notification {
        ServerNotification::ToolListChangedNotification(_) => ServerNotice::ToolsChanged,
        ServerNotification::PromptListChangedNotification(_) => ServerNotice::PromptsChanged,
        ServerNotification::ResourceListChangedNotification(_) => ServerNotice::ResourcesChanged,
        ServerNotification::ResourceUpdatedNotification(updated) => ServerNotice::ResourceUpdated {
            uri: updated.params.uri,
        },
        ServerNotification::LoggingMessageNotification(log) => ServerNotice::Log {
            level: serde_json::to_value(log.params.level)
                .ok()
                .and_then(|level| level.as_str().map(str::to_owned))
                .unwrap_or_default(),
            logger: log.params.logger,
            data: log.params.data,
        },
        other => {
            // Every notification is an object with a method and perhaps parameters.
            let mut value = serde_json::to_value(&other).unwrap_or_default();
            let method = value["method"].as_str().unwrap_or_default().to_owned();
            let params = value.get_mut("params").map(Value::take);
            ServerNotice::Other { method, params }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_notification_has_its_notice() {
        let read = |value| from(serde_json::from_value(value).unwrap());
        let method = |name: &str| json!({ "method": format!("notifications/{name}") });
        assert!(matches!(
            read(method("tools/list_changed")),
            ServerNotice::ToolsChanged
        ));
        assert!(matches!(
            read(method("prompts/list_changed")),
            ServerNotice::PromptsChanged
        ));
        assert!(matches!(
            read(method("resources/list_changed")),
            ServerNotice::ResourcesChanged
        ));
        let updated =
            json!({"method": "notifications/resources/updated", "params": {"uri": "a:b"}});
        assert!(matches!(read(updated), ServerNotice::ResourceUpdated { uri } if uri == "a:b"));
        let log = json!({
            "method": "notifications/message",
            "params": {"level": "warning", "logger": "db", "data": {"x": 1}},
        });
        assert!(matches!(
            read(log),
            ServerNotice::Log { level, logger: Some(logger), data }
                if level == "warning" && logger == "db" && data == json!({"x": 1})
        ));
        let other = json!({"method": "notifications/vendor", "params": {"n": 1}});
        assert!(matches!(
            read(other),
            ServerNotice::Other { method, params: Some(params) }
                if method == "notifications/vendor" && params == json!({"n": 1})
        ));
    }
}
