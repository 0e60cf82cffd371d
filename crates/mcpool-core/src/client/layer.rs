//! Layers: what stands around the requests of a client or of a handle.
//!
//! A layer sees each request on its way down and each answer on its way up. Put around a factory
//! ([`LayeredFactory`]) it stands at one connection, below the manager's waiting and replay, and
//! sees each attempt. Put around a handle ([`Layered`]) it stands above them, and sees each
//! request once. The layer that was added last is the outermost. Sending a request again is never
//! a layer's business: it cannot know whether the request has run.
//!
//! ```
//! use std::time::Duration;
//! use async_trait::async_trait;
//! use mcpool_core::{ClientLayer, Next, Raw, Request, RequestOptions, Result};
//!
//! /// No request may take longer than this.
//! struct Cap(Duration);
//!
//! #[async_trait]
//! impl ClientLayer for Cap {
//!     async fn request(&self, request: &Request, options: &RequestOptions, next: Next<'_>) -> Result<Raw> {
//!         let cap = options.max_total.map_or(self.0, |total| total.min(self.0));
//!         next.request(request, &options.clone().with_max_total(cap)).await
//!     }
//! }
//! ```

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;

use crate::{
    Client, ClientFactory, ClientSnapshot, CloseReason, ConnectOptions, ConnectionInfo, Limits,
    Notices, Notification, ProbeReport, Raw, Request, RequestOptions, Requester, Result,
    ServerName, ServerSpec,
};

/// What stands around requests. Dropping the future of [`request`](Self::request) cancels what is
/// below; a layer must not go on without its caller.
#[async_trait]
pub trait ClientLayer: Send + Sync {
    /// Sends a request on, or does not.
    ///
    /// # Errors
    /// What `next` says, or the layer's own.
    async fn request(
        &self,
        request: &Request,
        options: &RequestOptions,
        next: Next<'_>,
    ) -> Result<Raw>;
}

impl fmt::Debug for dyn ClientLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientLayer")
    }
}

/// What is below a layer.
#[derive(Clone, Copy)]
pub struct Next<'a>(&'a dyn Requester);

impl Next<'_> {
    /// Sends a request on.
    ///
    /// # Errors
    /// As [`Requester::request`].
    pub async fn request(&self, request: &Request, options: &RequestOptions) -> Result<Raw> {
        self.0.request(request, options).await
    }

    /// The application's name for the server.
    #[must_use]
    pub fn server(&self) -> &ServerName {
        self.0.server()
    }

    /// What was agreed with the server.
    #[must_use]
    pub fn info(&self) -> Option<Arc<ConnectionInfo>> {
        self.0.info()
    }
}

impl fmt::Debug for Next<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Next").field(self.0.server()).finish()
    }
}

/// A requester, or a client, with a layer around its requests.
pub struct Layered<R, L> {
    inner: R,
    layer: L,
}

impl<R, L> Layered<R, L> {
    /// Puts a layer around.
    #[must_use]
    pub fn new(inner: R, layer: L) -> Self {
        Self { inner, layer }
    }
}

impl<R: fmt::Debug, L> fmt::Debug for Layered<R, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Layered").field(&self.inner).finish()
    }
}

#[async_trait]
impl<R: Requester, L: ClientLayer> Requester for Layered<R, L> {
    fn server(&self) -> &ServerName {
        self.inner.server()
    }

    fn info(&self) -> Option<Arc<ConnectionInfo>> {
        self.inner.info()
    }

    fn limits(&self) -> Limits {
        self.inner.limits()
    }

    async fn request(&self, request: &Request, options: &RequestOptions) -> Result<Raw> {
        self.layer
            .request(request, options, Next(&self.inner))
            .await
    }

    fn notices(&self) -> Notices {
        self.inner.notices()
    }
}

#[async_trait]
impl<R: Client, L: ClientLayer> Client for Layered<R, L> {
    fn snapshot(&self) -> ClientSnapshot {
        self.inner.snapshot()
    }

    async fn probe(&self, timeout: Duration) -> Result<ProbeReport> {
        self.inner.probe(timeout).await
    }

    async fn notify(&self, notification: &Notification) -> Result<()> {
        self.inner.notify(notification).await
    }

    async fn closed(&self) -> CloseReason {
        self.inner.closed().await
    }

    fn is_closed(&self) -> bool {
        self.inner.is_closed()
    }

    async fn close(&self) {
        self.inner.close().await;
    }

    fn kill(&self) {
        self.inner.kill();
    }
}

/// A factory whose clients all have a layer around their requests.
pub struct LayeredFactory<F> {
    inner: F,
    layer: Arc<dyn ClientLayer>,
}

impl<F> LayeredFactory<F> {
    /// Puts a layer around every client that the factory makes.
    #[must_use]
    pub fn new(inner: F, layer: Arc<dyn ClientLayer>) -> Self {
        Self { inner, layer }
    }
}

impl<F: fmt::Debug> fmt::Debug for LayeredFactory<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LayeredFactory").field(&self.inner).finish()
    }
}

#[async_trait]
impl<F: ClientFactory> ClientFactory for LayeredFactory<F> {
    async fn connect(
        &self,
        spec: &ServerSpec,
        options: &ConnectOptions,
    ) -> Result<Arc<dyn Client>> {
        let client = self.inner.connect(spec, options).await?;
        Ok(Arc::new(Layered::new(client, Arc::clone(&self.layer))))
    }

    async fn credentials_changed(&self, spec: &ServerSpec) {
        self.inner.credentials_changed(spec).await;
    }
}

#[async_trait]
impl<L: ClientLayer + ?Sized> ClientLayer for Arc<L> {
    async fn request(
        &self,
        request: &Request,
        options: &RequestOptions,
        next: Next<'_>,
    ) -> Result<Raw> {
        (**self).request(request, options, next).await
    }
}

#[async_trait]
impl<R: Requester + ?Sized> Requester for Arc<R> {
    fn server(&self) -> &ServerName {
        (**self).server()
    }

    fn info(&self) -> Option<Arc<ConnectionInfo>> {
        (**self).info()
    }

    fn limits(&self) -> Limits {
        (**self).limits()
    }

    async fn request(&self, request: &Request, options: &RequestOptions) -> Result<Raw> {
        (**self).request(request, options).await
    }

    fn notices(&self) -> Notices {
        (**self).notices()
    }
}

#[async_trait]
impl<C: Client + ?Sized> Client for Arc<C> {
    fn snapshot(&self) -> ClientSnapshot {
        (**self).snapshot()
    }

    async fn probe(&self, timeout: Duration) -> Result<ProbeReport> {
        (**self).probe(timeout).await
    }

    async fn notify(&self, notification: &Notification) -> Result<()> {
        (**self).notify(notification).await
    }

    async fn closed(&self) -> CloseReason {
        (**self).closed().await
    }

    fn is_closed(&self) -> bool {
        (**self).is_closed()
    }

    async fn close(&self) {
        (**self).close().await;
    }

    fn kill(&self) {
        (**self).kill();
    }
}

#[async_trait]
impl<F: ClientFactory + ?Sized> ClientFactory for Arc<F> {
    async fn connect(
        &self,
        spec: &ServerSpec,
        options: &ConnectOptions,
    ) -> Result<Arc<dyn Client>> {
        (**self).connect(spec, options).await
    }

    async fn credentials_changed(&self, spec: &ServerSpec) {
        (**self).credentials_changed(spec).await;
    }
}
