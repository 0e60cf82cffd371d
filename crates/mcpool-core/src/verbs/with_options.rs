//! A requester with options of its own.

use std::sync::Arc;

use async_trait::async_trait;

use crate::{
    ConnectionInfo, Limits, Notices, Raw, Request, RequestOptions, Requester, Result, ServerName,
};

/// A requester whose requests all have these options: see
/// [`Verbs::with_options`](super::Verbs::with_options).
#[derive(Debug)]
pub struct WithOptions<'a, R: ?Sized> {
    inner: &'a R,
    options: &'a RequestOptions,
}

impl<'a, R: ?Sized> WithOptions<'a, R> {
    pub(super) fn new(inner: &'a R, options: &'a RequestOptions) -> Self {
        Self { inner, options }
    }
}

#[async_trait]
impl<R: Requester + ?Sized> Requester for WithOptions<'_, R> {
    fn server(&self) -> &ServerName {
        self.inner.server()
    }

    fn info(&self) -> Option<Arc<ConnectionInfo>> {
        self.inner.info()
    }

    fn limits(&self) -> Limits {
        self.inner.limits()
    }

    /// Of an option that both say, the request's own counts.
    async fn request(&self, request: &Request, options: &RequestOptions) -> Result<Raw> {
        let merged = options.over(self.options);
        self.inner.request(request, &merged).await
    }

    fn notices(&self) -> Notices {
        self.inner.notices()
    }
}
