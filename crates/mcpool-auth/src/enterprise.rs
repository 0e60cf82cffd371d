//! The exchange with an enterprise's identity provider (enterprise-managed authorization).

use std::sync::Arc;

use mcpool_core::{IdentityProvider, Result, Secret};
use oauth2::ClientSecret;
use rmcp::transport::auth::enterprise::{
    EmaAuthorizationServer, EmaClientAuthentication, EmaError, EmaExchangeRequest,
};

use crate::{discovery::Discovered, error::refused, http::OAuthHttp, secrets::read_secret};

/// The identity provider's word that this person may, for this authorization server (ID-JAG), and
/// the scopes that it allows. What it says of issuer, audience, client and resource is checked by
/// rmcp.
pub(crate) async fn id_jag(
    http: &Arc<OAuthHttp>,
    discovered: &Discovered,
    idp: &IdentityProvider,
    client_id: &str,
    id_token: &Secret,
    scopes: &[String],
) -> Result<(Secret, Vec<String>)> {
    let mut provider =
        EmaAuthorizationServer::new(&idp.issuer, &idp.token_endpoint, &idp.client_id);
    if let Some(source) = &idp.client_secret {
        let what = "the client secret at the identity provider";
        let secret = read_secret(source, what, http.masker()).await?;
        provider = provider.with_client_authentication(EmaClientAuthentication::ClientSecretBasic(
            ClientSecret::new(secret.expose().to_owned()),
        ));
    }
    let resource_server = EmaAuthorizationServer::new(
        &discovered.issuer,
        discovered.token_endpoint.as_str(),
        client_id,
    );
    let word = EmaExchangeRequest::new_with_id_token(
        provider,
        resource_server,
        &discovered.resource,
        id_token.expose(),
    )
    .with_scopes(scopes.iter().cloned())
    .exchange_id_jag(http.as_ref())
    .await
    .map_err(|error| match (http.failure(), error) {
        (Some(failure), EmaError::RequestFailed(_)) => failure.into(),
        (_, error) => match http.oauth_error() {
            Some(answer) => refused(format!("enterprise-managed authorization: {answer}")),
            None => refused(format!("enterprise-managed authorization: {error}")),
        },
    })?;
    let mut granted: Vec<String> = word.scopes().iter().cloned().collect();
    granted.sort();
    Ok((word.assertion().secret().as_str().into(), granted))
}
