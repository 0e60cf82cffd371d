//! Which authorization server may be asked: the configured one, else the one that the login was
//! made at (MCP 2026-07-28, client registration, "Authorization Server Binding").

use mcpool_core::{Error, OAuthSpec};
use url::{Origin, Url};

use crate::{error::refused, shown::shorten};

/// Whom a server's credentials are bound to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Binding {
    /// Nobody yet: the first login binds.
    #[default]
    None,
    /// The issuer of the settings.
    Issuer(String),
    /// Anybody who has the metadata at the configured place: an issuer of this origin.
    Origin(Origin),
    /// The issuer of the login that there is.
    Login(String),
}

/// A server names another authorization server than the one that its credentials are bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OtherIssuer {
    pub(crate) found: String,
    pub(crate) bound: String,
    /// Whether a login bound them, and not the settings.
    pub(crate) by_login: bool,
}

impl Binding {
    /// What the settings say.
    pub(crate) fn configured(spec: &OAuthSpec) -> Self {
        let set = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        match (set(&spec.issuer), set(&spec.metadata_url)) {
            (Some(issuer), _) => Self::Issuer(issuer),
            (None, Some(url)) => match Url::parse(&url) {
                Ok(url) => Self::Origin(url.origin()),
                // An origin that no issuer has.
                Err(_) => Self::Origin(Origin::new_opaque()),
            },
            (None, None) => Self::None,
        }
    }

    /// The same, or what a login bound where the settings say nothing.
    pub(crate) fn or_login(&self, issuer: Option<&str>) -> Self {
        match (self, issuer) {
            (Self::None, Some(issuer)) => Self::Login(issuer.to_owned()),
            (binding, _) => binding.clone(),
        }
    }

    /// Whether credentials may go to this issuer.
    pub(crate) fn accepts(&self, issuer: &str) -> bool {
        match self {
            Self::None => true,
            Self::Issuer(bound) | Self::Login(bound) => is_same(bound, issuer),
            Self::Origin(origin) => {
                Url::parse(issuer).is_ok_and(|issuer| issuer.origin() == *origin)
            }
        }
    }

    /// # Errors
    /// When credentials may not go to this issuer.
    pub(crate) fn check(&self, issuer: &str) -> Result<(), OtherIssuer> {
        match self.accepts(issuer) {
            true => Ok(()),
            false => Err(self.other(issuer)),
        }
    }

    /// Of the authorization servers that a server lists, the ones that may be asked: the bound
    /// one only, so that no other is even asked for its metadata.
    ///
    /// # Errors
    /// When the bound one is not among them.
    pub(crate) fn choose(&self, listed: &[String]) -> Result<Vec<String>, OtherIssuer> {
        let chosen: Vec<String> = listed
            .iter()
            .filter(|listed| self.accepts(listed) || self.has_metadata_at(listed))
            .cloned()
            .collect();
        match (chosen.is_empty(), listed.first()) {
            (true, Some(first)) => Err(self.other(first)),
            _ => Ok(chosen),
        }
    }

    /// Some servers list the place of the metadata in the place of the issuer (RFC 8414, section
    /// 3.1 has its form).
    fn has_metadata_at(&self, url: &str) -> bool {
        let (Self::Issuer(bound) | Self::Login(bound)) = self else {
            return false;
        };
        let (Ok(bound), Ok(url)) = (Url::parse(bound), Url::parse(url)) else {
            return false;
        };
        let tenant = bound.path().trim_end_matches('/');
        bound.origin() == url.origin()
            && ["oauth-authorization-server", "openid-configuration"]
                .iter()
                .any(|name| {
                    url.path() == format!("/.well-known/{name}{tenant}")
                        || url.path() == format!("{tenant}/.well-known/{name}")
                })
    }

    fn other(&self, found: &str) -> OtherIssuer {
        OtherIssuer {
            found: found.to_owned(),
            bound: match self {
                Self::None => String::new(),
                Self::Issuer(bound) | Self::Login(bound) => bound.clone(),
                Self::Origin(origin) => origin.ascii_serialization(),
            },
            by_login: matches!(self, Self::Login(_)),
        }
    }
}

impl From<OtherIssuer> for Error {
    fn from(change: OtherIssuer) -> Self {
        let (found, bound) = (shorten(&change.found), shorten(&change.bound));
        refused(match change.by_login {
            true => format!(
                "refused for safety: the server names {found} as its authorization server, but \
                 the login was made at {bound}; if that is right, log out first, and then log in"
            ),
            false => format!(
                "refused for safety: the server names {found} as its authorization server, but \
                 {bound} is configured"
            ),
        })
    }
}

/// Whether two issuers are one. A slash at the end, which people leave out, makes no other.
fn is_same(one: &str, other: &str) -> bool {
    let bare = |issuer: &str| issuer.strip_suffix('/').unwrap_or(issuer).to_owned();
    bare(one) == bare(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(issuers: &[&str]) -> Vec<String> {
        issuers.iter().map(|&issuer| issuer.to_owned()).collect()
    }

    #[test]
    fn the_settings_come_before_a_login() {
        let spec = OAuthSpec::new();
        let none = Binding::configured(&spec);
        assert_eq!(none, Binding::None);
        assert!(none.accepts("https://any.example"));
        let login = none.or_login(Some("https://as.example"));
        assert!(login.accepts("https://as.example"));
        assert!(!login.accepts("https://evil.example"));
        let issuer = Binding::configured(&spec.clone().with_issuer("https://pinned.example/"));
        assert_eq!(issuer.or_login(Some("https://as.example")), issuer);
        assert!(issuer.accepts("https://pinned.example"));
        assert!(!issuer.accepts("https://pinned.example/tenant"));
        assert!(!issuer.accepts("http://pinned.example"));
        let place = Binding::configured(&spec.with_metadata_url("https://as.example/x/metadata"));
        assert!(place.accepts("https://as.example/tenant"));
        assert!(!place.accepts("https://as.example.evil.example"));
        let broken = Binding::configured(&OAuthSpec::new().with_metadata_url("no url"));
        assert!(!broken.accepts("no url"));
    }

    #[test]
    fn of_a_list_only_the_bound_one_is_asked() {
        let bound = Binding::Issuer("https://as.example/t".to_owned());
        let listed = list(&["https://evil.example", "https://as.example/t"]);
        assert_eq!(bound.choose(&listed).unwrap(), ["https://as.example/t"]);
        assert_eq!(Binding::None.choose(&listed).unwrap(), listed);
        for place in [
            "https://as.example/.well-known/oauth-authorization-server/t",
            "https://as.example/t/.well-known/openid-configuration",
        ] {
            assert_eq!(bound.choose(&list(&[place])).unwrap(), [place]);
        }
        for listed in [
            "https://as.example/other/.well-known/openid-configuration",
            "https://evil.example/.well-known/oauth-authorization-server/t",
            "https://as.example",
        ] {
            let other = bound.choose(&list(&[listed])).unwrap_err();
            assert_eq!(other.found, listed);
            assert_eq!(other.bound, "https://as.example/t");
        }
        assert_eq!(bound.choose(&[]).unwrap(), list(&[]));
    }

    #[test]
    fn both_are_named_and_cleaned() {
        let other = Binding::None
            .or_login(Some("https://as.example"))
            .check("https://evil.example/\u{1b}]52;c;x\u{7}")
            .unwrap_err();
        let text = Error::from(other).to_string();
        assert!(text.contains("https://as.example;"), "{text}");
        assert!(text.contains("https://evil.example/"), "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
    }
}
