//! Traces of the gateway, exported over OTLP/HTTP.

use std::{fmt, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use mcpool_core::{Error, ErrorKind, Result};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};
use reqwest::{Client, Url};
use tokio::runtime::Handle;

use crate::https;

/// How long an export may take.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the last export may take.
const LAST_EXPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes of a collector's answer that are read.
const MAX_ANSWER: usize = 64 * 1024;

/// The path of traces at a collector (OTLP, "OTLP/HTTP Request").
const PATH: &str = "v1/traces";

/// The variable that names the service, before what is said here.
const SERVICE_NAME: &str = "OTEL_SERVICE_NAME";

/// Exports a span for each request that a server is to answer: the child of the span that the client
/// names, and the parent of what the server makes of it.
///
/// Spans are recorded by OpenTelemetry's global tracer. A program that has set up its own has no need
/// of this: spans of the gateway go where its own go. The variables that OpenTelemetry specifies for
/// samplers, batches, headers, the service and its attributes are read. Spans that wait to be exported
/// are bounded (2048, `OTEL_BSP_MAX_QUEUE_SIZE`); what is too much is dropped.
///
/// Dropping it exports what waits, for as long as the runtime runs; [`shutdown`](Self::shutdown) waits
/// for that.
#[must_use]
pub struct Traces(SdkTracerProvider);

impl Traces {
    /// Begins to export to a collector, by the base URL of its OTLP/HTTP receiver, such as
    /// `http://127.0.0.1:4318`. In a runtime of tokio, which has to run for as long as spans are
    /// exported.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for what is no URL of HTTP.
    pub fn export_to(collector: &str) -> Result<Self> {
        let refused = || {
            let why = "it must be an http or https URL";
            Error::new(ErrorKind::InvalidArgument, why)
        };
        let mut url = Url::parse(collector).map_err(|_| refused())?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(refused());
        }
        let base = url.path().trim_end_matches('/').to_owned();
        if !base.ends_with(PATH) {
            url.set_path(&format!("{base}/{PATH}"));
        }
        let failed = |error: &dyn fmt::Display| Error::new(ErrorKind::Internal, error.to_string());
        let sender = Sender {
            client: https::client(EXPORT_TIMEOUT)?,
            runtime: Handle::try_current().map_err(|error| failed(&error))?,
        };
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(sender)
            .with_endpoint(url.as_str())
            .with_timeout(EXPORT_TIMEOUT)
            .build()
            .map_err(|error| failed(&error))?;
        let mut resource = Resource::builder();
        if std::env::var_os(SERVICE_NAME).is_none() {
            resource = resource.with_service_name("mcpool");
        }
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource.build())
            .build();
        opentelemetry::global::set_tracer_provider(provider.clone());
        Ok(Self(provider))
    }

    /// Exports what waits, for at most 5 s, and records no more. Dropping the future leaves that to
    /// itself.
    pub async fn shutdown(self) {
        let ended =
            tokio::task::spawn_blocking(move || self.0.shutdown_with_timeout(LAST_EXPORT_TIMEOUT));
        if let Ok(Err(error)) = ended.await {
            tracing::warn!(%error, "the last spans were not exported");
        }
    }
}

impl fmt::Debug for Traces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Traces").finish_non_exhaustive()
    }
}

/// Sends for the exporter, whose thread has no runtime.
#[derive(Debug)]
struct Sender {
    client: Client,
    runtime: Handle,
}

#[async_trait]
impl HttpClient for Sender {
    async fn send_bytes(
        &self,
        request: Request<Bytes>,
    ) -> std::result::Result<Response<Bytes>, HttpError> {
        let request = reqwest::Request::try_from(request)?;
        let client = self.client.clone();
        self.runtime
            .spawn(async move { exchanged(&client, request).await })
            .await?
    }
}

async fn exchanged(
    client: &Client,
    request: reqwest::Request,
) -> std::result::Result<Response<Bytes>, HttpError> {
    let mut response = client
        .execute(request)
        .await
        .map_err(reqwest::Error::without_url)?;
    let mut answer = Response::builder().status(response.status());
    if let Some(headers) = answer.headers_mut() {
        headers.clone_from(response.headers());
    }
    let mut body = Vec::new();
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(reqwest::Error::without_url)?
    {
        if body.len() + chunk.len() > MAX_ANSWER {
            return Err("the answer of the collector is too long".into());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(answer.body(body.into())?)
}
