//! The texts of a spec that may hold placeholders: taken out, and put back filled in.

use std::path::PathBuf;

use mcpool_core::{
    HttpSpec, IdentityProvider, OAuthGrant, OAuthSpec, Secret, SecretSource, ServerSpec, StdioSpec,
    TransportSpec,
};

use crate::template::{Reference, Syntax, Template};

/// The texts of a spec, in the order of [`Walk`].
#[derive(Default)]
pub(super) struct Work {
    pub(super) fields: Vec<(String, Template)>,
}

impl Work {
    /// Takes the texts out.
    pub(super) fn collect(spec: &ServerSpec, env_file: Option<&str>) -> Self {
        let mut work = Self::default();
        let mut spec = spec.clone();
        Walk {
            each: &mut |field, text| {
                work.fields.push((field.to_owned(), template(text)));
                None
            },
            anchor: &|path| path,
        }
        .spec(&mut spec);
        if let Some(file) = env_file {
            work.fields.push(("env_file".to_owned(), template(file)));
        }
        work
    }

    pub(super) fn first_field_with(&self, reference: &Reference) -> Option<&str> {
        self.fields
            .iter()
            .find(|(_, template)| template.references().contains(reference))
            .map(|(field, _)| field.as_str())
    }

    /// Whether a field that says what runs or where something is sent asks for it.
    pub(super) fn decides_with(&self, reference: &Reference) -> bool {
        self.fields.iter().any(|(field, template)| {
            super::consent::decides(field) && template.references().contains(reference)
        })
    }

    /// Puts the values where the texts were; gives the path of the file of variables as well.
    pub(super) fn apply(
        &self,
        spec: &ServerSpec,
        values: Vec<String>,
        anchor: impl Fn(PathBuf) -> PathBuf,
    ) -> (ServerSpec, Option<String>) {
        let mut spec = spec.clone();
        let mut values = values.into_iter();
        Walk {
            each: &mut |_, _| values.next(),
            anchor: &anchor,
        }
        .spec(&mut spec);
        (spec, values.next())
    }
}

/// A text as a template; one that cannot be one stands for itself.
fn template(text: &str) -> Template {
    Template::parse(text, Syntax::native())
        .or_else(|_| Template::parse(text, Syntax::none()))
        .unwrap_or_else(|_| Template::literal(text))
}

/// Visits every text of a spec that may hold placeholders, always in the same order.
struct Walk<'a> {
    /// Gets a field and its text; gives the text that takes its place, if one does.
    each: &'a mut dyn FnMut(&str, &str) -> Option<String>,
    /// What becomes of a path that took another's place.
    anchor: &'a dyn Fn(PathBuf) -> PathBuf,
}

impl Walk<'_> {
    fn spec(mut self, spec: &mut ServerSpec) {
        match &mut spec.transport {
            TransportSpec::Stdio(stdio) => self.stdio(stdio),
            TransportSpec::Http(http) | TransportSpec::Sse(http) | TransportSpec::Auto(http) => {
                self.http(http);
            }
            _ => {}
        }
    }

    fn stdio(&mut self, stdio: &mut StdioSpec) {
        self.text("command", &mut stdio.command);
        for (index, arg) in stdio.args.iter_mut().enumerate() {
            self.text(&format!("args[{index}]"), arg);
        }
        for (name, value) in &mut stdio.env {
            self.secret(&format!("env.{name}"), value);
        }
        if let Some(cwd) = &mut stdio.cwd {
            self.path("cwd", cwd);
        }
    }

    fn http(&mut self, http: &mut HttpSpec) {
        self.text("url", &mut http.url);
        for (name, value) in &mut http.headers {
            self.secret(&format!("headers.{name}"), value);
        }
        if let Some(file) = &mut http.ca_file {
            self.path("ca_file", file);
        }
        self.optional("proxy", &mut http.proxy);
        if let Some(oauth) = &mut http.oauth {
            self.oauth(oauth);
        }
    }

    fn oauth(&mut self, oauth: &mut OAuthSpec) {
        self.optional("oauth.client_id", &mut oauth.client_id);
        if let Some(secret) = &mut oauth.client_secret {
            self.source("oauth.client_secret", secret);
        }
        self.optional("oauth.client_metadata_url", &mut oauth.client_metadata_url);
        for (index, scope) in oauth.scopes.iter_mut().enumerate() {
            self.text(&format!("oauth.scopes[{index}]"), scope);
        }
        self.optional("oauth.issuer", &mut oauth.issuer);
        self.optional("oauth.metadata_url", &mut oauth.metadata_url);
        self.optional("oauth.account", &mut oauth.account);
        match &mut oauth.grant {
            OAuthGrant::PrivateKeyJwt { key, .. } => self.source("oauth.private_key", key),
            OAuthGrant::EnterpriseManaged { idp, id_token } => {
                self.identity_provider(idp);
                self.source("oauth.id_token", id_token);
            }
            OAuthGrant::WorkloadIdentity { assertion } => self.source("oauth.assertion", assertion),
            _ => {}
        }
    }

    fn identity_provider(&mut self, idp: &mut IdentityProvider) {
        self.text("oauth.idp.issuer", &mut idp.issuer);
        self.text("oauth.idp.token_endpoint", &mut idp.token_endpoint);
        self.text("oauth.idp.client_id", &mut idp.client_id);
        if let Some(secret) = &mut idp.client_secret {
            self.source("oauth.idp.client_secret", secret);
        }
    }

    fn text(&mut self, field: &str, text: &mut String) {
        if let Some(value) = (self.each)(field, text) {
            *text = value;
        }
    }

    fn optional(&mut self, field: &str, text: &mut Option<String>) {
        if let Some(text) = text {
            self.text(field, text);
        }
    }

    fn secret(&mut self, field: &str, secret: &mut Secret) {
        if let Some(value) = (self.each)(field, secret.expose()) {
            *secret = Secret::new(value);
        }
    }

    fn path(&mut self, field: &str, path: &mut PathBuf) {
        if let Some(value) = (self.each)(field, &path.to_string_lossy()) {
            *path = (self.anchor)(PathBuf::from(value));
        }
    }

    fn source(&mut self, field: &str, source: &mut SecretSource) {
        match source {
            SecretSource::Value(secret) => self.secret(field, secret),
            SecretSource::File(path) => self.path(&format!("{field}_file"), path),
            _ => {}
        }
    }
}
