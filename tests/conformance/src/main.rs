//! The client under test of the official conformance suite, on mcpool's public API.
//!
//! It does what any application would: connects, lists what there is, and uses each thing once.
//! Transport, protocol era and authorization are mcpool's business; nothing here depends on the
//! scenario but the credentials that the suite hands out and the calls that it asks for.

mod administrator;
mod answers;
mod browser;
mod plain;

use std::{process::ExitCode, sync::Arc};

use mcpool::{
    Client, ClientFactory, ConnectOptions, Error, ErrorKind, HttpSpec, IdentityProvider,
    OAuthGrant, OAuthSpec, SecretSource, ServerSpec, StandardFactory, TransportSpec, Typed,
    Verbs as _,
    auth::{MemoryStore, OAuth},
    model::{JsonObject, Tool},
};
use serde::Deserialize;
use serde_json::Value;

/// The document that the suite expects of a client with a client-id metadata document.
const CLIENT_METADATA: &str = "https://conformance-test.local/client-metadata.json";

/// What a scenario gives to its client (`MCP_CONFORMANCE_CONTEXT`).
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "snake_case")]
struct Context {
    client_id: Option<String>,
    client_secret: Option<String>,
    issuer: Option<String>,
    private_key_pem: Option<String>,
    signing_algorithm: Option<String>,
    idp_client_id: Option<String>,
    idp_id_token: Option<String>,
    idp_issuer: Option<String>,
    idp_token_endpoint: Option<String>,
    valid_jwt: Option<String>,
    #[serde(rename = "toolCalls")]
    tool_calls: Vec<ToolCall>,
}

#[derive(Deserialize)]
struct ToolCall {
    name: String,
    #[serde(default)]
    arguments: Option<JsonObject>,
}

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let Some(url) = std::env::args().nth(1) else {
        eprintln!("usage: mcpool-conformance URL");
        return ExitCode::from(2);
    };
    let context = std::env::var("MCP_CONFORMANCE_CONTEXT").unwrap_or_else(|_| "{}".to_owned());
    let context = match serde_json::from_str(&context) {
        Ok(context) => context,
        Err(error) => {
            eprintln!("MCP_CONFORMANCE_CONTEXT: {error}");
            return ExitCode::from(2);
        }
    };
    match run(&url, context).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            let mut cause = std::error::Error::source(&error);
            while let Some(error) = cause {
                eprintln!("  caused by: {error}");
                cause = error.source();
            }
            ExitCode::FAILURE
        }
    }
}

async fn run(url: &str, context: Context) -> Result<(), Error> {
    let oauth = OAuth::new(Arc::new(MemoryStore::new()))
        .with_client_name("mcpool conformance client")
        .with_client_metadata_url(CLIENT_METADATA)
        .with_agent(Arc::new(browser::Headless));
    let factory = StandardFactory::new()
        .with_handler(Arc::new(Typed::new(answers::Defaults)))
        .with_authenticators(Arc::new(oauth));
    let mut settings = credentials(&context);
    if settings.credential_field().is_some()
        && !settings.is_bound()
        && let Some(issuer) = administrator::issuer_of(url).await
    {
        settings = settings.with_issuer(issuer);
    }
    let http = HttpSpec::new(url).with_oauth(settings);
    let spec = ServerSpec::new("conformance", TransportSpec::Auto(http))?;
    let client = factory.connect(&spec, &ConnectOptions::new()).await?;
    let used = use_everything(&*client, context.tool_calls).await;
    client.close().await;
    used
}

/// The grant for which the suite handed out credentials.
fn credentials(context: &Context) -> OAuthSpec {
    let value = |text: &Option<String>| text.clone().map(|text| SecretSource::Value(text.into()));
    let mut spec = OAuthSpec::new();
    if let Some(id) = &context.client_id {
        spec = spec.with_client(id, value(&context.client_secret));
    }
    if let Some(issuer) = &context.issuer {
        spec = spec.with_issuer(issuer);
    }
    let grant = if let Some(key) = value(&context.private_key_pem) {
        OAuthGrant::PrivateKeyJwt {
            key,
            algorithm: context.signing_algorithm.clone(),
        }
    } else if let (Some(id_token), Some(issuer), Some(endpoint), Some(client)) = (
        value(&context.idp_id_token),
        &context.idp_issuer,
        &context.idp_token_endpoint,
        &context.idp_client_id,
    ) {
        OAuthGrant::EnterpriseManaged {
            idp: IdentityProvider::new(issuer, endpoint, client),
            id_token,
        }
    } else if let Some(assertion) = value(&context.valid_jwt) {
        OAuthGrant::WorkloadIdentity { assertion }
    } else if context.client_secret.is_some() && context.issuer.is_none() {
        // With an issuer, the client was registered at one for people to log in.
        OAuthGrant::ClientCredentials
    } else {
        OAuthGrant::AuthorizationCode
    };
    spec.with_grant(grant)
}

async fn use_everything(client: &dyn Client, asked_for: Vec<ToolCall>) -> Result<(), Error> {
    let capabilities = client
        .info()
        .map(|info| info.peer.capabilities.clone())
        .unwrap_or_default();
    if capabilities.tools {
        let listing = client.list_tools().await?;
        let tools: Vec<Tool> = listing.values().cloned().collect();
        let calls = if asked_for.is_empty() {
            tools.iter().map(|tool| call_for(tool, &tools)).collect()
        } else {
            asked_for
        };
        for call in calls {
            match client.call_tool(&call.name, call.arguments).await {
                // The server's own answer, which some scenarios have none of for the tools that
                // they list. An application shows it and goes on.
                Err(error) if error.kind() == ErrorKind::Rpc => eprintln!("{error}"),
                result => drop(result?),
            }
        }
    }
    if capabilities.resources {
        for resource in client.list_resources().await?.values() {
            client.read_resource(&resource.uri).await?;
        }
    }
    if capabilities.prompts {
        for prompt in client.list_prompts().await?.values() {
            let arguments: serde_json::Map<String, Value> = prompt
                .arguments
                .iter()
                .flatten()
                .map(|argument| (argument.name.clone(), "text".into()))
                .collect();
            client.get_prompt(&prompt.name, arguments).await?;
        }
    }
    Ok(())
}

/// A call of a tool with every argument that its schema requires.
fn call_for(tool: &Tool, all: &[Tool]) -> ToolCall {
    let required = tool.input_schema.get("required").and_then(Value::as_array);
    let properties = tool.input_schema.get("properties");
    let arguments: JsonObject = required
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(|name| {
            let schema = properties.and_then(|properties| properties.get(name));
            // A tool that takes a schema is shown one that we got.
            let value = match all.iter().find(|other| other.name != tool.name) {
                Some(other) if name == "schema" => {
                    Value::Object(other.input_schema.as_ref().clone())
                }
                _ => answers::sample(schema.unwrap_or(&Value::Null)),
            };
            (name.to_owned(), value)
        })
        .collect();
    ToolCall {
        name: tool.name.to_string(),
        arguments: Some(arguments),
    }
}
