//! Where a request was sent. The router may stand inside of another one, under a path that the
//! handlers do not see, but that tokens and metadata name.

use std::convert::Infallible;

use axum::{
    extract::{FromRequestParts, OriginalUri},
    http::request::Parts,
};

/// The path of a request as its client sent it, in two parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// What the router stands under: nothing, or a path such as `/tools`.
    pub(super) under: String,
    /// The path inside of the router.
    pub(super) path: String,
}

impl Place {
    /// Another path of the same router.
    pub(super) fn at(self, path: &str) -> Self {
        let path = path.to_owned();
        Self { path, ..self }
    }

    /// The whole path.
    pub(super) fn whole(&self) -> String {
        format!("{}{}", self.under, self.path)
    }
}

impl<S: Sync> FromRequestParts<S> for Place {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let path = parts.uri.path();
        // Nesting takes the front of a path away.
        let original = parts.extensions.get::<OriginalUri>();
        let under = original.and_then(|OriginalUri(uri)| uri.path().strip_suffix(path));
        Ok(Self {
            under: under.unwrap_or_default().to_owned(),
            path: path.to_owned(),
        })
    }
}
