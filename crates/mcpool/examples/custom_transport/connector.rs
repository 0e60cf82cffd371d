//! A transport of one's own: MCP messages as lines over a Unix socket.
//!
//! The crate `mcpool-testkit` runs the contract suite of transports on this very file.

use std::{path::PathBuf, sync::Arc};

use async_trait::async_trait;
use mcpool_core::{ConnectRequest, Connector, Error, ErrorKind, Result, Transport, TransportKind};
use mcpool_duplex::{
    Duplex,
    lines::{LineReader, LineWriter},
};
use tokio::net::UnixStream;

/// Opens connections to one socket.
#[derive(Debug)]
pub(crate) struct UnixConnector(pub(crate) PathBuf);

#[async_trait]
impl Connector for UnixConnector {
    fn kind(&self) -> TransportKind {
        TransportKind::Custom
    }

    async fn connect(&self, request: ConnectRequest) -> Result<Arc<dyn Transport>> {
        let stream = UnixStream::connect(&self.0).await.map_err(|source| {
            Error::new(ErrorKind::Connect, "cannot connect to the socket").with_source(source)
        })?;
        let (read, write) = stream.into_split();
        let reader = LineReader::new(read, request.limits.max_message_bytes);
        let transport = Duplex::new(&request, self.kind(), reader, LineWriter::new(write))?;
        Ok(Arc::new(transport))
    }
}
