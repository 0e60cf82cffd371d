//! Drives one transport: the handshake, sends in tasks, receives with patience.

use std::{sync::Arc, time::Duration};

use mcpool_core::{ConnectRequest, IncomingMessage, OutgoingMessage, Result, Transport};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{ContractTarget, RunningFixture, Violation};
use crate::Behavior;

/// Longer than anything takes that works, on a machine that is busy.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// What "at once" may mean on a machine that is busy.
pub(super) const AT_ONCE: Duration = Duration::from_secs(5);

pub(super) fn violated<T>(
    check: &'static str,
    seen: impl Into<String>,
) -> std::result::Result<T, Violation> {
    Err(Violation {
        check,
        seen: seen.into(),
    })
}

/// A connected transport, its fixture, and the name of the check for what goes wrong.
pub(super) struct Drive {
    pub(super) check: &'static str,
    pub(super) transport: Box<dyn Transport>,
    pub(super) fixture: Box<dyn RunningFixture>,
    pub(super) sends: JoinSet<(Value, Result<()>)>,
}

pub(super) fn outgoing(message: Value) -> OutgoingMessage {
    match serde_json::from_value(message) {
        Ok(message) => message,
        Err(error) => unreachable!("the suite wrote a message that is none: {error}"),
    }
}

pub(super) fn as_json(message: &IncomingMessage) -> Value {
    serde_json::to_value(message).unwrap_or_default()
}

pub(super) fn tool_call(id: u64, tool: &str, arguments: Value) -> Value {
    json!({
        "jsonrpc": "2.0",
        "id": id,
        "method": "tools/call",
        "params": {"name": tool, "arguments": arguments},
    })
}

pub(super) fn text(answer: &Value) -> &str {
    answer["result"]["content"][0]["text"]
        .as_str()
        .unwrap_or_default()
}

/// The request with a short shutdown, so that the suite does not wait for the default.
pub(super) fn request(fixture: &dyn RunningFixture) -> ConnectRequest {
    let mut request = fixture.request();
    let shutdown = &mut Arc::make_mut(&mut request.spec).policy.shutdown;
    shutdown.stdin_grace = Duration::from_millis(500);
    shutdown.term_grace = Duration::from_millis(500);
    shutdown.total = Duration::from_secs(2);
    request
}

impl Drive {
    pub(super) async fn connect(
        check: &'static str,
        target: &dyn ContractTarget,
    ) -> std::result::Result<Self, Violation> {
        let fixture = target.start(Behavior::new()).await;
        Self::connect_to(check, target, fixture).await
    }

    pub(super) async fn connect_to(
        check: &'static str,
        target: &dyn ContractTarget,
        fixture: Box<dyn RunningFixture>,
    ) -> std::result::Result<Self, Violation> {
        let connector = target.connector();
        let connect = connector.connect(request(fixture.as_ref()));
        let transport = match tokio::time::timeout(PATIENCE, connect).await {
            Ok(Ok(transport)) => transport,
            Ok(Err(error)) => return violated(check, format!("connect: {error}")),
            Err(_) => return violated(check, "connect did not end"),
        };
        let mut drive = Self {
            check,
            transport,
            fixture,
            sends: JoinSet::new(),
        };
        drive.handshake().await?;
        Ok(drive)
    }

    async fn handshake(&mut self) -> std::result::Result<(), Violation> {
        self.send(json!({
            "jsonrpc": "2.0",
            "id": 0,
            "method": "initialize",
            "params": {
                "protocolVersion": "2025-11-25",
                "capabilities": {"roots": {}},
                "clientInfo": {"name": "contract", "version": "1"},
            },
        }));
        let answer = self.receive_until(|message| message["id"] == 0).await?;
        if answer
            .last()
            .is_none_or(|last| last["result"]["protocolVersion"] != "2025-11-25")
        {
            return violated(self.check, format!("the handshake: {answer:?}"));
        }
        self.send_now(json!({"jsonrpc": "2.0", "method": "notifications/initialized"}))
            .await
    }

    /// Starts to send, in a task.
    pub(super) fn send(&mut self, message: Value) {
        let id = message["id"].clone();
        let send = self.transport.send(outgoing(message));
        self.sends.spawn(async move { (id, send.await) });
    }

    /// Sends and waits for the end of the send.
    pub(super) async fn send_now(&mut self, message: Value) -> std::result::Result<(), Violation> {
        let send = self.transport.send(outgoing(message));
        match tokio::time::timeout(PATIENCE, send).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => violated(self.check, format!("a send failed: {error}")),
            Err(_) => violated(self.check, "a send did not end"),
        }
    }

    /// Receives until a message is the one; gives all that came, that one included.
    pub(super) async fn receive_until(
        &mut self,
        mut is_last: impl FnMut(&Value) -> bool,
    ) -> std::result::Result<Vec<Value>, Violation> {
        let mut seen = Vec::new();
        loop {
            match tokio::time::timeout(PATIENCE, self.transport.receive()).await {
                Ok(Some(message)) => seen.push(as_json(&message)),
                Ok(None) => {
                    let why = self.transport.monitor().failure();
                    let errors = self.send_errors();
                    return violated(
                        self.check,
                        format!("the connection ended: {why:?}, sends: {errors:?}"),
                    );
                }
                Err(_) => {
                    let errors = self.send_errors();
                    let count = seen.len();
                    return violated(
                        self.check,
                        format!("nothing more came after {count} messages; sends: {errors:?}"),
                    );
                }
            }
            if seen.last().is_some_and(&mut is_last) {
                return Ok(seen);
            }
        }
    }

    fn send_errors(&mut self) -> Vec<String> {
        let mut errors = Vec::new();
        while let Some(joined) = self.sends.try_join_next() {
            match joined {
                Ok((_, Ok(()))) => {}
                Ok((id, Err(error))) => errors.push(format!("{id}: {error}")),
                Err(error) => errors.push(error.to_string()),
            }
        }
        errors
    }

    /// Calls a tool and waits for its answer; what came before the answer is given with it.
    pub(super) async fn call(
        &mut self,
        id: u64,
        tool: &str,
        arguments: Value,
    ) -> std::result::Result<Vec<Value>, Violation> {
        self.send(tool_call(id, tool, arguments));
        self.receive_until(|message| message["id"] == id && message.get("method").is_none())
            .await
    }

    /// Waits for all sends that were started; all must have been good.
    pub(super) async fn finish_sends(&mut self) -> std::result::Result<(), Violation> {
        loop {
            match tokio::time::timeout(PATIENCE, self.sends.join_next()).await {
                Ok(None) => return Ok(()),
                Ok(Some(Ok((_, Ok(()))))) => {}
                Ok(Some(Ok((id, Err(error))))) => {
                    return violated(self.check, format!("the send of {id} failed: {error}"));
                }
                Ok(Some(Err(error))) => return violated(self.check, format!("a send: {error}")),
                Err(_) => return violated(self.check, "a send did not end"),
            }
        }
    }

    pub(super) async fn close(&mut self, bound: Duration) -> std::result::Result<(), Violation> {
        match tokio::time::timeout(bound, self.transport.close()).await {
            // A close that was not orderly is an error, and the resources are released all the same.
            Ok(_) => Ok(()),
            Err(_) => violated(self.check, format!("close took longer than {bound:?}")),
        }
    }
}
