//! Listen streams: a client of MCP 2026-07-28 is notified of changes for as long as it listens.

use mcpool_core::{
    Incoming, Notification, Raw, RawObject, RpcError, ServerRequest, encode_notification,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    client::Client,
    era::{self, META_SUBSCRIPTION},
    fault,
    gateway::Gateway,
    hub::Wants,
    outlet::Outlet,
    own::Way,
};

impl Gateway {
    /// Notifies a client of changes for as long as it listens (MCP 2026-07-28, "Subscriptions").
    pub(crate) async fn listen(
        &self,
        request: &ServerRequest,
        client: &Client,
        outlet: &Outlet,
    ) -> Result<Raw, RpcError> {
        #[derive(Deserialize)]
        struct Params {
            notifications: Filter,
        }
        let params = request.params.as_ref().map(Raw::parse::<Params>);
        let Some(Ok(Params {
            notifications: mut filter,
        })) = params
        else {
            return Err(fault::invalid("the parameters hold no `notifications`"));
        };
        let wants = Wants {
            tools: filter.tools == Some(true),
            prompts: filter.prompts == Some(true),
            resources: filter.resources == Some(true),
            logs: false,
        };
        let owner = client.owner();
        let hub = &self.0.hub;
        let _presence = hub.own().present(&owner, Way::None);
        let (listener, mut inbox) = hub.listen(owner.key, client.scope.clone(), wants);
        let mut granted = Vec::new();
        for uri in std::mem::take(&mut filter.uris) {
            let server = self.0.catalog.resource(&uri, &client.scope).await;
            let reached = server.and_then(|server| self.reach(client, &server).ok());
            let subscribed = match &reached {
                Some(reached) => listener.subscribe(&reached.resource(&uri)).await.is_ok(),
                None => false,
            };
            // What is not granted is left out of the acknowledgement.
            if subscribed {
                granted.push(uri);
            }
        }
        filter.uris = granted;
        let acknowledged = json!({ "notifications": filter });
        let acknowledged = Notification::new(
            "notifications/subscriptions/acknowledged",
            Raw::of(&acknowledged).ok(),
        );
        let mut next = Some(acknowledged);
        while let Some(notification) = next {
            let Some(line) = of_stream(notification, &request.id) else {
                break;
            };
            if !outlet.send(line).await {
                break;
            }
            next = tokio::select! {
                item = inbox.next() => match item {
                    Some(Incoming::Notification(notification)) => Some(notification),
                    _ => None,
                },
                () = outlet.closed() => None,
                // It would run for as long as its client likes.
                () = self.0.drain.begun() => None,
            };
        }
        // The client has gone, or the gateway ends.
        Ok(Raw::empty_object())
    }
}

/// What a listen stream carries.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Filter {
    #[serde(rename = "toolsListChanged", skip_serializing_if = "Option::is_none")]
    tools: Option<bool>,
    #[serde(rename = "promptsListChanged", skip_serializing_if = "Option::is_none")]
    prompts: Option<bool>,
    #[serde(
        rename = "resourcesListChanged",
        skip_serializing_if = "Option::is_none"
    )]
    resources: Option<bool>,
    #[serde(
        rename = "resourceSubscriptions",
        skip_serializing_if = "Vec::is_empty"
    )]
    uris: Vec<String>,
}

/// A notification of a listen stream as text.
fn of_stream(mut notification: Notification, stream: &Raw) -> Option<String> {
    let params = notification.params.as_ref().map(RawObject::parse);
    let mut params = params.and_then(Result::ok).unwrap_or_default();
    let mut meta = era::without_reserved(&params);
    meta.insert(META_SUBSCRIPTION, stream.clone());
    params.insert("_meta", meta.to_raw().ok()?);
    notification.params = params.to_raw().ok();
    encode_notification(&notification).ok()
}
