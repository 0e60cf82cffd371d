//! What the transport reports a listen stream (MCP 2026-07-28, "Subscriptions").

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use mcpool_core::{NoticeSender, Notification, Raw, RequestId, RequestSink, ServerNotice};
use serde::Deserialize;
use tokio::sync::oneshot;

use crate::{activity::Activity, notice};

/// What a stream covers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Coverage {
    pub(crate) tools: bool,
    pub(crate) prompts: bool,
    pub(crate) resources: bool,
    pub(crate) uris: Vec<String>,
}

impl Coverage {
    /// The parameters that ask for it.
    pub(crate) fn params(&self) -> Raw {
        let mut wanted = serde_json::Map::new();
        let lists = [
            ("toolsListChanged", self.tools),
            ("promptsListChanged", self.prompts),
            ("resourcesListChanged", self.resources),
        ];
        for (name, _) in lists.into_iter().filter(|(_, wanted)| *wanted) {
            wanted.insert(name.to_owned(), true.into());
        }
        if !self.uris.is_empty() {
            wanted.insert("resourceSubscriptions".to_owned(), self.uris.clone().into());
        }
        // Texts and truth values are JSON.
        Raw::of(&serde_json::json!({ "notifications": wanted }))
            .unwrap_or_else(|_| Raw::empty_object())
    }

    /// Reads what was granted, member by member.
    fn granted(notification: &Notification) -> Self {
        #[derive(Default, Deserialize)]
        #[serde(default, rename_all = "camelCase")]
        struct Granted {
            tools_list_changed: serde_json::Value,
            prompts_list_changed: serde_json::Value,
            resources_list_changed: serde_json::Value,
            resource_subscriptions: serde_json::Value,
        }
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Params {
            notifications: Granted,
        }
        let params = notification.params.as_ref();
        let params: Params = params
            .and_then(|params| params.parse().ok())
            .unwrap_or_default();
        let granted = params.notifications;
        let uris = granted.resource_subscriptions.as_array();
        Self {
            tools: granted.tools_list_changed == true,
            prompts: granted.prompts_list_changed == true,
            resources: granted.resources_list_changed == true,
            uris: uris
                .into_iter()
                .flatten()
                .filter_map(|uri| uri.as_str().map(str::to_owned))
                .collect(),
        }
    }

    /// What is announced when all of it may have changed.
    pub(crate) fn notices(&self) -> impl Iterator<Item = ServerNotice> + '_ {
        let lists = [
            (self.tools, ServerNotice::ToolsChanged),
            (self.prompts, ServerNotice::PromptsChanged),
            (self.resources, ServerNotice::ResourcesChanged),
        ];
        let lists = lists.into_iter().filter(|(covered, _)| *covered);
        let uris = self.uris.iter().cloned();
        lists
            .map(|(_, notice)| notice)
            .chain(uris.map(|uri| ServerNotice::ResourceUpdated { uri }))
    }
}

/// The sink of one stream, however often it is opened again.
#[derive(Debug)]
pub(crate) struct StreamSink {
    /// The id of the request that is open now; 0 for none.
    id: AtomicU64,
    notices: NoticeSender,
    activity: Arc<Activity>,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    granted: Option<oneshot::Sender<Coverage>>,
    ended: Option<oneshot::Sender<()>>,
}

impl StreamSink {
    pub(crate) fn new(notices: NoticeSender, activity: Arc<Activity>) -> Arc<Self> {
        Arc::new(Self {
            id: AtomicU64::new(0),
            notices,
            activity,
            waiting: Mutex::default(),
        })
    }

    /// It is being opened: gives what reports the grant, and of the server's word that it ends.
    pub(crate) fn open(&self) -> (oneshot::Receiver<Coverage>, oneshot::Receiver<()>) {
        let (granted, grant) = oneshot::channel();
        let (ended, end) = oneshot::channel();
        self.id.store(0, Ordering::Release);
        *self.waiting() = Waiting {
            granted: Some(granted),
            ended: Some(ended),
        };
        (grant, end)
    }

    /// Whether it is the stream of this request.
    pub(crate) fn is(&self, id: RequestId) -> bool {
        self.id.load(Ordering::Acquire) == id.get()
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RequestSink for StreamSink {
    fn assigned(&self, id: RequestId) {
        self.id.store(id.get(), Ordering::Release);
    }

    fn notification(&self, notification: &Notification) -> bool {
        self.activity.heard();
        match notification.method.as_str() {
            ACKNOWLEDGED => {
                if let Some(granted) = self.waiting().granted.take() {
                    // Nobody waits for it any more when the subscriber has left.
                    let _ = granted.send(Coverage::granted(notification));
                }
            }
            CANCELLED => {
                if let Some(ended) = self.waiting().ended.take() {
                    let _ = ended.send(());
                }
            }
            _ => {
                if let Some(notice) = notice::of(notification) {
                    self.notices.send(notice);
                }
            }
        }
        true
    }
}

/// The first word of a stream: what was granted.
pub(crate) const ACKNOWLEDGED: &str = "notifications/subscriptions/acknowledged";

/// The server's word that a stream, or one of its own questions, has ended.
pub(crate) const CANCELLED: &str = "notifications/cancelled";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_and_granted_is_read_member_by_member() {
        let wanted = Coverage {
            tools: true,
            uris: vec!["a:b".to_owned()],
            ..Coverage::default()
        };
        assert_eq!(
            wanted.params().get(),
            r#"{"notifications":{"toolsListChanged":true,"resourceSubscriptions":["a:b"]}}"#
        );
        let granted = |params: &str| {
            let params = Raw::from_text(params.to_owned()).unwrap();
            Coverage::granted(&Notification::new(ACKNOWLEDGED, Some(params)))
        };
        assert_eq!(granted(wanted.params().get()), wanted);
        let odd = r#"{"notifications":{"toolsListChanged":"yes","resourceSubscriptions":[5]}}"#;
        assert_eq!(granted(odd), Coverage::default());
        assert_eq!(granted("[]"), Coverage::default());
        assert_eq!(wanted.notices().count(), 2);
    }
}
