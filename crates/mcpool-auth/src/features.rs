//! What a build may leave out, and the error for a spec that asks for it.

use mcpool_core::{DpopChoice, Error, ErrorKind, OAuthGrant, OAuthSpec, Result};

/// Something that a Cargo feature brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Feature {
    /// What the spec asks for.
    what: &'static str,
    name: &'static str,
    is_on: bool,
}

pub(crate) const DPOP: Feature = Feature {
    what: "tokens that are bound to a key (DPoP)",
    name: "dpop",
    is_on: cfg!(feature = "dpop"),
};

const PRIVATE_KEY_JWT: Feature = Feature {
    what: "the grant private_key_jwt",
    name: "private-key-jwt",
    is_on: cfg!(feature = "private-key-jwt"),
};

const ENTERPRISE: Feature = Feature {
    what: "the grant enterprise_managed",
    name: "enterprise",
    is_on: cfg!(feature = "enterprise"),
};

/// Refuses a spec that needs what this build has left out.
///
/// # Errors
/// [`InvalidSpec`](ErrorKind::InvalidSpec), which names the feature.
pub(crate) fn check(spec: &OAuthSpec) -> Result<()> {
    match needed(spec).find(|feature| !feature.is_on) {
        Some(feature) => Err(left_out(feature)),
        None => Ok(()),
    }
}

/// The features that a spec cannot do without.
fn needed(spec: &OAuthSpec) -> impl Iterator<Item = Feature> {
    let grant = match spec.grant {
        OAuthGrant::PrivateKeyJwt { .. } => Some(PRIVATE_KEY_JWT),
        OAuthGrant::EnterpriseManaged { .. } => Some(ENTERPRISE),
        _ => None,
    };
    let dpop = (spec.dpop == DpopChoice::Always).then_some(DPOP);
    grant.into_iter().chain(dpop)
}

/// The error for what this build has left out.
pub(crate) fn left_out(Feature { what, name, .. }: Feature) -> Error {
    Error::new(
        ErrorKind::InvalidSpec,
        format!("this program was built without {what}: build it with the feature `{name}`"),
    )
}

#[cfg(test)]
mod tests {
    use mcpool_core::SecretSource;

    use super::*;

    #[test]
    fn a_spec_needs_what_it_asks_for() {
        let names = |spec: &OAuthSpec| needed(spec).map(|f| f.name).collect::<Vec<_>>();
        let mut spec = OAuthSpec::default();
        assert_eq!(names(&spec), [""; 0]);
        assert!(check(&spec).is_ok());
        spec.dpop = DpopChoice::Always;
        spec.grant = OAuthGrant::PrivateKeyJwt {
            key: SecretSource::Value("pem".into()),
            algorithm: None,
        };
        assert_eq!(names(&spec), ["private-key-jwt", "dpop"]);
        assert_eq!(check(&spec).is_ok(), PRIVATE_KEY_JWT.is_on && DPOP.is_on);
    }

    #[test]
    fn the_error_names_the_feature() {
        let error = left_out(ENTERPRISE);
        assert_eq!(error.kind(), ErrorKind::InvalidSpec);
        assert!(
            error.message().contains("the feature `enterprise`"),
            "{error}"
        );
    }
}
