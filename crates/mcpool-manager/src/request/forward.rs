//! A request of the application on its way to a server, whatever its method.

use std::{borrow::Cow, fmt};

use futures::future::BoxFuture;
use mcpool_core::{
    Client, Delivery, Error, ErrorKind, Raw, Request, RequestOptions, Result, ToolTraits,
};
use serde::de::{self, Deserializer as _, IgnoredAny, MapAccess, Visitor};
use tracing::Instrument;

use crate::{
    request::{
        admission::{self, Operation},
        options::CallOptions,
    },
    server::Server,
    shared::Shared,
};

/// A request as it is to be sent.
pub(crate) struct Forward<'a>(pub(crate) &'a Request);

impl Forward<'_> {
    /// The tool that is called, if one is.
    fn tool(&self) -> Option<Cow<'_, str>> {
        if self.0.method != "tools/call" {
            return None;
        }
        name_of(self.0.params.as_ref()?)
    }
}

impl Operation for Forward<'_> {
    type Output = Raw;

    fn method(&self) -> &str {
        &self.0.method
    }

    fn permitted(&self, server: &Server) -> Result<()> {
        if server.permits_all_tools() {
            return Ok(());
        }
        let spec = server.spec();
        match self.tool() {
            Some(tool) if !spec.tools.permits(&tool) => Err(Error::new(
                ErrorKind::UnknownTool,
                format!("the tool {tool:?} is hidden by the server's tool filter"),
            )),
            _ => Ok(()),
        }
    }

    fn traits(&self, server: &Server) -> ToolTraits {
        let hints = self.tool().and_then(|name| {
            let listing = server.catalog.tools.cached()?;
            let tool = listing.items.iter().find(|tool| tool.name == name)?;
            tool.annotations.clone()
        });
        let (read_only, idempotent) = hints.map_or((false, false), |hints| {
            (
                hints.read_only_hint.unwrap_or(false),
                hints.idempotent_hint.unwrap_or(false),
            )
        });
        ToolTraits::new(
            read_only,
            idempotent,
            server.spec().policy.trust_annotations,
        )
    }

    fn run<'a>(
        &'a self,
        client: &'a dyn Client,
        options: &'a RequestOptions,
    ) -> BoxFuture<'a, Result<Raw>> {
        client.request(self.0, options)
    }
}

/// Sends a request to the server of this name. When the server is replaced while the request
/// waits, it goes to the new one.
pub(crate) async fn forward(
    shared: &Shared,
    name: &str,
    request: &Request,
    options: &CallOptions,
) -> Result<Raw> {
    let operation = Forward(request);
    let mut server = shared.server(name)?;
    loop {
        let span = tracing::debug_span!("call", server = name, method = &*request.method);
        let call = admission::deliver(shared, &server, &operation, options);
        match call.instrument(span).await {
            Err(error)
                if matches!(error.kind(), ErrorKind::Closed | ErrorKind::Cancelled)
                    && error.delivery() == Delivery::NotSent
                    && server.is_retired() =>
            {
                match shared.server(name) {
                    Ok(newer) if !std::sync::Arc::ptr_eq(&newer, &server) => server = newer,
                    _ => return Err(error),
                }
            }
            other => return other,
        }
    }
}

/// The member `name` of an object. Reading ends at it, so that large arguments behind it cost
/// nothing.
fn name_of(params: &Raw) -> Option<Cow<'_, str>> {
    struct Find<'a, 'de>(&'a mut Option<Cow<'de, str>>);

    impl<'de> Visitor<'de> for Find<'_, 'de> {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
            while let Some(key) = map.next_key::<Cow<'de, str>>()? {
                if key == "name" {
                    *self.0 = Some(map.next_value()?);
                    return Err(de::Error::custom("found"));
                }
                map.next_value::<IgnoredAny>()?;
            }
            Ok(())
        }
    }

    let mut name = None;
    let mut json = serde_json::Deserializer::from_str(params.get());
    // An error ends the reading, or says that there is no name.
    let _ = json.deserialize_map(Find(&mut name));
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_found_wherever_it_stands() {
        let name = |text: &str| {
            let raw = Raw::from_text(text.to_owned()).unwrap();
            name_of(&raw).map(Cow::into_owned)
        };
        assert_eq!(name(r#"{"name":"a","arguments":{}}"#).as_deref(), Some("a"));
        assert_eq!(
            name(r#"{"arguments":{"name":"no"},"n\u0061me":"a\n"}"#).as_deref(),
            Some("a\n")
        );
        assert_eq!(name("{}"), None);
        assert_eq!(name("[]"), None);
        assert_eq!(name(r#"{"name":5}"#), None);
    }
}
