//! Who we are at an authorization server: a client that was registered beforehand, an earlier
//! registration, a client-id metadata document, a new registration, in this order (MCP
//! 2025-11-25, "Client Registration Approaches").

use mcpool_core::{Error, ErrorKind, Result, Sensitivity};
use serde_json::json;
use url::Url;

use crate::{
    answers::{OAuthErrorAnswer, Registered},
    discovery::Discovered,
    error::refused,
    grant::ClientAuth,
    http::OAuthHttp,
    login::request::LoginRequest,
    secrets::read_secret,
    shown::shorten,
    token::Client,
};

/// The client as an authorization server knows it.
pub(crate) struct Known {
    pub(crate) client: Client,
    /// Whether it registered itself, and has to keep what came of it.
    pub(crate) registered: bool,
    /// Whether that was for an earlier login: the authorization server may have forgotten it.
    pub(crate) reused: bool,
}

impl Known {
    fn by_id(id: &str) -> Self {
        Self {
            client: Client {
                id: id.to_owned(),
                secret: None,
                auth: ClientAuth::None,
            },
            registered: false,
            reused: false,
        }
    }
}

/// Finds out, or registers, the client of a login.
pub(crate) async fn client(
    http: &OAuthHttp,
    discovered: &Discovered,
    request: &LoginRequest<'_>,
    scopes: &[String],
) -> Result<Known> {
    let LoginRequest {
        spec,
        identity,
        earlier,
        redirect_uri,
        ..
    } = *request;
    if let Some(id) = &spec.client_id {
        let mut known = Known::by_id(id);
        if let Some(source) = &spec.client_secret {
            known.client.secret =
                Some(read_secret(source, "the client secret", http.masker()).await?);
            known.client.auth = discovered.client_auth(true);
        }
        return Ok(known);
    }
    // Client ids never leave their issuer (MCP 2026-07-28, authorization server binding).
    if let Some(grant) = earlier
        && grant.issuer == discovered.issuer
        && grant.redirect_uri.as_deref() == Some(redirect_uri)
    {
        return Ok(Known {
            client: Client {
                id: grant.client_id.clone(),
                secret: grant.client_secret.clone(),
                auth: grant.client_auth,
            },
            registered: true,
            reused: true,
        });
    }
    let takes_documents = discovered
        .metadata
        .additional_fields
        .get("client_id_metadata_document_supported")
        .and_then(serde_json::Value::as_bool)
        .unwrap_or(false);
    let document = spec
        .client_metadata_url
        .as_ref()
        .or(identity.metadata_url.as_ref());
    if let Some(document) = document
        && takes_documents
    {
        if !document.starts_with("https://") {
            return Err(Error::new(
                ErrorKind::InvalidSpec,
                "the client metadata document needs an https URL",
            ));
        }
        return Ok(Known::by_id(document));
    }
    let Some(endpoint) = &discovered.metadata.registration_endpoint else {
        return Err(refused(format!(
            "{} does not let clients register themselves: register one there with the redirect \
             URI {redirect_uri}, and set client_id",
            shorten(&discovered.issuer)
        )));
    };
    let endpoint = Url::parse(endpoint)
        .map_err(|_| refused("the authorization server's registration endpoint is not a URL"))?;
    let registered = register(http, &endpoint, discovered, request, scopes).await?;
    let auth = registered
        .auth
        .unwrap_or_else(|| discovered.client_auth(registered.secret.is_some()));
    Ok(Known {
        client: Client {
            id: registered.client_id,
            auth,
            secret: registered.secret,
        },
        registered: true,
        reused: false,
    })
}

/// Registers this client (RFC 7591, section 3.1), as a native application (OpenID Connect Dynamic
/// Client Registration, section 2; MCP 2026-07-28, "Application Type").
async fn register(
    http: &OAuthHttp,
    endpoint: &Url,
    discovered: &Discovered,
    request: &LoginRequest<'_>,
    scopes: &[String],
) -> Result<Registered> {
    let offered = discovered.strings("token_endpoint_auth_methods_supported");
    let takes_public_clients = offered.is_empty() || offered.iter().any(|method| method == "none");
    let mut document = json!({
        "client_name": request.identity.name,
        "redirect_uris": [request.redirect_uri],
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "token_endpoint_auth_method": match discovered.client_auth(!takes_public_clients) {
            ClientAuth::None => "none",
            ClientAuth::Basic => "client_secret_basic",
            ClientAuth::Post => "client_secret_post",
        },
        "application_type": "native",
    });
    if !scopes.is_empty() {
        document["scope"] = scopes.join(" ").into();
    }
    let answer = http.post_json(endpoint, &document).await?;
    let status = answer.status.as_u16();
    let what = "the authorization server did not register this client";
    match OAuthErrorAnswer::read(answer.status, &answer.body) {
        None if answer.status.is_success() => {
            let registered = Registered::read(&answer.body)?;
            if let Some(secret) = &registered.secret {
                http.masker().add(secret.expose(), Sensitivity::Secret);
            }
            Ok(registered)
        }
        Some(error) if status >= 500 => Err(Error::new(
            ErrorKind::HttpStatus,
            format!("{what}: {error}"),
        )
        .with_http_status(status)),
        Some(error) => Err(refused(format!("{what}: {error}; configure a client id"))),
        // It was asked at places that nobody published (MCP 2025-03-26), and is not there.
        None if !discovered.published && matches!(status, 404 | 405) => Err(refused(
            "this server names no authorization server and is not one itself, so a login cannot \
             get a token for it; send one in the header Authorization",
        )),
        None => Err(refused(format!(
            "{what}: HTTP {status}; configure a client id"
        ))),
    }
}
