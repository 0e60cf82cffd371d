//! A server that wants a login, where nobody can log in: client credentials, as in CI.
//!
//! `cargo run -p mcpool --features auth --example login_without_a_person`

use std::{sync::Arc, time::Duration};

use mcpool::{
    ConnectionManager, HttpSpec, OAuthGrant, OAuthSpec, SecretSource, ServerSpec, StandardFactory,
    auth::{MemoryStore, OAuth},
};
use mcpool_testkit::fixtures::authz::{AuthzFixture, AuthzOptions};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut options = AuthzOptions::default();
    options.client = Some(("my-ci".to_owned(), "a-secret".to_owned()));
    let server = AuthzFixture::start(options)?;

    // The secret goes to this authorization server and to no other that the MCP server may name.
    let settings = OAuthSpec::new()
        .with_grant(OAuthGrant::ClientCredentials)
        .with_client("my-ci", Some(SecretSource::Value("a-secret".into())))
        .with_issuer(server.issuer());
    let http = HttpSpec::new(server.mcp_url()).with_oauth(settings);

    // `FileStore` and `KeyringStore` keep tokens; this one forgets them with the program.
    let oauth = OAuth::new(Arc::new(MemoryStore::new()));
    let factory = StandardFactory::new().with_authenticators(Arc::new(oauth));
    let manager = ConnectionManager::new(Arc::new(factory));
    let specs = vec![ServerSpec::http("guarded", http)?];
    manager.start(specs).await?.all_connected()?;
    println!(
        "logged in; tokens asked for: {}",
        server.count("client_credentials")
    );
    assert_eq!(server.count("client_credentials"), 1);

    manager.shutdown(Duration::from_secs(5)).await;
    Ok(())
}
