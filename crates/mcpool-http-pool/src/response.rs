use http::{HeaderMap, StatusCode, Version};

/// An answer of which the head has come. [`read_capped`](crate::read_capped),
/// [`read_refusal`](crate::read_refusal), [`drain`](crate::drain) and [`Events`](crate::Events)
/// read its body. Dropping it closes its connection, unless the body was read to its end.
#[derive(Debug)]
pub struct Response(pub(crate) reqwest::Response);

impl Response {
    /// The status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.0.status()
    }

    /// The version of HTTP that it came in.
    #[must_use]
    pub fn version(&self) -> Version {
        self.0.version()
    }

    /// The headers.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        self.0.headers()
    }

    /// How long the body is, in bytes, where the head says it.
    #[must_use]
    pub fn content_length(&self) -> Option<u64> {
        self.0.content_length()
    }
}

#[cfg(test)]
impl From<http::Response<reqwest::Body>> for Response {
    fn from(response: http::Response<reqwest::Body>) -> Self {
        Self(response.into())
    }
}
