//! The processes as a transport of rmcp.

use std::{collections::VecDeque, sync::Arc};

use futures::FutureExt;
use mcpool_core::{
    Error, ErrorKind, Message, Raw, RawObject, ResponseId, Result, RpcError, encode_notification,
    encode_response,
};
use mcpool_duplex::{Frame, Frames, Outgoing, ReadHalf, WriteHalf};
use rmcp::{
    RoleClient,
    service::{RxJsonRpcMessage, TxJsonRpcMessage},
    transport::Transport,
};

use crate::{
    halves::{Reader, Writer},
    monitor::StdioMonitor,
};

/// A server process as a transport of rmcp's own client: for a program that stays with rmcp and
/// wants processes that die.
///
/// What [this crate](crate) promises of processes holds: group, guardian, bounded close, stderr,
/// size limits. Ids, timeouts and cancelling are rmcp's. An answer that is over the limit or
/// cannot be read becomes an error of the code [`RpcError::INTERNAL`], so that its request does
/// not wait for ever.
///
/// Dropping it kills the server and all of its processes, with no runtime running as well.
///
/// ```no_run
/// use mcpool_core::{ConnectRequest, StdioSpec, TransportSpec};
/// use mcpool_stdio::StdioConnector;
/// use rmcp::ServiceExt;
///
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let spec = StdioSpec::new("mcp-server-filesystem").with_args(["."]);
/// let request = ConnectRequest::new("files".parse()?, TransportSpec::Stdio(spec));
/// let transport = StdioConnector::new().open_rmcp(request).await?;
/// let client = ().serve(transport).await?;
/// let tools = client.list_all_tools().await?;
/// client.cancel().await?;
/// # Ok(())
/// # }
/// ```
pub struct RmcpTransport {
    reader: Reader,
    writer: Arc<Writer>,
    monitor: Arc<StdioMonitor>,
    frames: Frames,
    ready: VecDeque<RxJsonRpcMessage<RoleClient>>,
    ended: bool,
}

impl RmcpTransport {
    pub(crate) fn new(reader: Reader, writer: Writer, monitor: Arc<StdioMonitor>) -> Self {
        Self {
            reader,
            writer: Arc::new(writer),
            monitor,
            frames: Frames::new(),
            ready: VecDeque::new(),
            ended: false,
        }
    }

    /// What is known of the process, also after its end.
    #[must_use]
    pub fn monitor(&self) -> Arc<StdioMonitor> {
        Arc::clone(&self.monitor)
    }

    async fn next(&mut self) -> Option<RxJsonRpcMessage<RoleClient>> {
        loop {
            if let Some(message) = self.ready.pop_front() {
                return Some(message);
            }
            if self.ended {
                return None;
            }
            // What is read stays in `frames` when this future is dropped.
            let read = self.reader.read(&mut self.frames).await;
            let frames: Vec<Frame> = self.frames.drain().collect();
            for frame in frames {
                self.accept(frame);
            }
            if let Err(reason) = read {
                self.ended = true;
                if !self.monitor.is_closing() {
                    tracing::debug!(
                        server = %self.monitor.server(),
                        transport = "stdio",
                        error = %reason,
                        "connection lost"
                    );
                    self.monitor.note_reason(reason);
                }
            }
        }
    }

    fn accept(&mut self, frame: Frame) {
        match frame {
            Frame::Message(message) => self.message(message),
            Frame::Unreadable { ids, reason } => {
                let error = |what: &str| {
                    RpcError::new(
                        RpcError::INTERNAL,
                        format!("{what} cannot be read: {reason}"),
                    )
                };
                for id in ids.answers {
                    self.answer(&id, error("the server's answer"));
                }
                for id in ids.requests {
                    self.refuse(&id, error("the request"));
                }
            }
            Frame::Oversized { ids, limit } => {
                let error = |what: &str| {
                    let message = format!("{what} is over the limit of {limit} bytes");
                    RpcError::new(RpcError::INTERNAL, message)
                };
                for id in ids.answers {
                    self.answer(&id, error("the server's answer"));
                }
                for id in ids.requests {
                    self.refuse(&id, error("the request"));
                }
            }
            Frame::Skipped { reason, .. } => {
                tracing::debug!(
                    server = %self.monitor.server(),
                    transport = "stdio",
                    reason,
                    "the server wrote a line that is not a message; it is skipped"
                );
            }
            _ => {}
        }
    }

    /// Gives a message to rmcp, in its own types.
    fn message(&mut self, message: Message) {
        let written = match &message {
            Message::Response { id, outcome } => {
                id_of(id).and_then(|id| encode_response(&id, outcome))
            }
            Message::Request(request) => {
                let mut object = RawObject::new();
                let method = Raw::of(&request.method);
                method.and_then(|method| {
                    object.insert("jsonrpc", Raw::of("2.0")?);
                    object.insert("id", request.id.clone());
                    object.insert("method", method);
                    if let Some(params) = &request.params {
                        object.insert("params", params.clone());
                    }
                    Ok(object.to_raw()?.get().to_owned())
                })
            }
            Message::Notification(notification) => encode_notification(notification),
            _ => return,
        };
        let parsed = written.and_then(|text| Raw::from_text(text)?.parse());
        match (parsed, message) {
            (Ok(message), _) => self.ready.push_back(message),
            (
                Err(error),
                Message::Response {
                    id: ResponseId::Ours(id),
                    outcome: Ok(_),
                },
            ) => {
                let message = format!("the server's answer is not valid: {error}");
                self.answer(&id, RpcError::new(RpcError::INTERNAL, message));
            }
            (Err(error), _) => tracing::debug!(
                server = %self.monitor.server(),
                transport = "stdio",
                %error,
                "a message of the server is not valid; it is skipped"
            ),
        }
    }

    /// Ends a request of ours, as if the server had answered with an error.
    fn answer(&mut self, id: &mcpool_core::RequestId, error: RpcError) {
        let answer = Raw::of(id)
            .and_then(|id| encode_response(&id, &Err(error)))
            .and_then(|text| Raw::from_text(text)?.parse());
        // An error object of ours is always one of rmcp's.
        self.ready.extend(answer);
    }

    /// Refuses a request of the server. Nobody waits for it.
    fn refuse(&self, id: &Raw, error: RpcError) {
        if let Ok(text) = encode_response(id, &Err(error)) {
            let writer = Arc::clone(&self.writer);
            tokio::spawn(async move { writer.write(Outgoing::new(text)).await.is_ok() });
        }
    }
}

fn id_of(id: &ResponseId) -> Result<Raw> {
    match id {
        ResponseId::Ours(id) => Raw::of(id),
        ResponseId::Foreign(raw) => Ok(raw.clone()),
        _ => Ok(Raw::null()),
    }
}

impl Transport<RoleClient> for RmcpTransport {
    type Error = Error;

    fn send(
        &mut self,
        item: TxJsonRpcMessage<RoleClient>,
    ) -> impl Future<Output = Result<()>> + Send + 'static {
        let writer = Arc::clone(&self.writer);
        let server = self.monitor.server().clone();
        let mut sending = Box::pin(async move {
            let text = serde_json::to_string(&item).map_err(|source| {
                Error::new(ErrorKind::InvalidArgument, "the message cannot be JSON")
                    .with_source(source)
            })?;
            let written = writer.write(Outgoing::new(text)).await;
            written.map_err(|failure| failure.error().clone().with_server(&server))
        });
        // Begun at once, so that messages keep the order in which rmcp gives them.
        let begun = (&mut sending).now_or_never();
        async move {
            match begun {
                Some(sent) => sent,
                None => sending.await,
            }
        }
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleClient>> {
        self.next().await
    }

    async fn close(&mut self) -> Result<()> {
        self.ended = true;
        let drained = async {
            // A server that is stuck in a write does not notice the end of its stdin.
            while self.reader.read(&mut self.frames).await.is_ok() {
                self.frames.drain().for_each(drop);
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            closed = self.writer.close() => closed.map_err(|error| {
                error
                    .with_server(self.monitor.server())
                    .with_operation("close")
            }),
            () = drained => Ok(()),
        }
    }
}

impl Drop for RmcpTransport {
    fn drop(&mut self) {
        self.writer.abandon();
    }
}

impl std::fmt::Debug for RmcpTransport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RmcpTransport")
            .field("monitor", &self.monitor)
            .finish_non_exhaustive()
    }
}
