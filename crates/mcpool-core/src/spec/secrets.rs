//! Which values of a spec must not come back in an error, a log or a line of stderr.

use crate::{
    HttpSpec, Masker, OAuthGrant, OAuthSpec, SecretSource, Sensitivity, StdioSpec, TransportSpec,
};

/// Adds what a spec holds to a masker. How sensitive a value is, only its owner knows: here all
/// are values.
pub(super) fn note(transport: &TransportSpec, masker: &Masker) {
    match transport {
        TransportSpec::Stdio(stdio) => stdio_values(stdio, masker),
        TransportSpec::Http(http) | TransportSpec::Sse(http) | TransportSpec::Auto(http) => {
            http_values(http, masker);
        }
        // It knows its own secrets, and what is made of them.
        TransportSpec::Custom(_) => {}
    }
}

fn add(masker: &Masker, value: &str) {
    masker.add(value, Sensitivity::Value);
}

fn stdio_values(stdio: &StdioSpec, masker: &Masker) {
    for (name, value) in &stdio.env {
        masker.add_variable(name, value.expose(), Sensitivity::Value);
    }
}

fn http_values(http: &HttpSpec, masker: &Masker) {
    for (_, value) in &http.headers {
        add(masker, value.expose());
        // `Bearer …`, `Basic …`: the server repeats the second part alone.
        if let Some((_scheme, credentials)) = value.expose().split_once(' ') {
            add(masker, credentials);
        }
    }
    url_values(&http.url, masker);
    if let Some(proxy) = &http.proxy {
        url_values(proxy, masker);
    }
    if let Some(oauth) = &http.oauth {
        oauth_values(oauth, masker);
    }
}

/// The user name, the password, and the values of the query.
fn url_values(url: &str, masker: &Masker) {
    let (front, tail) = url.split_at(url.find(['?', '#']).unwrap_or(url.len()));
    let authority = front.split_once("://").map_or(front, |(_, rest)| rest);
    let authority = authority.split('/').next().unwrap_or_default();
    if let Some((user, _host)) = authority.rsplit_once('@') {
        user.split(':').for_each(|part| add(masker, part));
    }
    for pair in tail.split(['?', '#', '&']) {
        if let Some((_name, value)) = pair.split_once('=') {
            add(masker, value);
        }
    }
}

fn oauth_values(oauth: &OAuthSpec, masker: &Masker) {
    let mut sources = Vec::from_iter(&oauth.client_secret);
    match &oauth.grant {
        OAuthGrant::PrivateKeyJwt { key, .. } => sources.push(key),
        OAuthGrant::EnterpriseManaged { idp, id_token } => {
            sources.extend(&idp.client_secret);
            sources.push(id_token);
        }
        OAuthGrant::WorkloadIdentity { assertion } => sources.push(assertion),
        _ => {}
    }
    for source in sources {
        if let SecretSource::Value(secret) = source {
            masker.add(secret.expose(), Sensitivity::Secret);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::IdentityProvider;

    #[test]
    fn what_a_spec_holds_is_masked() {
        let masker = Masker::new();
        let stdio = StdioSpec::new("x")
            .with_env("TOKEN", "/canary/1")
            .with_env("KEY", "-----BEGIN\ncanary-2-line\n-----END")
            .with_env("HOME", "/home/me")
            .with_env("DATA_DIR", "/srv/data");
        note(&TransportSpec::Stdio(stdio), &masker);
        let idp = IdentityProvider::new("https://idp", "https://idp/token", "me")
            .with_client_secret(SecretSource::Value("canary-9".into()));
        let oauth = OAuthSpec::default()
            .with_client("me", Some(SecretSource::Value("canary-7".into())))
            .with_grant(OAuthGrant::EnterpriseManaged {
                idp,
                id_token: SecretSource::Value("canary-8".into()),
            });
        let http =
            HttpSpec::new("https://canary-3:canary-4@host.example/mcp?key=canary-5#a=canary-6")
                .with_header("Authorization", "Bearer canary-0")
                .with_oauth(oauth);
        note(&TransportSpec::Http(http), &masker);
        let text = "/canary/1 canary-2-line canary-3 canary-4 canary-5 canary-6 canary-7 canary-8 \
                    canary-9 canary-0";
        let masked = masker.mask(text, Sensitivity::Value);
        assert!(!masked.contains("canary"), "{masked}");
        let places = "/home/me/x /srv/data/y https://host.example/mcp";
        assert_eq!(masker.mask(places, Sensitivity::Value), places);
    }
}
