//! Mocks of the small traits, by mockall, for tests that check which calls are made.
//!
//! A new mock answers nothing; [`MockClient::healthy`] and [`MockClientFactory::healthy`] make
//! ones that can stand behind a manager, to which a test adds what it expects. To script a server
//! by its tools rather than by calls, take `mcpool_testkit::FakeClient`.
//!
//! ```
//! use mcpool_core::{Error, ErrorKind, Raw, Request, RequestOptions, Requester, mock::MockClient};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> mcpool_core::Result<()> {
//! let mut client = MockClient::healthy("files".parse()?);
//! client
//!     .expect_request()
//!     .withf(|request, _| request.method == "tools/call")
//!     .returning(|_, _| Err(Error::new(ErrorKind::Timeout, "no answer")));
//! let request = Request::new("tools/call");
//! let error = client.request(&request, &RequestOptions::new()).await.unwrap_err();
//! assert_eq!(error.kind(), ErrorKind::Timeout);
//! # Ok(()) }
//! ```
#![allow(missing_docs, reason = "mockall writes these methods")]

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use async_trait::async_trait;

use crate::{
    Client, ClientFactory, ClientSnapshot, CloseReason, ConnectOptions, ConnectRequest,
    ConnectionInfo, Connector, Error, Inbox, Limits, NoticeSender, Notices, Notification, PeerInfo,
    ProbeMethod, ProbeReport, ProtocolVersion, Raw, Request, RequestOptions, RequestSink,
    Requester, Result, RpcError, ServerCapabilities, ServerName, ServerRequest, ServerSpec,
    Transport, TransportKind, TransportMonitor, WireRequest,
};

type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

mockall::mock! {
    /// A mock of [`Client`], and so of [`Requester`].
    pub Client {}

    #[async_trait]
    impl Requester for Client {
        fn server(&self) -> &ServerName;
        fn info(&self) -> Option<Arc<ConnectionInfo>>;
        fn limits(&self) -> Limits;
        async fn request(&self, request: &Request, options: &RequestOptions) -> Result<Raw>;
        fn notices(&self) -> Notices;
    }

    impl Client for Client {
        fn snapshot(&self) -> ClientSnapshot;
        fn probe<'a, 'b>(&'a self, timeout: Duration) -> Pending<'b, Result<ProbeReport>>
        where 'a: 'b, Self: 'b;
        fn notify<'a, 'b, 'c>(&'a self, notification: &'b Notification) -> Pending<'c, Result<()>>
        where 'a: 'c, 'b: 'c, Self: 'c;
        fn closed<'a, 'b>(&'a self) -> Pending<'b, CloseReason> where 'a: 'b, Self: 'b;
        fn is_closed(&self) -> bool;
        fn close<'a, 'b>(&'a self) -> Pending<'b, ()> where 'a: 'b, Self: 'b;
        fn kill(&self);
    }
}

impl MockClient {
    /// A mock that stands behind a manager: connected over a transport of its own kind, alive,
    /// answering probes, with empty lists. Any other request is the test's to expect.
    #[must_use]
    pub fn healthy(server: ServerName) -> Self {
        let mut client = Self::new();
        let peer = PeerInfo::default().with_capabilities(ServerCapabilities::tools_only());
        let info = Arc::new(ConnectionInfo::new(
            server.clone(),
            TransportKind::Custom,
            ProtocolVersion::LATEST_WITH_INITIALIZE,
            peer,
        ));
        let notices = NoticeSender::new(16);
        client.expect_server().return_const(server);
        client
            .expect_info()
            .returning(move || Some(Arc::clone(&info)));
        client.expect_limits().returning(Limits::default);
        client
            .expect_notices()
            .returning(move || notices.subscribe());
        client.expect_snapshot().returning(ClientSnapshot::now);
        client.expect_is_closed().return_const(false);
        client
            .expect_closed()
            .returning(|| Box::pin(std::future::pending()));
        client.expect_close().returning(|| Box::pin(async {}));
        client.expect_kill().return_const(());
        client.expect_probe().returning(|_| {
            let report = ProbeReport::new(Duration::from_millis(1), ProbeMethod::Ping);
            Box::pin(async move { Ok(report) })
        });
        client
            .expect_request()
            .withf(|request, _| request.method == "tools/list")
            .returning(|_, _| Raw::from_text(r#"{"tools":[]}"#.to_owned()));
        client
    }
}

mockall::mock! {
    /// A mock of [`ClientFactory`].
    pub ClientFactory {}

    impl ClientFactory for ClientFactory {
        fn connect<'a, 'b, 'c, 'd>(&'a self, spec: &'b ServerSpec, options: &'c ConnectOptions) -> Pending<'d, Result<Arc<dyn Client>>>
        where 'a: 'd, 'b: 'd, 'c: 'd, Self: 'd;
        fn credentials_changed<'a, 'b, 'c>(&'a self, spec: &'b ServerSpec) -> Pending<'c, ()>
        where 'a: 'c, 'b: 'c, Self: 'c;
    }
}

impl MockClientFactory {
    /// A factory whose every connect gives a new client of this kind. It has no credentials.
    #[must_use]
    pub fn healthy(make: impl Fn(&ServerSpec) -> MockClient + Send + Sync + 'static) -> Self {
        let mut factory = Self::new();
        factory.expect_connect().returning(move |spec, _| {
            let client: Arc<dyn Client> = Arc::new(make(spec));
            Box::pin(async move { Ok(client) })
        });
        factory
            .expect_credentials_changed()
            .returning(|_| Box::pin(std::future::pending()));
        factory
    }
}

mockall::mock! {
    /// A mock of [`Connector`].
    #[derive(Debug)]
    pub Connector {}

    #[async_trait]
    impl Connector for Connector {
        fn kind(&self) -> TransportKind;
        async fn connect(&self, request: ConnectRequest) -> Result<Arc<dyn Transport>>;
    }
}

mockall::mock! {
    /// A mock of [`Transport`].
    #[derive(Debug)]
    pub Transport {}

    impl Transport for Transport {
        fn request<'a, 'b, 'c>(&'a self, request: WireRequest<'b>, sink: Option<Arc<dyn RequestSink>>) -> Pending<'c, Result<Raw>>
        where 'a: 'c, 'b: 'c, Self: 'c;
        fn notify<'a, 'b, 'c>(&'a self, notification: &'b Notification) -> Pending<'c, Result<()>>
        where 'a: 'c, 'b: 'c, Self: 'c;
        fn respond<'a, 'b, 'c>(&'a self, request: &'b ServerRequest, outcome: std::result::Result<Raw, RpcError>) -> Pending<'c, Result<()>>
        where 'a: 'c, 'b: 'c, Self: 'c;
        fn incoming(&self) -> Option<Inbox>;
        fn closed<'a, 'b>(&'a self) -> Pending<'b, Option<Error>> where 'a: 'b, Self: 'b;
        fn is_closed(&self) -> bool;
        fn close<'a, 'b>(&'a self) -> Pending<'b, Result<()>> where 'a: 'b, Self: 'b;
        fn monitor(&self) -> Arc<dyn TransportMonitor>;
    }
}
