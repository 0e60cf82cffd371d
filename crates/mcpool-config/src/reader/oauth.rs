//! The field `oauth` of an HTTP server.

use super::entry::EntryReader;
use crate::{
    document::{Member, Node, Value},
    problem::{Problem, nearest},
    settings::{DpopName, GrantName, IdentityProviderSettings, OAuthSettings},
};

/// The native names of the fields.
const FIELDS: &[&str] = &[
    "enabled",
    "grant",
    "client_id",
    "client_secret",
    "client_metadata_url",
    "private_key",
    "private_key_file",
    "algorithm",
    "idp",
    "id_token",
    "id_token_file",
    "assertion",
    "assertion_file",
    "scopes",
    "callback_port",
    "issuer",
    "account",
    "dpop",
    "metadata_url",
];

/// Fields of hosts for what the server and its authorization server say themselves, and for the
/// host's own doings.
const FOUND_OUT: &[&str] = &[
    "audience",
    "audiences",
    "authorizationEndpoint",
    "authorizationUrl",
    "authorization_endpoint",
    "authorization_url",
    "clientName",
    "client_name",
    "code_challenge_methods_supported",
    "grant_types_supported",
    "provider",
    "providers",
    "redirectUri",
    "redirectUrl",
    "redirect_uri",
    "registrationUrl",
    "response_types_supported",
    "revocation_endpoint",
    "revocation_endpoint_auth_methods_supported",
    "skip_code_challenge_check",
    "tokenEndpoint",
    "tokenParamName",
    "tokenUrl",
    "token_endpoint",
    "token_endpoint_auth_methods_supported",
    "token_exchange_method",
    "token_url",
    "type",
];

const IDP_FIELDS: &[&str] = &["issuer", "token_endpoint", "client_id", "client_secret"];

const GRANTS: &[(&str, GrantName)] = &[
    ("authorization_code", GrantName::AuthorizationCode),
    ("client_credentials", GrantName::ClientCredentials),
    ("private_key_jwt", GrantName::PrivateKeyJwt),
    ("enterprise_managed", GrantName::EnterpriseManaged),
    ("workload_identity", GrantName::WorkloadIdentity),
    ("jwt_bearer", GrantName::WorkloadIdentity),
];

impl EntryReader<'_> {
    pub(super) fn oauth(&mut self, name: &str, node: &Node) {
        self.note_field("oauth", node);
        if let Value::Bool(enabled) = node.value {
            self.settings.oauth.get_or_insert_default().enabled = Some(enabled);
            return;
        }
        if !node.is_object() {
            self.wrong_type(name, node, "an object");
            return;
        }
        self.duplicates(node);
        let mut oauth = OAuthSettings::default();
        for member in node.members() {
            self.oauth_field(&mut oauth, name, member);
        }
        let missing = oauth.missing_fields();
        if oauth.enabled != Some(false) && !missing.is_empty() {
            let grant = oauth.effective_grant().as_str();
            let fields: Vec<String> = missing
                .iter()
                .map(|field| format!("`{name}.{field}`"))
                .collect();
            self.problem(
                Problem::error(
                    "missing-field",
                    format!("the grant `{grant}` needs {}", fields.join(" and ")),
                ),
                &node.range,
            );
        }
        if let Some(field) = oauth.unbound_field() {
            let place = self.range_of(&format!("oauth.{field}"));
            self.problem(
                Problem::error(
                    "missing-issuer",
                    format!("`{name}.{field}` needs `{name}.issuer`: whose it is"),
                )
                .label("for which authorization server?")
                .help(
                    "without `issuer` (or `metadata_url`) the server could have it sent to any \
                     authorization server that it names",
                ),
                &place.unwrap_or_else(|| node.range.clone()),
            );
        }
        self.settings.oauth = Some(oauth);
    }

    fn oauth_field(&mut self, oauth: &mut OAuthSettings, name: &str, member: &Member) {
        let value = &member.value;
        let path = format!("{name}.{}", member.key);
        match member.key.as_str() {
            "enabled" => oauth.enabled = self.boolean(&path, value),
            "grant" | "grant_type" | "grantType" => oauth.grant = self.word(&path, value, GRANTS),
            "client_id" | "clientId" | "CLIENT_ID" => {
                oauth.client_id = self.oauth_text("client_id", &path, value);
            }
            "client_secret" | "clientSecret" | "CLIENT_SECRET" => {
                oauth.client_secret = self.oauth_secret("client_secret", value);
            }
            "client_metadata_url" | "clientMetadataUrl" => {
                self.hide_credentials(value);
                oauth.client_metadata_url = self.oauth_text("client_metadata_url", &path, value);
            }
            "private_key" | "privateKey" => {
                oauth.private_key = self.oauth_secret("private_key", value);
            }
            "private_key_file" | "privateKeyFile" => {
                oauth.private_key_file = self.oauth_text("private_key_file", &path, value);
            }
            "algorithm" => oauth.algorithm = self.text(&path, value),
            "idp" => oauth.idp = self.identity_provider(&path, value),
            "id_token" | "idToken" => oauth.id_token = self.oauth_secret("id_token", value),
            "id_token_file" | "idTokenFile" => {
                oauth.id_token_file = self.oauth_text("id_token_file", &path, value);
            }
            "assertion" => oauth.assertion = self.oauth_secret("assertion", value),
            "assertion_file" | "assertionFile" => {
                oauth.assertion_file = self.oauth_text("assertion_file", &path, value);
            }
            "scopes" | "scope" => oauth.scopes = self.words(&path, value).unwrap_or_default(),
            "callback_port" | "callbackPort" | "redirect_port" => {
                oauth.callback_port = self
                    .whole(&path, value, 1, 65_535)
                    .and_then(|port| u16::try_from(port).ok());
            }
            "issuer" => {
                self.hide_credentials(value);
                oauth.issuer = self.oauth_text("issuer", &path, value);
            }
            "account" => oauth.account = self.oauth_text("account", &path, value),
            "dpop" => {
                let known = [
                    ("auto", DpopName::Auto),
                    ("always", DpopName::Always),
                    ("never", DpopName::Never),
                ];
                oauth.dpop = self.word(&path, value, &known);
            }
            "metadata_url" | "authServerMetadataUrl" | "metadataUrl" => {
                self.hide_credentials(value);
                oauth.metadata_url = self.oauth_text("metadata_url", &path, value);
            }
            _ => self.unknown_oauth_field(&path, member, FIELDS),
        }
    }

    fn oauth_text(&mut self, field: &str, path: &str, node: &Node) -> Option<String> {
        let field = format!("oauth.{field}");
        self.note_field(&field, node);
        self.template(&field, path, node)
    }

    fn oauth_secret(&mut self, field: &str, node: &Node) -> Option<String> {
        self.hide(node);
        let path = format!("oauth.{field}");
        self.note_field(&path, node);
        self.secret_template(&path, field, node)
    }

    fn identity_provider(&mut self, name: &str, node: &Node) -> Option<IdentityProviderSettings> {
        if !node.is_object() {
            self.wrong_type(name, node, "an object");
            return None;
        }
        self.duplicates(node);
        let mut idp = IdentityProviderSettings::default();
        for member in node.members() {
            let value = &member.value;
            self.hide_credentials(value);
            let path = format!("{name}.{}", member.key);
            match member.key.as_str() {
                "issuer" => {
                    idp.issuer = self
                        .oauth_text("idp.issuer", &path, value)
                        .unwrap_or_default();
                }
                "token_endpoint" | "tokenEndpoint" => {
                    idp.token_endpoint = self
                        .oauth_text("idp.token_endpoint", &path, value)
                        .unwrap_or_default();
                }
                "client_id" | "clientId" => {
                    idp.client_id = self
                        .oauth_text("idp.client_id", &path, value)
                        .unwrap_or_default();
                }
                "client_secret" | "clientSecret" => {
                    idp.client_secret = self.oauth_secret("idp.client_secret", value);
                }
                _ => self.unknown_oauth_field(&path, member, IDP_FIELDS),
            }
        }
        for (field, text) in [
            ("issuer", &idp.issuer),
            ("token_endpoint", &idp.token_endpoint),
            ("client_id", &idp.client_id),
        ] {
            if text.is_empty() {
                let problem =
                    Problem::error("missing-field", format!("`{name}` needs `{name}.{field}`"));
                self.problem(problem, &node.range);
            }
        }
        Some(idp)
    }

    fn unknown_oauth_field(&mut self, path: &str, member: &Member, known: &[&str]) {
        self.hide(&member.value);
        // Hosts say more of what mcpool finds out by itself.
        if !self.rules.strict && FOUND_OUT.contains(&member.key.as_str()) {
            return;
        }
        let mut problem =
            Problem::warning("unknown-field", format!("unknown field `{path}`")).label("ignored");
        if let Some(near) = nearest(&member.key, known.iter().copied()) {
            problem = problem.help(format!("did you mean `{near}`?"));
        }
        self.problem(problem, &member.key_range);
    }
}
