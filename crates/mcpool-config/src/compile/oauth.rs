//! From the settings of a login to what `mcpool-auth` acts on.

use std::path::Path;

use mcpool_core::{
    DpopChoice, Error, ErrorKind, IdentityProvider, OAuthGrant, OAuthSpec, Result, Secret,
    SecretSource,
};

use super::anchored;
use crate::settings::{DpopName, GrantName, IdentityProviderSettings, OAuthSettings};

/// The spec, placeholders still in it.
///
/// # Errors
/// [`InvalidSpec`](ErrorKind::InvalidSpec) when the grant needs what is not there, or what is
/// secret is bound to no authorization server.
pub(super) fn spec(settings: &OAuthSettings, base: &Path) -> Result<OAuthSpec> {
    let mut spec = OAuthSpec::new().with_scopes(settings.scopes.iter());
    spec.grant = grant(settings, base)?;
    spec.client_id = settings.client_id.clone();
    spec.client_secret = value(&settings.client_secret);
    spec.client_metadata_url = settings.client_metadata_url.clone();
    spec.issuer = settings.issuer.clone();
    spec.metadata_url = settings.metadata_url.clone();
    spec.redirect_port = settings.callback_port;
    spec.account = settings.account.clone();
    spec.dpop = match settings.dpop {
        None | Some(DpopName::Auto) => DpopChoice::Auto,
        Some(DpopName::Always) => DpopChoice::Always,
        Some(DpopName::Never) => DpopChoice::Never,
    };
    spec.validate()?;
    Ok(spec)
}

fn grant(settings: &OAuthSettings, base: &Path) -> Result<OAuthGrant> {
    if settings.enabled == Some(false) {
        return Ok(OAuthGrant::Off);
    }
    let missing = || {
        let fields = settings.missing_fields().join(", ");
        let grant = settings.effective_grant().as_str();
        Error::new(
            ErrorKind::InvalidSpec,
            format!("the OAuth grant {grant} needs {fields}"),
        )
    };
    let source = |text: &Option<String>, file: &Option<String>| match file {
        Some(file) => Some(SecretSource::File(anchored(file, base))),
        None => value(text),
    };
    if !settings.missing_fields().is_empty() {
        return Err(missing());
    }
    Ok(match settings.effective_grant() {
        GrantName::AuthorizationCode => OAuthGrant::AuthorizationCode,
        GrantName::ClientCredentials => OAuthGrant::ClientCredentials,
        GrantName::PrivateKeyJwt => OAuthGrant::PrivateKeyJwt {
            key: source(&settings.private_key, &settings.private_key_file).ok_or_else(missing)?,
            algorithm: settings.algorithm.clone(),
        },
        GrantName::EnterpriseManaged => OAuthGrant::EnterpriseManaged {
            idp: settings.idp.as_ref().map(idp).ok_or_else(missing)?,
            id_token: source(&settings.id_token, &settings.id_token_file).ok_or_else(missing)?,
        },
        GrantName::WorkloadIdentity => OAuthGrant::WorkloadIdentity {
            assertion: source(&settings.assertion, &settings.assertion_file).ok_or_else(missing)?,
        },
    })
}

fn idp(settings: &IdentityProviderSettings) -> IdentityProvider {
    let idp = IdentityProvider::new(
        &settings.issuer,
        &settings.token_endpoint,
        &settings.client_id,
    );
    match value(&settings.client_secret) {
        Some(secret) => idp.with_client_secret(secret),
        None => idp,
    }
}

fn value(text: &Option<String>) -> Option<SecretSource> {
    text.as_deref()
        .map(|text| SecretSource::Value(Secret::new(text)))
}
