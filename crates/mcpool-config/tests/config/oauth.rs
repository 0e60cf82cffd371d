//! The settings of a login, from the file to the spec that `mcpool-auth` acts on.

use std::{fs, path::PathBuf};

use mcpool_config::{Admission, Loaded, Loader, TrustStore, settings::CredentialStore};
use mcpool_core::{
    DpopChoice, IdentityProvider, OAuthGrant, OAuthSpec, SecretSource, TransportSpec,
};

fn load(oauth: &str) -> Loaded {
    let text = format!(
        r#"{{ "mcpServers": {{ "a": {{ "url": "https://example.org/mcp", "oauth": {oauth} }} }} }}"#
    );
    Loader::new()
        .with_env([("SECRET", "canary-secret"), ("ID", "the-id")])
        .with_text("mcp.json", text)
        .load()
        .unwrap()
}

async fn resolved(oauth: &str) -> OAuthSpec {
    let loaded = load(oauth);
    assert!(loaded.problems.is_empty(), "{:?}", loaded.problems);
    let spec = loaded.servers[0].resolved().await.unwrap();
    match spec.transport {
        TransportSpec::Auto(http) => *http.oauth.unwrap(),
        _ => panic!("{spec:?}"),
    }
}

fn value(text: &str) -> SecretSource {
    SecretSource::Value(text.into())
}

#[tokio::test]
async fn a_persons_login_with_everything_set() {
    let spec = resolved(
        r#"{ "client_id": "${ID}", "client_secret": "${SECRET}", "scopes": "a ${ID}",
             "callback_port": 7777, "issuer": "https://as.example.org", "account": "work",
             "dpop": "never", "client_metadata_url": "https://me.example.org/client.json",
             "metadata_url": "https://as.example.org/metadata" }"#,
    )
    .await;
    let expected = OAuthSpec::new()
        .with_client("the-id", Some(value("canary-secret")))
        .with_scopes(["a", "the-id"])
        .with_redirect_port(7777)
        .with_issuer("https://as.example.org")
        .with_account("work")
        .with_dpop(DpopChoice::Never)
        .with_client_metadata_url("https://me.example.org/client.json")
        .with_metadata_url("https://as.example.org/metadata");
    assert_eq!(spec, expected);
}

#[tokio::test]
async fn every_grant_that_needs_no_person() {
    let client = || OAuthSpec::new().with_client("the-id", None);
    assert_eq!(
        resolved(
            r#"{ "grant": "client_credentials", "client_id": "${ID}", "client_secret": "${SECRET}",
                 "issuer": "https://as" }"#
        )
        .await,
        OAuthSpec::new()
            .with_client("the-id", Some(value("canary-secret")))
            .with_issuer("https://as")
            .with_grant(OAuthGrant::ClientCredentials)
    );
    // The grant follows from what is given.
    assert_eq!(
        resolved(
            r#"{ "client_id": "${ID}", "private_key_file": "/keys/${ID}.pem", "algorithm": "RS256",
                 "metadata_url": "https://as/metadata" }"#
        )
        .await,
        client()
            .with_metadata_url("https://as/metadata")
            .with_grant(OAuthGrant::PrivateKeyJwt {
                key: SecretSource::File("/keys/the-id.pem".into()),
                algorithm: Some("RS256".to_owned()),
            })
    );
    assert_eq!(
        resolved(
            r#"{ "client_id": "${ID}", "id_token": "${SECRET}", "issuer": "https://as", "idp": { "issuer": "https://idp",
                 "token_endpoint": "https://idp/token", "client_id": "${ID}", "client_secret": "${SECRET}" } }"#
        )
        .await,
        client().with_issuer("https://as").with_grant(OAuthGrant::EnterpriseManaged {
            idp: IdentityProvider::new("https://idp", "https://idp/token", "the-id")
                .with_client_secret(value("canary-secret")),
            id_token: value("canary-secret"),
        })
    );
    assert_eq!(
        resolved(
            r#"{ "client_id": "x", "grant": "jwt-bearer", "assertion_file": "/run/token",
                 "issuer": "https://as" }"#
        )
        .await
        .grant,
        OAuthGrant::WorkloadIdentity {
            assertion: SecretSource::File("/run/token".into())
        }
    );
    for off in ["false", r#"{ "enabled": false }"#] {
        assert_eq!(resolved(off).await.grant, OAuthGrant::Off);
    }
}

#[tokio::test]
async fn a_files_relative_paths_begin_at_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mcp.json");
    fs::write(
        &path,
        r#"{ "mcpServers": { "a": { "url": "https://example.org", "oauth":
            { "client_id": "x", "assertion_file": "token.jwt", "issuer": "https://as" } } } }"#,
    )
    .unwrap();
    let loaded = Loader::new().with_file(&path).load().unwrap();
    let spec = loaded.servers[0].resolved().await.unwrap();
    let TransportSpec::Auto(http) = spec.transport else {
        panic!();
    };
    let assertion = SecretSource::File(folder.path().join(PathBuf::from("token.jwt")));
    assert_eq!(
        http.oauth.unwrap().grant,
        OAuthGrant::WorkloadIdentity { assertion }
    );
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    for (oauth, words) in [
        (
            r#"{ "grant": "client_credentials" }"#,
            "`client_credentials` needs `oauth.client_id` and `oauth.client_secret`",
        ),
        (
            r#"{ "client_id": "x", "idp": { "issuer": "https://idp" }, "id_token": "${T}", "issuer": "https://as" }"#,
            "needs `oauth.idp.token_endpoint`",
        ),
        (r#"{ "grant": "password" }"#, "`oauth.grant` cannot be"),
        (r#"{ "dpop": true }"#, "`oauth.dpop` must be"),
        (r#"{ "clientid": "x" }"#, "did you mean `client_id`?"),
    ] {
        let loaded = load(oauth);
        let text: String = loaded.problems.iter().map(|p| p.render()).collect();
        assert!(text.contains(words), "{oauth}: {text}");
        assert!(text.contains("mcp.json:1:"), "{oauth}: {text}");
    }
    // One set of credentials for every server of a file would go to each of them.
    let text = r#"{ "defaults": { "oauth": { "client_id": "x" } }, "mcpServers": {} }"#;
    let loaded = Loader::new().with_text("mcp.json", text).load().unwrap();
    assert!(
        loaded.problems[0]
            .message
            .contains("cannot stand in `defaults`")
    );
}

#[test]
fn what_is_secret_needs_an_issuer() {
    for (oauth, field) in [
        (
            r#"{ "client_id": "x", "client_secret": "${S}" }"#,
            "client_secret",
        ),
        (
            r#"{ "grant": "client_credentials", "client_id": "x", "client_secret": "${S}" }"#,
            "client_secret",
        ),
        (
            r#"{ "client_id": "x", "private_key": "${S}" }"#,
            "private_key",
        ),
        (
            r#"{ "client_id": "x", "private_key_file": "k" }"#,
            "private_key_file",
        ),
        (r#"{ "client_id": "x", "assertion": "${S}" }"#, "assertion"),
        (
            r#"{ "client_id": "x", "assertion_file": "a" }"#,
            "assertion_file",
        ),
        (
            r#"{ "client_id": "x", "id_token_file": "i", "idp": { "issuer": "https://idp",
                 "token_endpoint": "https://idp/t", "client_id": "c" } }"#,
            "id_token_file",
        ),
    ] {
        let loaded = load(oauth);
        assert_eq!(loaded.problems.len(), 1, "{oauth}");
        let problem = &loaded.problems[0];
        assert!(problem.is_error(), "{oauth}");
        assert_eq!(problem.server.as_deref(), Some("a"));
        let text = problem.render();
        let words = format!("`oauth.{field}` needs `oauth.issuer`");
        assert!(text.contains(&words), "{oauth}: {text}");
        assert!(text.contains("mcp.json:1:"), "{oauth}: {text}");
        // A server that cannot log in safely is not connected.
        assert!(loaded.servers.is_empty(), "{oauth}");
    }
    for oauth in [
        r#"{ "client_id": "x", "client_secret": "${S}", "issuer": "https://as" }"#,
        r#"{ "client_id": "x", "client_secret": "${S}", "metadata_url": "https://as/m" }"#,
        r#"{ "enabled": false, "client_secret": "${S}" }"#,
        r#"{ "client_id": "x" }"#,
    ] {
        let loaded = load(oauth);
        assert!(loaded.problems.is_empty(), "{oauth}: {:?}", loaded.problems);
    }
}

#[test]
fn credentials_over_plain_http_are_allowed_by_name() {
    let allowed = |field: &str| {
        let text =
            format!(r#"{{ "mcpServers": {{ "a": {{ "url": "http://10.0.0.1"{field} }} }} }}"#);
        let loaded = Loader::new().with_text("mcp.json", text).load().unwrap();
        match &loaded.servers[0].transport {
            TransportSpec::Auto(http) => http.allow_cleartext_credentials,
            other => panic!("{other:?}"),
        }
    };
    assert!(!allowed(""));
    assert!(!allowed(r#", "allow_cleartext_credentials": false"#));
    assert!(allowed(r#", "allow_cleartext_credentials": true"#));
}

#[test]
fn how_a_projects_file_logs_in_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mcp.json");
    let store = TrustStore::at(folder.path().join("trust.json"));
    for (oauth, words) in [
        (
            r#"{ "client_id": "x" }"#,
            "uses    your login at this address",
        ),
        (r#"{ "client_id": "${MINE}" }"#, "with your variable MINE"),
        (
            r#"{ "client_id": "x", "assertion_file": "~/.netrc", "issuer": "https://as" }"#,
            "login   assertion_file=~/.netrc",
        ),
        (
            r#"{ "client_id": "x", "assertion_file": "~/.netrc", "issuer": "https://as" }"#,
            "login   grant=workload_identity",
        ),
        (
            r#"{ "metadata_url": "https://evil.example/metadata" }"#,
            "login   metadata_url=https://evil.example/metadata",
        ),
    ] {
        fs::write(
            &path,
            format!(
                r#"{{ "mcpServers": {{ "a": {{ "url": "https://example.org", "oauth": {oauth} }} }} }}"#
            ),
        )
        .unwrap();
        let loaded = Loader::new().with_project_file(&path).load().unwrap();
        let Admission::Asked(requests) = store.admit(&loaded).unwrap() else {
            panic!("not asked about: {oauth}");
        };
        let lines = requests[0].actions[0].lines();
        assert!(lines.iter().any(|line| line.contains(words)), "{lines:#?}");
    }
}

#[test]
fn where_tokens_are_kept() {
    let kept = |text: &str| {
        let loaded = Loader::new().with_text("mcp.json", text).load().unwrap();
        (loaded.pool().credentials, loaded.problems.len())
    };
    assert_eq!(kept(r#"{ "mcpServers": {} }"#), (None, 0));
    assert_eq!(
        kept(r#"{ "mcpServers": {}, "credentials": "keyring" }"#),
        (Some(CredentialStore::Keyring), 0)
    );
    // A project has no say in it.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mcp.json");
    fs::write(&path, r#"{ "mcpServers": {}, "credentials": "keyring" }"#).unwrap();
    let credentials = |loader: Loader| loader.load().unwrap().pool().credentials;
    assert_eq!(credentials(Loader::new().with_project_file(&path)), None);
    assert!(credentials(Loader::new().with_user_file(&path)).is_some());
    assert_eq!(kept(r#"{ "mcpServers": {}, "credentials": "vault" }"#).1, 1);
}
