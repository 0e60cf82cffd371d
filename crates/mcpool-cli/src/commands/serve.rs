//! `mcpool serve`: the servers of the config as one MCP server.

mod args;
mod audit;
mod files;
mod fronts;
mod host;
mod keys;
mod profiles;

use std::{sync::Arc, time::Duration};

use futures::{StreamExt as _, future::LocalBoxFuture, stream::FuturesUnordered};
use mcpool::{
    Error, ServerSpec, Sharing, StartMode,
    gateway::{
        AccessKeys, Gateway, GatewayBuilder, HttpOptions, HttpServer, Relay, SealingKeys, Tls,
    },
};
use mcpool_files::Holds;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio_util::task::AbortOnDropHandle;

pub(crate) use self::args::ServeArgs;
pub(super) use self::args::parse_listen;
#[cfg(unix)]
pub(super) use self::fronts::Removed;
#[cfg(unix)]
use self::fronts::serve_socket;
use self::{
    args::{Asked, CLIENT, ServeCommand},
    files::{followed, not_used, text_of},
    fronts::{serve_http, serve_stdio},
    profiles::profiles,
};
use super::Outcome;
use crate::{
    app::App,
    exit::{Exit, Failure},
    nesting::Nesting,
    off_thread::off_thread,
    reload,
    render::{news, out},
    text,
};

/// How long requests may take to end, unless it is set. Kubernetes kills 30 s after its SIGTERM.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(25);

/// How often measurements are put together that nobody has asked for.
const TIDY_PAUSE: Duration = Duration::from_secs(5);

/// Serves until its only client goes, or a signal ends it.
pub(crate) async fn run(app: &App, args: ServeArgs) -> Outcome {
    match args.command {
        Some(ServeCommand::Host(command)) => host::run(app, command).await,
        Some(ServeCommand::Key { command }) => keys::run(&app.global, command).await,
        None => traced(app, args).await,
    }
}

/// Serves, and exports traces where that is wanted.
#[cfg(feature = "otel")]
async fn traced(app: &App, args: ServeArgs) -> Outcome {
    use mcpool::gateway::Traces;
    let traces = args.otlp.as_deref().map(Traces::export_to).transpose();
    let traces = traces.map_err(|error| Failure::usage(text!("--otlp: {}", error.message())))?;
    let outcome = serve(app, args).await;
    if let Some(traces) = traces {
        traces.shutdown().await;
    }
    outcome
}

/// Serves.
#[cfg(not(feature = "otel"))]
async fn traced(app: &App, args: ServeArgs) -> Outcome {
    serve(app, args).await
}

async fn serve(app: &App, args: ServeArgs) -> Outcome {
    // The flag of every command that has this name, given before `serve`, arrives here.
    if args.stdio.as_deref().is_some_and(|said| said != CLIENT) {
        return Err(Failure::usage(text!(
            "--stdio COMMAND describes a server that stands in no config, and `serve` serves those of \
             the config; after `serve`, --stdio has no value"
        )));
    }
    #[cfg(unix)]
    if args.background.is_some() {
        super::up::detach();
    }
    let may = |what| args.relay.contains(&what);
    app.answer_with(Arc::new(
        Relay::new()
            .with_elicitation(may(Asked::Elicitation))
            .with_sampling(may(Asked::Sampling))
            .with_roots(may(Asked::Roots)),
    ));
    let address = args.address()?;
    if let Some(url) = &args.advertise {
        GatewayBuilder::check_advertised(url).map_err(bad_advertise)?;
    }
    let mut following: Vec<LocalBoxFuture<'_, ()>> = Vec::new();
    let mut options = args
        .host
        .iter()
        .fold(HttpOptions::new(), HttpOptions::with_host)
        .with_limits(args.limits.limits());
    options = args
        .operator
        .iter()
        .fold(options, HttpOptions::with_operator);
    for proxy in &args.trusted_proxy {
        options = options
            .with_trusted_proxies(proxy)
            .map_err(|error| Failure::usage(text!("--trusted-proxy: {}", error.message())))?;
    }
    if let Some(path) = args.keys_file()? {
        let read = {
            let path = path.clone();
            move |texts: &[String]| files::access(&path, text_of(texts, 0))
        };
        let followed = followed(
            vec![(path.clone(), Holds::Rules)],
            read,
            AccessKeys::replace,
        )
        .await;
        let (keys, changes) = followed.map_err(|failure| {
            let how = text!("`mcpool serve key add NAME --keys {}` makes it", path);
            failure.with_maker_of(&path, how)
        })?;
        if keys.is_empty() {
            let why = "there is no key in it: make one with `mcpool serve key add`";
            return Err(not_used(&path, &why));
        }
        options = options.with_keys(keys);
        following.push(changes);
    }
    let mut server = HttpServer::new();
    if let Some(connections) = args.max_connections {
        server = server.with_max_connections(connections);
    }
    let speaks_tls = args.tls_cert.is_some();
    if let (Some(cert), Some(key)) = (args.tls_cert.clone(), args.tls_key.clone()) {
        let paths = vec![(cert.clone(), Holds::Rules), (key, Holds::Secrets)];
        let read = move |texts: &[String]| files::tls(&cert, text_of(texts, 0), text_of(texts, 1));
        let (tls, changes) = followed(paths, read, Tls::replace).await?;
        server = server.with_tls(tls);
        following.push(changes);
    }
    let mut sealing = None;
    if let Some(path) = args.key_file.clone() {
        let paths = vec![(path.clone(), Holds::Secrets)];
        let read = {
            let path = path.clone();
            move |texts: &[String]| files::sealing(&path, text_of(texts, 0))
        };
        let followed = followed(paths, read, SealingKeys::replace).await;
        let (keys, changes) = followed.map_err(|failure| failure.with_key_maker(&path))?;
        sealing = Some(keys);
        following.push(changes);
    }
    let audit = match args.audit.clone() {
        Some(path) => Some(off_thread(move || audit::open(&path)).await??),
        None => None,
    };
    let recorder = args.recorder()?;
    let oauth = args.oauth()?;
    let nesting = Nesting::enter(&app.global, address)?;
    #[cfg(feature = "nats")]
    let follows = args.fleet.nats.is_given();
    #[cfg(not(feature = "nats"))]
    let follows = false;
    let (loaded, watcher) = app.read_watched(!follows).await?;
    let profiles = self::profiles(&loaded);
    let scope = args.scope(&profiles)?;
    // Most of what can be wrong with the flags and the config was said: NATS may not be there for
    // long.
    #[cfg(feature = "nats")]
    let carrier = args.fleet.nats.connected(app).await?;
    app.prepare(&loaded).await?;
    let mut specs = loaded.servers;
    in_background(&mut specs);
    nesting.mark(&mut specs);
    // Before the start, so that no event is missed.
    let _news = news::told_of(app.manager().events());
    let manager = app.managed(specs).await?;
    let global = app.global.clone();
    let followed = profiles.clone();
    #[cfg(feature = "nats")]
    let mut shows = None;
    #[cfg(feature = "nats")]
    let pool = match carrier {
        Some(carrier) => {
            let pool = args.fleet.follow(carrier);
            let fleet = pool.clone();
            shows = Some(move || crate::fleet::shown(fleet.carrier(), &fleet.fleet()));
            following.push(Box::pin({
                let pool = pool.clone();
                async move { pool.run(manager).await }
            }));
            Some(pool)
        }
        None => None,
    };
    let _reloading = watcher.map(|watcher| {
        let follow = reload::follow(manager.clone(), watcher, move |loaded, specs| {
            followed.replace(&self::profiles(loaded));
            in_background(specs);
            nesting.mark(specs);
            global.set_connect_timeout(specs);
            #[cfg(feature = "nats")]
            if let Some(pool) = &pool {
                crate::fleet::add(pool, specs);
            }
        });
        AbortOnDropHandle::new(tokio::spawn(follow))
    });
    if let Some(profile) = &args.profile {
        options = options.with_only(profile.as_str());
    }
    if let Some(recorder) = recorder {
        let render = recorder.clone();
        options = options.with_metrics(move || render.render());
        following.push(Box::pin(tidy(recorder)));
    }
    if let Some(server) = oauth {
        options = options.with_oauth(server);
    }
    let mut builder = Gateway::builder(manager.clone())
        .with_down_servers(args.listed.into())
        .with_profiles(profiles)
        .with_tool_search(args.tool_search);
    #[cfg(feature = "nats")]
    if let Some(fleet) = shows {
        builder = builder.with_fleet(fleet);
    }
    if let Some(patience) = args.list_patience {
        builder = builder.with_list_patience(patience);
    }
    if let Some(keys) = sealing {
        builder = builder.with_keys(keys);
    }
    if let Some(url) = &args.advertise {
        builder = builder.with_advertised(url).map_err(bad_advertise)?;
    }
    if let Some(audit) = audit {
        builder = builder.with_audit(move |entry| audit.write(&entry));
    }
    let gateway = builder.build();
    let mut fronts: FuturesUnordered<LocalBoxFuture<'_, Result<(), Failure>>> =
        FuturesUnordered::new();
    if let Some(address) = address {
        let front = serve_http(&gateway, address, options, server, speaks_tls);
        fronts.push(Box::pin(front));
    }
    if args.stdio.is_some() {
        fronts.push(Box::pin(serve_stdio(&gateway, scope.clone())));
    }
    #[cfg(unix)]
    if let Some(path) = &args.socket {
        fronts.push(Box::pin(serve_socket(&gateway, path, scope.clone())));
    }
    #[cfg(unix)]
    if let Some(path) = args.background.clone() {
        fronts.push(Box::pin(super::up::serve(&gateway, path)));
    }
    let served = async {
        // The first front to end ends the others, unless all of them are ending.
        while let Some(served) = fronts.next().await {
            served?;
            if !gateway.is_draining() {
                break;
            }
        }
        Ok(Exit::Good)
    };
    let patience = args.drain.unwrap_or(DRAIN_TIMEOUT);
    let drained = async {
        app.on_end().cancelled().await;
        let left = match gateway.running() {
            0 => text!(""),
            running => text!(
                "; {} {} to finish",
                match running {
                    1 => "1 running request has".to_owned(),
                    more => format!("{more} running requests have"),
                },
                humantime::format_duration(patience).to_string()
            ),
        };
        out::tell(&text!("ending{}\n", left));
        if !gateway.drain(patience).await {
            tracing::warn!("requests that did not end in time were cancelled");
        }
        std::future::pending().await
    };
    tokio::select! {
        served = served => served,
        () = drained => Ok(Exit::Good),
        () = all(following) => Ok(Exit::Good),
    }
}

fn bad_advertise(error: Error) -> Failure {
    Failure::usage(text!("--advertise: {}", error.message()))
}

/// Servers connect behind the gateway, which is there at once. One that clients do not share is
/// connected in the pool for its lists alone.
pub(super) fn in_background(specs: &mut [ServerSpec]) {
    for spec in specs {
        match spec.start {
            StartMode::Lazy(Some(_)) => {}
            _ if spec.sharing == Sharing::Client => {
                spec.start = StartMode::FOR_LISTS;
            }
            StartMode::Eager => spec.start = StartMode::Background,
            _ => {}
        }
    }
}

/// Keeps what is measured small. Never ends.
async fn tidy(recorder: PrometheusHandle) {
    let mut ticks = tokio::time::interval(TIDY_PAUSE);
    loop {
        ticks.tick().await;
        recorder.run_upkeep();
    }
}

/// Follows files. Never ends.
async fn all(following: Vec<LocalBoxFuture<'_, ()>>) {
    futures::future::join_all(following).await;
    std::future::pending().await
}
