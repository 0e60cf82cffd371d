//! The scripted transport and its connector.

use std::{
    collections::HashMap,
    fmt,
    future::Future,
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures::{FutureExt, future::BoxFuture};
use mcpool_client::StandardFactory;
use mcpool_core::{
    ConnectRequest, Connector, Delivery, Diagnostics, Error, ErrorKind, Inbox, InboxSender,
    Message, Notification, ParsedLine, Progress, Raw, RequestClass, RequestId, RequestSink,
    ResponseId, Result, RpcError, ServerRequest, StderrLine, Transport, TransportKind,
    TransportMonitor, WireRequest, encode, encode_notification, encode_response, parse_line,
};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot, watch};

/// The server's end of one connection. Requests of the client have a member `wire` that says what
/// stands beside their text: the version, the name, the headers, the class.
pub struct ServerEnd {
    /// Which connection it is, from 1.
    pub nth: usize,
    /// Whether it was to use no idle socket.
    pub fresh: bool,
    from_client: mpsc::UnboundedReceiver<Value>,
    shared: Arc<Shared>,
}

impl ServerEnd {
    /// The next message of the client; `None` when it has gone.
    pub async fn recv(&mut self) -> Option<Value> {
        self.from_client.recv().await
    }

    pub fn send(&self, message: Value) {
        self.send_text(&message.to_string());
    }

    pub fn send_text(&self, text: &str) {
        self.shared.receive(text);
    }

    /// Answers a request with an error of the transport's.
    pub fn fail(&self, request: &Value, error: Error) {
        let id = request["id"].as_u64().unwrap();
        self.shared.conclude(id, Err(error));
    }

    /// Asks the client in the course of one of its requests, as a stream of its own says.
    pub fn ask_during(&self, request: &Value, id: u64, method: &str, params: Value) {
        let related = request["id"].as_u64().map(RequestId::new);
        let params = Raw::of(&params).unwrap();
        let question = ServerRequest::new(Raw::of(&id).unwrap(), method, Some(params));
        let question = question.with_related(related);
        self.shared.inbox.request(question).unwrap();
    }

    /// A new session was begun.
    pub fn renew(&self) {
        self.shared.inbox.session_renewed();
    }

    /// Makes the writes of the client hang from here on, as a full pipe does.
    pub fn stop_reading(&self) {
        self.shared.stuck.send_replace(true);
    }

    /// Says on stderr.
    pub fn stderr(&self, line: &str) {
        let mut diagnostics = self.shared.diagnostics.lock().unwrap();
        diagnostics.stderr_tail.push(StderrLine::now(line));
    }

    /// Writes to stdout what is not a message.
    pub fn stdout(&self, line: &str) {
        let mut diagnostics = self.shared.diagnostics.lock().unwrap();
        diagnostics.skipped_lines += 1;
        diagnostics.skipped_samples.push(line.to_owned());
    }

    /// How the process will have ended.
    pub fn exit_status(&self, status: &str) {
        let mut diagnostics = self.shared.diagnostics.lock().unwrap();
        diagnostics.exit_status = Some(status.to_owned());
    }
}

type Script = Arc<dyn Fn(ServerEnd) -> BoxFuture<'static, ()> + Send + Sync>;
type Hook = Arc<dyn Fn(usize, &Value) -> Option<Error> + Send + Sync>;

/// Opens connections to a script.
pub struct Scripted {
    kind: TransportKind,
    script: Script,
    hook: Option<Hook>,
    close_takes: Duration,
    knows_streams: bool,
    pub opened: Arc<AtomicUsize>,
    pub living: Arc<AtomicUsize>,
    pub orderly: Arc<AtomicUsize>,
}

impl Scripted {
    pub fn new<F, Fut>(kind: TransportKind, script: F) -> Self
    where
        F: Fn(ServerEnd) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        Self {
            kind,
            script: Arc::new(move |end| script(end).boxed()),
            hook: None,
            close_takes: Duration::ZERO,
            knows_streams: true,
            opened: Arc::default(),
            living: Arc::default(),
            orderly: Arc::default(),
        }
    }

    pub fn stdio<F, Fut>(script: F) -> Self
    where
        F: Fn(ServerEnd) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        Self::new(TransportKind::Stdio, script)
    }

    /// Fails the requests for which `hook` gives an error, as a refusing HTTP server does.
    pub fn refusing(
        mut self,
        hook: impl Fn(usize, &Value) -> Option<Error> + Send + Sync + 'static,
    ) -> Self {
        self.hook = Some(Arc::new(hook));
        self
    }

    /// Makes an orderly close take so long.
    pub fn close_takes(mut self, pause: Duration) -> Self {
        self.close_takes = pause;
        self
    }

    /// Hands what belongs to a listen stream over like anything else.
    pub fn ignorant_of_streams(mut self) -> Self {
        self.knows_streams = false;
        self
    }

    pub fn factory(self) -> (StandardFactory, Arc<Self>) {
        let connector = Arc::new(self);
        let factory = StandardFactory::new().with_connector(Arc::clone(&connector) as _);
        (factory, connector)
    }

    pub fn opened(&self) -> usize {
        self.opened.load(Ordering::SeqCst)
    }

    pub fn living(&self) -> usize {
        self.living.load(Ordering::SeqCst)
    }

    /// Waits until no transport lives.
    pub async fn all_dropped(&self) {
        let gone = async {
            while self.living() > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), gone)
            .await
            .expect("a transport was leaked");
    }
}

impl fmt::Debug for Scripted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Scripted").field(&self.kind).finish()
    }
}

#[async_trait]
impl Connector for Scripted {
    fn kind(&self) -> TransportKind {
        self.kind
    }

    async fn connect(&self, request: ConnectRequest) -> Result<Arc<dyn Transport>> {
        let nth = self.opened.fetch_add(1, Ordering::SeqCst) + 1;
        self.living.fetch_add(1, Ordering::SeqCst);
        let (to_server, from_client) = mpsc::unbounded_channel();
        let (inbox, incoming) = Inbox::channel();
        let shared = Arc::new(Shared {
            kind: self.kind,
            knows_streams: self.knows_streams,
            inbox,
            diagnostics: Mutex::default(),
            pending: Mutex::default(),
            stuck: watch::Sender::new(false),
            ended: watch::Sender::new(None),
        });
        let end = ServerEnd {
            nth,
            fresh: request.fresh,
            from_client,
            shared: Arc::clone(&shared),
        };
        let script = (self.script)(end);
        // Dropped with the task, however that ends.
        let death = Death(Arc::clone(&shared));
        let task = tokio::spawn(async move {
            let _death = death;
            script.await;
        });
        Ok(Arc::new(ScriptedTransport {
            nth,
            to_server,
            shared,
            incoming: Mutex::new(Some(incoming)),
            hook: self.hook.clone(),
            close_takes: self.close_takes,
            closing: tokio::sync::Mutex::new(false),
            task,
            living: Arc::clone(&self.living),
            orderly: Arc::clone(&self.orderly),
        }))
    }
}

/// How a connection ended: closed, or by an error.
type End = Option<Error>;

struct Shared {
    kind: TransportKind,
    knows_streams: bool,
    inbox: InboxSender,
    diagnostics: Mutex<Diagnostics>,
    pending: Mutex<Pending>,
    stuck: watch::Sender<bool>,
    ended: watch::Sender<Option<End>>,
}

#[derive(Default)]
struct Pending {
    last_id: u64,
    entries: HashMap<u64, Entry>,
}

struct Entry {
    sink: Arc<dyn RequestSink>,
    written: bool,
    class: RequestClass,
    reply: oneshot::Sender<Result<Raw>>,
}

impl Shared {
    fn conclude(&self, id: u64, outcome: Result<Raw>) {
        let entry = self.pending.lock().unwrap().entries.remove(&id);
        if let Some(entry) = entry {
            let _ = entry.reply.send(outcome);
        }
    }

    fn end(&self, end: End) {
        let first = self.ended.send_if_modified(|ended| {
            let first = ended.is_none();
            if first {
                *ended = Some(end.clone());
            }
            first
        });
        if !first {
            return;
        }
        let error = end.unwrap_or_else(|| Error::new(ErrorKind::Closed, "closed"));
        let entries = std::mem::take(&mut self.pending.lock().unwrap().entries);
        for (_, entry) in entries {
            let delivery = match entry.written {
                true => Delivery::Unknown,
                false => Delivery::NotSent,
            };
            let _ = entry.reply.send(Err(error.clone().with_delivery(delivery)));
        }
        self.inbox.finish();
    }

    fn sink(&self, id: RequestId) -> Option<(Arc<dyn RequestSink>, RequestClass)> {
        let pending = self.pending.lock().unwrap();
        let entry = pending.entries.get(&id.get())?;
        Some((Arc::clone(&entry.sink), entry.class))
    }

    fn receive(&self, text: &str) {
        let ParsedLine::One(Ok(message)) = parse_line(text).unwrap() else {
            panic!("the script says nonsense: {text}");
        };
        match message {
            Message::Response { id, outcome } => {
                // Whom a null id means, the suite of the transports tests.
                if let ResponseId::Ours(id) = id {
                    self.conclude(id.get(), outcome.map_err(Error::from_rpc));
                }
            }
            Message::Request(request) => self.inbox.request(request).unwrap(),
            Message::Notification(notification) => self.notified(notification),
            _ => unreachable!(),
        }
    }

    fn notified(&self, notification: Notification) {
        let params = notification
            .params
            .clone()
            .unwrap_or_else(Raw::empty_object);
        if notification.method == "notifications/progress" {
            if let Some((id, progress)) = Progress::read(&params)
                && let Some((sink, _)) = self.sink(id)
            {
                // As the contract of the sink says.
                let _ = std::panic::catch_unwind(AssertUnwindSafe(|| sink.progress(progress)));
            }
            return;
        }
        let value: Value = params.parse().unwrap();
        let id = &value["_meta"]["io.modelcontextprotocol/subscriptionId"];
        let id = id.as_u64().map(RequestId::new);
        let stream = id
            .and_then(|id| self.sink(id))
            .filter(|_| self.knows_streams);
        let kept = stream.is_some_and(|(sink, class)| {
            class == RequestClass::Listen && sink.notification(&notification)
        });
        if !kept {
            self.inbox.notification(notification);
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Shared").field(&self.kind).finish()
    }
}

impl TransportMonitor for Shared {
    fn kind(&self) -> TransportKind {
        self.kind
    }

    fn diagnostics(&self) -> Diagnostics {
        self.diagnostics.lock().unwrap().clone()
    }

    fn failure(&self) -> Option<Error> {
        self.ended.borrow().clone().flatten()
    }
}

/// The script has ended: the server is dead.
struct Death(Arc<Shared>);

impl Drop for Death {
    fn drop(&mut self) {
        let status = self.0.diagnostics().exit_status;
        let error = match status {
            Some(status) => Error::new(
                ErrorKind::ProcessExited,
                format!("the process ended: {status}"),
            ),
            None => Error::new(ErrorKind::ConnectionLost, "the connection ended"),
        };
        self.0.end(Some(error));
    }
}

struct ScriptedTransport {
    nth: usize,
    to_server: mpsc::UnboundedSender<Value>,
    shared: Arc<Shared>,
    incoming: Mutex<Option<Inbox>>,
    hook: Option<Hook>,
    close_takes: Duration,
    closing: tokio::sync::Mutex<bool>,
    task: tokio::task::JoinHandle<()>,
    living: Arc<AtomicUsize>,
    orderly: Arc<AtomicUsize>,
}

impl Drop for ScriptedTransport {
    fn drop(&mut self) {
        self.task.abort();
        self.living.fetch_sub(1, Ordering::SeqCst);
    }
}

impl fmt::Debug for ScriptedTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ScriptedTransport").field(&self.nth).finish()
    }
}

/// Withdraws a request whose caller has left.
struct Withdraw<'a> {
    transport: &'a ScriptedTransport,
    id: u64,
}

impl Drop for Withdraw<'_> {
    fn drop(&mut self) {
        let shared = &self.transport.shared;
        let entry = shared.pending.lock().unwrap().entries.remove(&self.id);
        if let Some(entry) = entry
            && entry.written
            && entry.class != RequestClass::Handshake
        {
            let params = json!({"requestId": self.id});
            let message = json!({"method": "notifications/cancelled", "params": params});
            let _ = self.transport.to_server.send(message);
        }
    }
}

/// Takes whatever a request may report.
struct Deaf;

impl RequestSink for Deaf {}

impl ScriptedTransport {
    fn gone(&self) -> Option<Error> {
        let ended = self.shared.ended.borrow().clone()?;
        let error = ended.unwrap_or_else(|| Error::new(ErrorKind::Closed, "closed"));
        Some(error.with_delivery(Delivery::NotSent))
    }

    /// Waits until the server reads.
    async fn writable(&self) {
        let mut stuck = self.shared.stuck.subscribe();
        let _ = stuck.wait_for(|stuck| !stuck).await;
    }
}

#[async_trait]
impl Transport for ScriptedTransport {
    async fn request(
        &self,
        request: WireRequest<'_>,
        sink: Option<Arc<dyn RequestSink>>,
    ) -> Result<Raw> {
        let sink = sink.unwrap_or_else(|| Arc::new(Deaf));
        let (reply, mut answer) = oneshot::channel();
        let id = {
            let mut pending = self.shared.pending.lock().unwrap();
            pending.last_id += 1;
            let id = pending.last_id;
            let entry = Entry {
                sink: Arc::clone(&sink),
                written: false,
                class: request.class,
                reply,
            };
            pending.entries.insert(id, entry);
            id
        };
        let _withdraw = Withdraw {
            transport: self,
            id,
        };
        sink.assigned(RequestId::new(id));
        if let Some(error) = self.gone() {
            return Err(error);
        }
        let line = encode(RequestId::new(id), &request, sink.wants_progress())?;
        let mut value: Value = serde_json::from_str(&line).unwrap();
        value["wire"] = json!({
            "version": request.version.map(|version| version.as_str()),
            "name": request.name,
            "headers": request.headers,
            "class": format!("{:?}", request.class),
        });
        if let Some(error) = self.hook.as_ref().and_then(|hook| hook(self.nth, &value)) {
            return Err(error);
        }
        tokio::select! {
            biased;
            () = self.writable() => {
                if let Some(entry) = self.shared.pending.lock().unwrap().entries.get_mut(&id) {
                    entry.written = true;
                    sink.sent();
                    let _ = self.to_server.send(value);
                }
            }
            outcome = &mut answer => return outcome.unwrap(),
        }
        answer.await.unwrap()
    }

    async fn notify(&self, notification: &Notification) -> Result<()> {
        let line = encode_notification(notification)?;
        let value: Value = serde_json::from_str(&line).unwrap();
        if let Some(error) = self.gone() {
            return Err(error);
        }
        if let Some(error) = self.hook.as_ref().and_then(|hook| hook(self.nth, &value)) {
            return Err(error);
        }
        self.writable().await;
        let _ = self.to_server.send(value);
        Ok(())
    }

    async fn respond(
        &self,
        request: &ServerRequest,
        outcome: std::result::Result<Raw, RpcError>,
    ) -> Result<()> {
        self.shared.inbox.answered(&request.id);
        let line = encode_response(&request.id, &outcome)?;
        self.writable().await;
        let _ = self.to_server.send(serde_json::from_str(&line).unwrap());
        Ok(())
    }

    fn incoming(&self) -> Option<Inbox> {
        self.incoming.lock().unwrap().take()
    }

    async fn closed(&self) -> Option<Error> {
        let mut ended = self.shared.ended.subscribe();
        let ended = ended.wait_for(Option::is_some).await.unwrap();
        ended.clone().flatten()
    }

    fn is_closed(&self) -> bool {
        self.shared.ended.borrow().is_some()
    }

    async fn close(&self) -> Result<()> {
        self.shared.end(None);
        let mut done = self.closing.lock().await;
        if !*done {
            tokio::time::sleep(self.close_takes).await;
            self.task.abort();
            self.orderly.fetch_add(1, Ordering::SeqCst);
            *done = true;
        }
        Ok(())
    }

    fn monitor(&self) -> Arc<dyn TransportMonitor> {
        Arc::clone(&self.shared) as _
    }
}
