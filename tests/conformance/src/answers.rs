//! What a person would say: yes, with the defaults that the server proposes.

use async_trait::async_trait;
use mcpool::{
    RpcError, ServerName, TypedHandler,
    model::{
        ClientCapabilities, ElicitRequestParams, ElicitResult, ElicitationAction,
        ElicitationCapability, FormElicitationCapability,
    },
};
use serde_json::{Value, json};

/// Accepts every form with its defaults.
#[derive(Debug)]
pub(crate) struct Defaults;

#[async_trait]
impl TypedHandler for Defaults {
    fn capabilities(&self, _server: &ServerName) -> ClientCapabilities {
        let mut capabilities = ClientCapabilities::default();
        capabilities.elicitation =
            Some(ElicitationCapability::new().with_form(FormElicitationCapability::new()));
        capabilities
    }

    async fn elicit(
        &self,
        _server: &ServerName,
        params: ElicitRequestParams,
    ) -> Result<ElicitResult, RpcError> {
        let ElicitRequestParams::FormElicitationParams {
            requested_schema, ..
        } = params
        else {
            return Ok(ElicitResult::new(ElicitationAction::Decline));
        };
        let schema = serde_json::to_value(requested_schema).unwrap_or_default();
        let mut result = ElicitResult::new(ElicitationAction::Accept);
        result.content = Some(sample(&schema));
        Ok(result)
    }
}

/// A value that a schema allows; its default, if it has one.
pub(crate) fn sample(schema: &Value) -> Value {
    if let Some(default) = schema.get("default") {
        return default.clone();
    }
    if let Some(first) = schema.get("enum").and_then(|list| list.get(0)) {
        return first.clone();
    }
    match schema.get("type").and_then(Value::as_str) {
        Some("object") => schema
            .get("properties")
            .and_then(Value::as_object)
            .map(|properties| {
                properties
                    .iter()
                    .map(|(name, schema)| (name.clone(), sample(schema)))
                    .collect::<serde_json::Map<_, _>>()
                    .into()
            })
            .unwrap_or_else(|| json!({})),
        Some("array") => json!([]),
        Some("boolean") => json!(true),
        Some("integer" | "number") => json!(1),
        _ => json!("text"),
    }
}
