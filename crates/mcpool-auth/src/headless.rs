//! Tokens without a person: client credentials, signed assertions, an enterprise's identity
//! provider, a workload's own identity.

use std::sync::Arc;

use mcpool_core::{DpopChoice, Error, ErrorKind, Masker, OAuthGrant, OAuthSpec, Result};

#[cfg(feature = "private-key-jwt")]
use crate::assertion;
#[cfg(feature = "enterprise")]
use crate::enterprise;
use crate::{
    answers::Tokens,
    discovery::Discovered,
    dpop::DpopKey,
    error::refused,
    grant::{ClientAuth, Grant, GrantKey, TokenKind, now},
    http::OAuthHttp,
    secrets::read_secret,
    shown::shorten,
    token::{self, Client, TokenFailure},
};

const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/// Gets a token by the grant of the spec. A refusal is final: no second try, no other grant.
pub(crate) async fn obtain(
    http: &Arc<OAuthHttp>,
    discovered: Discovered,
    spec: &OAuthSpec,
    key: &GrantKey,
    scopes: Vec<String>,
) -> Result<Grant> {
    let client_id = spec.client_id.clone().ok_or_else(|| {
        Error::new(
            ErrorKind::InvalidSpec,
            "this OAuth grant needs a client id: set client_id",
        )
    })?;
    let masker = http.masker();
    let dpop = match discovered.dpop {
        true => {
            let dpop = Arc::new(DpopKey::generate()?);
            http.sign_with(discovered.token_endpoint.clone(), Arc::clone(&dpop));
            Some(dpop)
        }
        false => None,
    };
    let tokens = match &spec.grant {
        OAuthGrant::AuthorizationCode | OAuthGrant::Off => {
            return Err(Error::new(ErrorKind::Internal, "this grant needs a person"));
        }
        OAuthGrant::ClientCredentials => {
            let Some(source) = &spec.client_secret else {
                return Err(Error::new(
                    ErrorKind::InvalidSpec,
                    "client credentials need a secret: set client_secret",
                ));
            };
            let secret = read_secret(source, "the client secret", masker).await?;
            let client = Client {
                id: client_id.clone(),
                auth: discovered.client_auth(true),
                secret: Some(secret),
            };
            let fields = [("grant_type", "client_credentials")];
            request(http, &discovered, Some(&client), &fields, &scopes).await?
        }
        #[cfg(feature = "private-key-jwt")]
        OAuthGrant::PrivateKeyJwt {
            key: source,
            algorithm,
        } => {
            let pem = read_secret(source, "the private key", masker).await?;
            // RFC 7523, section 3: `aud` is the authorization server, by its issuer.
            let assertion = assertion::client_assertion(
                &client_id,
                &discovered.issuer,
                &pem,
                algorithm.as_deref(),
            )?;
            let fields = [
                ("grant_type", "client_credentials"),
                ("client_assertion_type", assertion::ASSERTION_TYPE),
                ("client_assertion", &assertion),
            ];
            request(http, &discovered, None, &fields, &scopes).await?
        }
        #[cfg(feature = "enterprise")]
        OAuthGrant::EnterpriseManaged { idp, id_token } => {
            let id_token = read_secret(id_token, "the ID token", masker).await?;
            let (assertion, granted) =
                enterprise::id_jag(http, &discovered, idp, &client_id, &id_token, &scopes).await?;
            let client = client(&discovered, spec, &client_id, masker).await?;
            // Only the assertion carries authority: to name resource or scope again could undo
            // what the identity provider took away.
            let fields = [
                ("grant_type", JWT_BEARER),
                ("assertion", assertion.expose()),
            ];
            let mut tokens = send(http, &discovered, Some(&client), &fields).await?;
            tokens.scopes.get_or_insert(granted);
            tokens
        }
        OAuthGrant::WorkloadIdentity { assertion } => {
            let assertion = read_secret(assertion, "the workload's token", masker).await?;
            let client = client(&discovered, spec, &client_id, masker).await?;
            let fields = [
                ("grant_type", JWT_BEARER),
                ("assertion", assertion.expose()),
            ];
            request(http, &discovered, Some(&client), &fields, &scopes).await?
        }
        _ => {
            return Err(Error::new(
                ErrorKind::InvalidSpec,
                "this OAuth grant is not supported",
            ));
        }
    };
    if spec.dpop == DpopChoice::Always && tokens.kind != TokenKind::Dpop {
        return Err(refused("the token is not bound to a key, as dpop demands"));
    }
    let mut grant = Grant {
        key: key.clone(),
        issuer: discovered.issuer.clone(),
        resource: discovered.resource.clone(),
        token_endpoint: discovered.token_endpoint.to_string(),
        revocation_endpoint: discovered.text("revocation_endpoint"),
        client_id,
        client_secret: None,
        client_auth: ClientAuth::None,
        redirect_uri: None,
        access_token: tokens.access.clone(),
        kind: tokens.kind,
        refresh_token: None,
        scopes,
        wanted_scopes: Vec::new(),
        issued_at: now(),
        expires_at: None,
        dpop_key: dpop
            .filter(|_| tokens.kind == TokenKind::Dpop)
            .map(|dpop| dpop.pkcs8().clone()),
    };
    grant = tokens.renew(grant);
    // The credentials themselves renew it; a refresh token would be one more secret to keep.
    grant.refresh_token = None;
    Ok(grant)
}

/// This client, with its secret if it has one.
async fn client(
    discovered: &Discovered,
    spec: &OAuthSpec,
    client_id: &str,
    masker: &Masker,
) -> Result<Client> {
    let secret = match &spec.client_secret {
        Some(source) => Some(read_secret(source, "the client secret", masker).await?),
        None => None,
    };
    Ok(Client {
        id: client_id.to_owned(),
        auth: discovered.client_auth(secret.is_some()),
        secret,
    })
}

/// One token request, for the resource and the scopes. A refusal is final.
async fn request(
    http: &OAuthHttp,
    discovered: &Discovered,
    client: Option<&Client>,
    fields: &[(&str, &str)],
    scopes: &[String],
) -> Result<Tokens> {
    let scope = scopes.join(" ");
    let mut fields = fields.to_vec();
    fields.push(("resource", &discovered.resource));
    if !scope.is_empty() {
        fields.push(("scope", &scope));
    }
    send(http, discovered, client, &fields).await
}

async fn send(
    http: &OAuthHttp,
    discovered: &Discovered,
    client: Option<&Client>,
    fields: &[(&str, &str)],
) -> Result<Tokens> {
    token::request(http, &discovered.token_endpoint, client, fields)
        .await
        .map_err(|failure| match failure {
            TokenFailure::Other(error) => error,
            TokenFailure::Rejected(answer) => refused(format!(
                "{} gave no token: {answer}",
                shorten(&discovered.issuer)
            )),
        })
}
