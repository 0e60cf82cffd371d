//! Requests that one server answers: its tools, prompts, resources and completions.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use mcpool_core::{
    Caller, Notification, Progress, Raw, RawObject, Request, RequestOptions, Requester as _,
    Result, Rounds, RpcError, ServerName, ServerRequest,
};
use mcpool_manager::ServerHandle;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::{
    arguments,
    audit::Record,
    client::Client,
    era::{self, META_CAPABILITIES, META_LOG_LEVEL},
    fault,
    gateway::Gateway,
    outlet::Outlet,
    own::{Presence, Way},
    parking::{Parked, Running, Step},
    reach::Reached,
    relay::ClientCaller,
    replica::Replica,
    session::{self, seconds},
};

/// What a request state is sealed for.
const PURPOSE: &str = "mcpool request state 2";

/// For how long a request state is taken back. A person may have to fill in a form meanwhile.
const STATE_LIFETIME: Duration = Duration::from_secs(60 * 60);

/// Questions of one call that wait to be passed on: the bound of the session below.
const QUESTION_QUEUE: usize = mcpool_core::MAX_OPEN_SERVER_REQUESTS;

/// The name of the one question of a parked call in `inputRequests`.
const QUESTION: &str = "question";

/// What a client brings back with its retry (MCP 2026-07-28, "Multi Round-Trip Requests"): sealed,
/// and good for this request alone.
#[derive(Debug, Serialize, Deserialize)]
struct State {
    principal: Option<String>,
    method: String,
    /// What the request is for, as the client names it.
    name: String,
    /// The digest of its arguments.
    arguments: String,
    server: ServerName,
    /// The call that waits, where one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    parked: Option<String>,
    /// Where it waits, where replicas know each other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    replica: Option<Replica>,
    /// The server's own state, as JSON text, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    upstream: Option<String>,
    /// Seconds of the Unix clock.
    expires: u64,
}

/// One request on its way to a server.
struct Outgoing {
    handle: ServerHandle,
    request: Request,
    options: RequestOptions,
    /// Keeps the instance of a client that does not share the server.
    _presence: Option<Presence>,
}

impl Gateway {
    /// Calls a tool, gets a prompt, reads a resource.
    pub(crate) async fn call(
        &self,
        request: &ServerRequest,
        client: &Client,
        outlet: &Outlet,
    ) -> std::result::Result<Raw, RpcError> {
        let (mut params, name) = parameters(request)?;
        let state = self.state(&params, request, &name, client)?;
        if let Some(State {
            parked: Some(parked),
            server,
            ..
        }) = &state
        {
            return self
                .resume(parked, server, &params, request, &name, client)
                .await;
        }
        let (server, own_name) = self.find(request, &name, client).await?;
        if let Some(state) = state {
            // The server gets its own state back, or none.
            params.remove("requestState");
            if let Some(upstream) = state.upstream.map(Raw::from_text).and_then(Result::ok) {
                params.insert("requestState", upstream);
            }
            if state.server != server {
                return Err(not_ours());
            }
        }
        if request.method != "resources/read" {
            params.insert(
                "name",
                Raw::of(&own_name).map_err(|error| fault::rpc(&error))?,
            );
        }
        let reached = match self.reach(client, &server) {
            Ok(reached) => reached,
            Err(error) => return fault::outcome(&request.method, &error),
        };
        let record = self.record(client, request, &server, &own_name);
        if let Some(trace) = record.trace() {
            let meta = params.get("_meta").map(RawObject::parse);
            let mut meta = meta.and_then(Result::ok).unwrap_or_default();
            trace.put_into(&mut meta);
            let meta = meta.to_raw().map_err(|error| fault::rpc(&error))?;
            params.insert("_meta", meta);
        }
        let outcome = if client.is_modern() {
            let (parking, questions) = mpsc::channel(QUESTION_QUEUE);
            let outgoing = self.outgoing(reached, request, params, client, outlet, Some(parking));
            let outgoing = outgoing.map_err(|error| fault::rpc(&error))?;
            let running = Running {
                task: AbortOnDropHandle::new(tokio::spawn(outgoing.send())),
                questions,
            };
            match self
                .follow(running, &server, request, &name, client)
                .await?
            {
                Followed::Asked(result) => {
                    record.asks();
                    return Ok(result);
                }
                Followed::Done(outcome) => outcome,
            }
        } else {
            let outgoing = self.outgoing(reached, request, params, client, outlet, None);
            outgoing.map_err(|error| fault::rpc(&error))?.send().await
        };
        record.end(&outcome);
        self.conclude(outcome, &server, request, &name, client)
    }

    /// Completes an argument.
    pub(crate) async fn complete(
        &self,
        request: &ServerRequest,
        client: &Client,
        outlet: &Outlet,
    ) -> std::result::Result<Raw, RpcError> {
        #[derive(Deserialize)]
        struct Reference {
            #[serde(rename = "type")]
            kind: String,
            #[serde(default)]
            name: String,
            #[serde(default)]
            uri: String,
        }
        let params = request.params.as_ref().map(RawObject::parse);
        let Some(Ok(mut params)) = params else {
            return Err(fault::invalid("the parameters are no object"));
        };
        let reference = params.get("ref").cloned();
        let parsed = reference.as_ref().map(Raw::parse::<Reference>);
        let (Some(reference), Some(Ok(parsed))) = (reference, parsed) else {
            return Err(fault::invalid("the parameters hold no `ref`"));
        };
        let scope = &client.scope;
        let server = match parsed.kind.as_str() {
            "ref/prompt" => {
                let Some(route) = self.0.catalog.prompt(&parsed.name, scope).await else {
                    return Err(fault::invalid("there is no such prompt"));
                };
                let renamed = RawObject::parse(&reference).and_then(|mut reference| {
                    reference.insert("name", Raw::of(&route.name)?);
                    reference.to_raw()
                });
                params.insert("ref", renamed.map_err(|error| fault::rpc(&error))?);
                route.server
            }
            "ref/resource" => match self.0.catalog.resource(&parsed.uri, scope).await {
                Some(server) => server,
                None => return Err(fault::no_resource(&parsed.uri, client.is_modern())),
            },
            _ => return Err(fault::invalid("`ref` is of no known type")),
        };
        let reached = self.reach(client, &server);
        let reached = reached.map_err(|error| fault::rpc(&error))?;
        let outgoing = self.outgoing(reached, request, params, client, outlet, None);
        let outcome = outgoing.map_err(|error| fault::rpc(&error))?.send().await;
        outcome.map_err(|error| fault::rpc(&error))
    }

    /// A request as its server is to get it.
    fn outgoing(
        &self,
        reached: Reached,
        request: &ServerRequest,
        mut params: RawObject,
        client: &Client,
        outlet: &Outlet,
        parking: Option<mpsc::Sender<crate::relay::Question>>,
    ) -> Result<Outgoing> {
        let mut meta = era::without_reserved(&params);
        let token = meta.remove("progressToken");
        params.remove("_meta");
        if !meta.is_empty() {
            params.insert("_meta", meta.to_raw()?);
        }
        // What a server of MCP 2026-07-28 gets of the client of this very request.
        let mut of_client = RawObject::new();
        let capabilities = session::askable(&client.capabilities);
        of_client.insert(META_CAPABILITIES, capabilities.to_raw()?);
        if let Some(level) = client.log_level {
            of_client.insert(META_LOG_LEVEL, Raw::of(&level)?);
        }
        let rounds = match client.is_modern() {
            true => Rounds::Pass,
            false => Rounds::Drive,
        };
        let Reached { handle, owner } = reached;
        let key = owner.as_ref().map(|owner| Arc::clone(&owner.key));
        let key = key.or_else(|| client.session.clone());
        let caller = ClientCaller::new(client.clone(), key, outlet.clone(), parking);
        let caller: Arc<dyn Caller> = Arc::new(caller);
        let own = self.0.hub.own();
        let presence = owner.map(|owner| own.present(&owner, Way::Request(Arc::clone(&caller))));
        let caller = match &presence {
            Some(presence) => presence.caller(caller),
            None => caller,
        };
        let mut options = RequestOptions::new()
            .with_meta(of_client)
            .with_rounds(rounds)
            .with_caller(caller);
        if let Some(token) = token {
            let outlet = outlet.clone();
            options = options.with_progress(move |progress| {
                if let Some(notification) = progress_notification(&token, &progress) {
                    outlet.tell(&notification);
                }
            });
        }
        Ok(Outgoing {
            handle,
            request: Request::new(request.method.clone()).with_raw_params(params.to_raw()?),
            options,
            _presence: presence,
        })
    }

    /// The entry of a request in the audit.
    fn record(
        &self,
        client: &Client,
        request: &ServerRequest,
        server: &ServerName,
        name: &str,
    ) -> Record {
        Record::begin(
            self.0.audit.as_ref(),
            (client.principal.as_ref(), client.peer),
            server,
            &request.method,
            name,
            request.params.as_ref(),
        )
    }

    /// The server that a request is for, and its own name for what is meant.
    async fn find(
        &self,
        request: &ServerRequest,
        name: &str,
        client: &Client,
    ) -> std::result::Result<(ServerName, String), RpcError> {
        let (catalog, scope) = (&self.0.catalog, &client.scope);
        let (what, route) = match request.method.as_str() {
            "tools/call" => ("tool", catalog.tool(name, scope).await),
            "prompts/get" => ("prompt", catalog.prompt(name, scope).await),
            _ => {
                let server = catalog.resource(name, scope).await;
                let server = server.ok_or_else(|| fault::no_resource(name, client.is_modern()))?;
                return Ok((server, name.to_owned()));
            }
        };
        let route = route.ok_or_else(|| {
            let name = mcpool_core::Untrusted::line(name);
            fault::invalid(format!("there is no {what} called {}", name.quoted()))
        })?;
        Ok((route.server, route.name))
    }

    /// Where the call is parked that a request goes on with.
    pub(crate) fn parked_at(&self, request: &ServerRequest) -> Option<Replica> {
        let params = RawObject::parse(request.params.as_ref()?).ok()?;
        let state = self.opened(params.get("requestState")?)?;
        state.parked.and(state.replica)
    }

    fn opened(&self, sealed: &Raw) -> Option<State> {
        let text: String = sealed.parse().ok()?;
        let bytes = self.0.keys.open(PURPOSE, &text)?;
        serde_json::from_slice(&bytes).ok()
    }

    /// The state that a retry brings back.
    fn state(
        &self,
        params: &RawObject,
        request: &ServerRequest,
        name: &str,
        client: &Client,
    ) -> std::result::Result<Option<State>, RpcError> {
        let Some(sealed) = params.get("requestState").filter(|_| client.is_modern()) else {
            return Ok(None);
        };
        let state = self.opened(sealed).ok_or_else(not_ours)?;
        let is_theirs = state.principal.as_deref() == client.principal.as_deref()
            && state.method == request.method
            && state.name == name
            && state.arguments == arguments::digest(params.get("arguments"))
            && state.expires > seconds(SystemTime::now());
        if is_theirs {
            Ok(Some(state))
        } else {
            Err(not_ours())
        }
    }

    fn seal(
        &self,
        server: &ServerName,
        request: &ServerRequest,
        name: &str,
        client: &Client,
        parked: Option<String>,
        upstream: Option<&Raw>,
    ) -> Result<Raw> {
        let params = request.params.as_ref().map(RawObject::parse);
        let given = params.and_then(Result::ok);
        let given = given.and_then(|mut params| params.remove("arguments"));
        let state = State {
            principal: client.principal.as_deref().map(str::to_owned),
            method: request.method.clone(),
            name: name.to_owned(),
            arguments: arguments::digest(given.as_ref()),
            server: server.clone(),
            replica: parked.as_ref().and(self.0.replica.clone()),
            parked,
            upstream: upstream.map(|state| state.get().to_owned()),
            expires: seconds(SystemTime::now()).saturating_add(STATE_LIFETIME.as_secs()),
        };
        Raw::of(
            &self
                .0
                .keys
                .seal(PURPOSE, Raw::of(&state)?.get().as_bytes())?,
        )
    }

    /// Follows a call to its end, or to the next question of its server.
    async fn follow(
        &self,
        mut running: Running,
        server: &ServerName,
        request: &ServerRequest,
        name: &str,
        client: &Client,
    ) -> std::result::Result<Followed, RpcError> {
        let question = match running.step().await {
            Step::Done(outcome) => return Ok(Followed::Done(outcome)),
            Step::Asked(question) => question,
        };
        let mut asked = RawObject::new();
        let method = Raw::of(&question.method).map_err(|error| fault::rpc(&error))?;
        asked.insert("method", method);
        asked.insert(
            "params",
            question.params.clone().unwrap_or_else(Raw::empty_object),
        );
        let parked = self.0.parking.park(Parked { running, question })?;
        let result = asked.to_raw().and_then(|asked| {
            let mut requests = RawObject::new();
            requests.insert(QUESTION, asked);
            let mut result = RawObject::new();
            result.insert("resultType", Raw::of("input_required")?);
            result.insert("inputRequests", requests.to_raw()?);
            let state = self.seal(server, request, name, client, Some(parked), None)?;
            result.insert("requestState", state);
            result.to_raw()
        });
        result
            .map(Followed::Asked)
            .map_err(|error| fault::rpc(&error))
    }

    /// Goes on with a call that was parked.
    async fn resume(
        &self,
        parked: &str,
        server: &ServerName,
        params: &RawObject,
        request: &ServerRequest,
        name: &str,
        client: &Client,
    ) -> std::result::Result<Raw, RpcError> {
        let responses = params.get("inputResponses").map(RawObject::parse);
        let responses = responses.and_then(Result::ok).unwrap_or_default();
        let Some(response) = responses.get(QUESTION) else {
            return Err(fault::invalid(format!(
                "`inputResponses` holds no `{QUESTION}`"
            )));
        };
        let Some(call) = self.0.parking.take(parked) else {
            return Err(fault::invalid(
                "the call that asked is gone: it was answered already, took too long, or its \
                 server was lost; what became of it is unknown",
            ));
        };
        let record = self.record(client, request, server, name);
        // The server may have withdrawn its question; the call says what became of it.
        let _ = call.question.reply.send(Ok(response.clone()));
        match self
            .follow(call.running, server, request, name, client)
            .await?
        {
            Followed::Asked(result) => {
                record.asks();
                Ok(result)
            }
            Followed::Done(outcome) => {
                record.end(&outcome);
                self.conclude(outcome, server, request, name, client)
            }
        }
    }

    /// The outcome, as the client gets it.
    fn conclude(
        &self,
        outcome: Result<Raw>,
        server: &ServerName,
        request: &ServerRequest,
        name: &str,
        client: &Client,
    ) -> std::result::Result<Raw, RpcError> {
        let modern = client.is_modern();
        let error = match outcome {
            Ok(result) if modern => {
                let sealed = self.with_sealed_state(result, server, request, name, client);
                return sealed.map_err(|error| fault::rpc(&error));
            }
            Ok(result) => return Ok(result),
            Err(error) => error,
        };
        if let Some(said) = error.rpc() {
            return Err(fault::in_era(said.clone(), &request.method, modern));
        }
        tracing::debug!(%server, method = request.method, %error, "a request of a client failed");
        fault::outcome(&request.method, &error)
    }

    /// A result whose `requestState`, if it asks for input, is sealed.
    fn with_sealed_state(
        &self,
        result: Raw,
        server: &ServerName,
        request: &ServerRequest,
        name: &str,
        client: &Client,
    ) -> Result<Raw> {
        let finder = |word: &[u8]| memchr::memmem::find(result.get().as_bytes(), word).is_some();
        if !finder(b"input_required") || !finder(b"requestState") {
            return Ok(result);
        }
        let mut object = RawObject::parse(&result)?;
        let asks = object
            .get("resultType")
            .is_some_and(|kind| kind.get() == "\"input_required\"");
        let Some(state) = object.get("requestState").filter(|_| asks).cloned() else {
            return Ok(result);
        };
        let sealed = self.seal(server, request, name, client, None, Some(&state))?;
        object.insert("requestState", sealed);
        object.to_raw()
    }
}

enum Followed {
    Done(Result<Raw>),
    /// The result that asks the client.
    Asked(Raw),
}

impl Outgoing {
    async fn send(self) -> Result<Raw> {
        self.handle.request(&self.request, &self.options).await
    }
}

/// Progress as the client gets it: under its own token.
fn progress_notification(token: &Raw, progress: &Progress) -> Option<Notification> {
    let mut params = RawObject::new();
    params.insert("progressToken", token.clone());
    params.insert("progress", number(progress.progress)?);
    if let Some(total) = progress.total {
        params.insert("total", number(total)?);
    }
    if let Some(message) = &progress.message {
        params.insert("message", Raw::of(message).ok()?);
    }
    Some(Notification::new(
        "notifications/progress",
        params.to_raw().ok(),
    ))
}

/// A number as JSON; whole ones without a point.
fn number(number: f64) -> Option<Raw> {
    // The largest whole number below which each is exact.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if number.fract() == 0.0 && number.abs() < EXACT {
        return Raw::from_text(format!("{number:.0}")).ok();
    }
    Raw::of(&Value::from(number)).ok()
}

/// The parameters of a request, and what it is for.
fn parameters(request: &ServerRequest) -> std::result::Result<(RawObject, String), RpcError> {
    let member = match request.method.as_str() {
        "resources/read" => "uri",
        _ => "name",
    };
    let params = request.params.as_ref().map(RawObject::parse);
    let Some(Ok(params)) = params else {
        return Err(fault::invalid("the parameters are no object"));
    };
    let name = params.get(member).map(Raw::parse::<String>);
    match name {
        Some(Ok(name)) => Ok((params, name)),
        _ => Err(fault::invalid(format!("the parameters hold no `{member}`"))),
    }
}

fn not_ours() -> RpcError {
    fault::invalid(
        "the request state is not one of this request: it was changed, has expired, or belongs to \
         another request or client",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_told_under_the_clients_token() {
        let token = Raw::from_text("\"a\"".to_owned()).unwrap();
        let params = |progress| {
            progress_notification(&token, &progress)
                .unwrap()
                .params
                .unwrap()
        };
        assert_eq!(
            params(Progress::new(1.0, Some(3.5), Some("half".into()))).get(),
            r#"{"progressToken":"a","progress":1,"total":3.5,"message":"half"}"#
        );
        assert_eq!(
            params(Progress::new(f64::MAX, None, None)).get(),
            r#"{"progressToken":"a","progress":1.7976931348623157e+308}"#
        );
    }
}
