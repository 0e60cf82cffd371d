//! The front of streams: stdin and stdout, a socket, memory. One client, one message a line
//! (MCP 2025-11-25, "stdio").

use std::{io, sync::Arc, time::Duration};

use futures::StreamExt as _;
use mcpool_core::{
    Inbox, Incoming, Message, NotAMessage, Notification, ParsedLine, ProtocolVersion, Raw,
    RawObject, ResponseId, RpcError, ServerRequest, encode_notification, encode_response,
    parse_line,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    sync::mpsc,
    task::JoinSet,
};
use tokio_io_timeout::TimeoutWriter;
use tokio_util::codec::{FramedRead, LinesCodec, LinesCodecError};

use crate::{
    client::Client,
    drain, era,
    flights::Flights,
    gateway::Gateway,
    guests::Visit,
    hub::{Listener, Wants},
    outlet::{MESSAGE_QUEUE, Outlet},
    own::{OwnServers, Presence, ROOTS_CHANGED},
    scope::Scope,
    session::Session,
};

/// Bytes of one line of a client. A longer one is skipped.
const MAX_LINE_BYTES: usize = 64 * 1024 * 1024;

/// How long requests that are in flight when a client closes its stream may take to end.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// How long a client may read nothing of what it is sent.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a client that has closed its stream, or is to be left, may take to read the rest.
const LAST_WRITE_TIMEOUT: Duration = Duration::from_secs(5);

impl Gateway {
    /// Serves one client over a pair of streams, until the client closes its own or cannot be
    /// written to, or the gateway is drained. What is in flight then may end within 1 s, and is
    /// cancelled after it, and what was answered may be read within 5 s more; servers that clients
    /// do not share end within 8 s. A client that reads nothing for 60 s is left.
    ///
    /// A profile that is one of the gateway's is followed as it changes
    /// ([`Profiles::replace`](crate::Profiles::replace)).
    ///
    /// Dropping the future ends it as well.
    ///
    /// # Errors
    /// When a stream fails; `TimedOut` when the client does not read.
    pub async fn serve_lines<R, W>(&self, scope: Scope, read: R, write: W) -> io::Result<()>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        self.run();
        let (lines, waiting) = mpsc::channel(MESSAGE_QUEUE);
        let owner: Arc<str> = format!("lines-{:032x}", rand::random::<u128>()).into();
        let connection = Connection {
            gateway: self.clone(),
            followed: self.followed(&scope),
            scope,
            owner: Arc::clone(&owner),
            lines,
            flights: Arc::default(),
            session: None,
        };
        // Where nobody waits for it.
        let own = Ends(Arc::clone(self.0.hub.own()), owner);
        let served = {
            let mut write = TimeoutWriter::new(write);
            write.set_timeout(Some(WRITE_TIMEOUT));
            let writer = write_lines(waiting, Box::pin(write));
            let reader = connection.read(read);
            // A reader that waits for the writer does not see the end of the drain.
            let left = async {
                self.drained().await;
                tokio::time::sleep(LAST_ANSWERS + LAST_WRITE_TIMEOUT).await;
            };
            tokio::pin!(writer, reader);
            tokio::select! {
                read = &mut reader => {
                    // The reader and what its own servers ask held the last senders: what waits is
                    // still written.
                    let rest = tokio::time::timeout(LAST_WRITE_TIMEOUT, writer);
                    let (written, ()) = tokio::join!(rest, own.ended());
                    written.unwrap_or_else(|_| Err(unread())).and(read)
                }
                written = &mut writer => written,
                () = left => Err(unread()),
            }
        };
        own.ended().await;
        served
    }

    /// The name of the profile of a scope, where it is one of those that may be replaced.
    fn followed(&self, scope: &Scope) -> Option<Arc<str>> {
        match scope {
            Scope::Profile(profile) if self.0.profiles.get(profile.name()).is_some() => {
                Some(profile.name().into())
            }
            _ => None,
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(begun) = &self.session {
            self.gateway.0.guests.left(&begun.session.id);
        }
    }
}

/// Ends the servers that are a client's own when it is dropped.
struct Ends(Arc<OwnServers>, Arc<str>);

impl Ends {
    /// Ends them, and waits for that.
    async fn ended(&self) {
        self.0.ended(&self.1).await;
    }
}

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.end(&self.1);
    }
}

/// One client.
struct Connection {
    gateway: Gateway,
    /// What it was served first.
    scope: Scope,
    /// The profile whose changes it follows, if it is served one that may change.
    followed: Option<Arc<str>>,
    owner: Arc<str>,
    lines: mpsc::Sender<String>,
    flights: Arc<Flights>,
    session: Option<Begun>,
}

/// A session of an older client.
struct Begun {
    session: Session,
    listener: Arc<Listener>,
    /// It can be asked for as long as it is connected.
    _presence: Presence,
}

impl Connection {
    async fn read(mut self, read: impl AsyncRead + Unpin) -> io::Result<()> {
        let mut lines = FramedRead::new(read, LinesCodec::new_with_max_length(MAX_LINE_BYTES));
        let mut requests = JoinSet::new();
        let mut notices: Option<Inbox> = None;
        // After an error the codec's stream ends once, and goes on.
        let mut failed = false;
        let ended = self.gateway.0.drain.ended().clone();
        loop {
            tokio::select! {
                () = ended.cancelled() => break,
                line = lines.next() => match line {
                    None if std::mem::take(&mut failed) => {}
                    None => break,
                    Some(Ok(line)) => {
                        if let Some(inbox) = self.take(&line, &mut requests).await {
                            notices = Some(inbox);
                        }
                    }
                    Some(Err(LinesCodecError::MaxLineLengthExceeded)) => {
                        failed = true;
                        self.refuse(RpcError::new(
                            RpcError::INVALID_REQUEST,
                            format!("a line is longer than {MAX_LINE_BYTES} bytes"),
                        ))
                        .await;
                    }
                    Some(Err(LinesCodecError::Io(error))) if is_no_text(&error) => {
                        failed = true;
                        self.refuse(RpcError::new(RpcError::PARSE, "a line is not UTF-8")).await;
                    }
                    Some(Err(LinesCodecError::Io(error))) => return Err(error),
                },
                notification = next(&mut notices) => {
                    if let Ok(line) = encode_notification(&notification) {
                        self.say(line).await;
                    }
                }
                Some(_) = requests.join_next() => {}
            }
        }
        // Anybody who pipes requests in and leaves still wants the answers that are near.
        let rest = async { while requests.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(LAST_ANSWERS, rest).await;
        Ok(())
    }

    /// Takes a line. Gives the client's notifications from now on, when its session begins.
    async fn take(&mut self, line: &str, requests: &mut JoinSet<()>) -> Option<Inbox> {
        if line.trim().is_empty() {
            return None;
        }
        let members = match parse_line(line) {
            Ok(ParsedLine::One(message)) => vec![message],
            // MCP 2025-03-26 only; answers come one by one.
            Ok(ParsedLine::Batch(members)) => members,
            Ok(_) => Vec::new(),
            Err(error) => {
                self.refuse(RpcError::new(RpcError::PARSE, error.to_string()))
                    .await;
                return None;
            }
        };
        let mut inbox = None;
        for member in members {
            match member {
                Ok(Message::Request(request)) if request.method == "initialize" => {
                    inbox = self.initialize(&request).await.or(inbox);
                }
                Ok(Message::Request(request)) => self.serve(request, requests).await,
                Ok(Message::Notification(notification)) => self.notified(&notification),
                Ok(Message::Response { id, outcome }) => self.answered(id, outcome),
                Ok(_) => {}
                Err(NotAMessage { reason, .. }) => {
                    self.refuse(RpcError::new(RpcError::INVALID_REQUEST, reason))
                        .await;
                }
            }
        }
        inbox
    }

    async fn initialize(&mut self, request: &ServerRequest) -> Option<Inbox> {
        let begun = match self.gateway.is_draining() {
            true => Err(drain::refusal()),
            false => self.served().and_then(|scope| {
                let params = request.params.as_ref();
                let (session, result) = self.gateway.initialize(params, false, None, &scope)?;
                Ok((session, result, scope))
            }),
        };
        match begun {
            Ok((session, result, scope)) => {
                let hub = &self.gateway.0.hub;
                let owner = Arc::clone(&self.owner);
                let (listener, inbox) = hub.listen(owner, scope.clone(), Wants::EVERYTHING);
                let listener = Arc::new(listener);
                let client = self.of_session(&session, &listener, scope);
                let key = Arc::clone(&self.owner);
                let presence = self.gateway.present_on_stream(client, key, self.outlet());
                self.session = Some(Begun {
                    session,
                    listener,
                    _presence: presence,
                });
                self.respond(&request.id, Ok(result)).await;
                Some(inbox)
            }
            Err(error) => {
                self.respond(&request.id, Err(error)).await;
                None
            }
        }
    }

    /// Serves a request on a task of its own.
    async fn serve(&self, request: ServerRequest, requests: &mut JoinSet<()>) {
        let entered = self.client(&request).and_then(|client| {
            let flight = self.flights.enter(&self.owner, &request.id)?;
            Ok((client, flight))
        });
        let (client, flight) = match entered {
            Ok(entered) => entered,
            Err(error) => return self.respond(&request.id, Err(error)).await,
        };
        let gateway = self.gateway.clone();
        let outlet = self.outlet();
        requests.spawn(async move {
            let answer = gateway.answer(&request, &client, &outlet, false);
            // A request that was cancelled is not answered.
            if let Some(outcome) = flight.run(answer).await
                && let Ok(line) = encode_response(&request.id, &outcome)
            {
                drop(flight);
                outlet.send(line).await;
            }
        });
    }

    /// The way to the client.
    fn outlet(&self) -> Outlet {
        let questions = Arc::clone(&self.gateway.0.questions);
        Outlet::new(self.lines.clone(), questions, Arc::clone(&self.owner))
    }

    /// What the client is served now.
    ///
    /// # Errors
    /// The refusal, when its profile is gone.
    fn served(&self) -> Result<Scope, RpcError> {
        let Some(name) = &self.followed else {
            return Ok(self.scope.clone());
        };
        let now = self.gateway.0.profiles.get(name);
        now.map(Scope::Profile).ok_or_else(|| {
            RpcError::new(
                RpcError::INVALID_REQUEST,
                "the profile that this client was served is not served any more",
            )
        })
    }

    fn of_session(&self, session: &Session, listener: &Arc<Listener>, scope: Scope) -> Client {
        let (key, listener) = (Arc::clone(&self.owner), Arc::clone(listener));
        Client::of_session(session, key, scope, Some(listener))
    }

    /// Who asks: the session, or the request itself from MCP 2026-07-28 on.
    fn client(&self, request: &ServerRequest) -> Result<Client, RpcError> {
        let meta = era::meta(request.params.as_ref());
        self.seen(&meta);
        let scope = self.served()?;
        if let Some(begun) = &self.session
            && era::version(&meta).is_none()
        {
            return Ok(self.of_session(&begun.session, &begun.listener, scope));
        }
        if era::version(&meta).is_none() && request.method != "server/discover" {
            return Err(RpcError::new(
                RpcError::INVALID_REQUEST,
                "there is no session: send `initialize` first, or say the protocol version in \
                 `_meta` (MCP 2026-07-28)",
            ));
        }
        let declared = era::declared(&meta, Gateway::speaks(false))?;
        Ok(Client {
            version: ProtocolVersion::LATEST,
            capabilities: Arc::new(declared.capabilities),
            principal: None,
            session: Some(Arc::clone(&self.owner)),
            peer: None,
            scope,
            log_level: declared.log_level,
            listener: None,
            turn: None,
        })
    }

    /// Remembers the client for people who look.
    fn seen(&self, meta: &RawObject) {
        let session = self.session.as_ref().map(|begun| &begun.session);
        let session = session.filter(|_| era::version(meta).is_none());
        let latest = ProtocolVersion::LATEST;
        let visit = Visit {
            session: session.map(|session| &*session.id),
            protocol: session.map_or(&latest, |session| &session.version),
            carrier: "stream",
            principal: None,
            scope: &self.scope,
        };
        self.gateway.0.guests.seen(&visit, meta);
    }

    fn notified(&self, notification: &Notification) {
        match &*notification.method {
            "notifications/cancelled" => self.flights.cancelled(&self.owner, notification),
            ROOTS_CHANGED => self.gateway.0.hub.own().roots_changed(&self.owner),
            _ => {}
        }
    }

    fn answered(&self, id: ResponseId, outcome: Result<Raw, RpcError>) {
        if let ResponseId::Foreign(id) = id {
            // An answer to what nobody asks any more.
            let _ = self.gateway.0.questions.answered(&self.owner, &id, outcome);
        }
    }

    /// Notifies the client that a line of it could not be used.
    async fn refuse(&self, error: RpcError) {
        self.respond(&Raw::null(), Err(error)).await;
    }

    async fn respond(&self, id: &Raw, outcome: Result<Raw, RpcError>) {
        if let Ok(line) = encode_response(id, &outcome) {
            self.say(line).await;
        }
    }

    async fn say(&self, line: String) {
        // The writer ends with the connection, and ends it.
        let _ = self.lines.send(line).await;
    }
}

/// The next notification for the client. Pending for ever before its session begins.
async fn next(inbox: &mut Option<Inbox>) -> Notification {
    if let Some(inbox) = inbox {
        while let Some(item) = inbox.next().await {
            if let Incoming::Notification(notification) = item {
                return notification;
            }
        }
    }
    std::future::pending().await
}

async fn write_lines(
    mut lines: mpsc::Receiver<String>,
    mut write: impl AsyncWrite + Unpin,
) -> io::Result<()> {
    while let Some(mut line) = lines.recv().await {
        line.push('\n');
        write.write_all(line.as_bytes()).await?;
        // What waits meanwhile is written before the flush.
        while let Ok(mut line) = lines.try_recv() {
            line.push('\n');
            write.write_all(line.as_bytes()).await?;
        }
        write.flush().await?;
    }
    Ok(())
}

fn unread() -> io::Error {
    io::Error::new(
        io::ErrorKind::TimedOut,
        "the client does not read what it is sent, or too slowly",
    )
}

fn is_no_text(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidData
}
