//! `mcpool watch`: keeps every server of the config alive and shows how they are.

#[cfg(feature = "screen")]
mod table;
#[cfg(feature = "screen")]
pub(crate) mod terminal;

#[cfg(feature = "nats")]
use std::time::Duration;
use std::time::{Instant, SystemTime};

use mcpool::{ConnectionManager, EventItem, EventStream, ServerSpec, StartMode};
use serde_json::Value;
#[cfg(feature = "nats")]
use tokio::time::MissedTickBehavior;
use tokio_util::task::AbortOnDropHandle;

use super::Outcome;
use crate::{
    app::App,
    args::WatchArgs,
    exit::{Exit, Failure},
    reload,
    render::{
        chronicle::{self, Chronicle, timed},
        json, out,
        text::Text,
    },
    text,
};

/// How often the workers of a pool are compared with what they were.
#[cfg(feature = "nats")]
const FLEET_LOOK: Duration = Duration::from_secs(1);

/// Runs it until a key or a signal ends it.
pub(crate) async fn run(app: &App, args: WatchArgs) -> Outcome {
    #[cfg(feature = "nats")]
    let follows = args.server.is_none() && args.nats.is_given();
    #[cfg(not(feature = "nats"))]
    let follows = false;
    let (loaded, watcher) = app.read_watched(!follows).await?;
    if let Some(name) = &args.server
        && !loaded.servers.iter().any(|spec| spec.name.as_str() == name)
    {
        return Err(app.unknown_server(name, &loaded.servers));
    }
    #[cfg(feature = "nats")]
    let pool = match follows {
        true => args.nats.connected(app).await?,
        false => {
            // One server of the config, alone. Its login may be one of the pool.
            if args.nats.keeps_tokens() {
                args.nats.connected(app).await?;
            }
            None
        }
    };
    #[cfg(feature = "nats")]
    let pool = pool.map(mcpool::nats::Follow::new);
    app.prepare(&loaded).await?;
    let mut specs = loaded.servers;
    adjust(&mut specs, &args);
    // Before the start, so that no event is missed.
    let events = app.manager().events();
    let manager = app.managed(specs).await?;
    #[cfg(feature = "nats")]
    let fleet = FleetNews::of(pool.as_ref());
    #[cfg(not(feature = "nats"))]
    let fleet = FleetNews;
    #[cfg(feature = "nats")]
    let _following = pool.clone().map(|pool| {
        let manager = manager.clone();
        AbortOnDropHandle::new(tokio::spawn(async move { pool.run(&manager).await }))
    });
    let _reloading = watcher.map(|watcher| {
        let global = app.global.clone();
        let follow = reload::follow(manager.clone(), watcher, move |_, specs| {
            adjust(specs, &args);
            global.set_connect_timeout(specs);
            #[cfg(feature = "nats")]
            if let Some(pool) = &pool {
                crate::fleet::add(pool, specs);
            }
        });
        AbortOnDropHandle::new(tokio::spawn(follow))
    });
    if app.global.json {
        return lines(events, fleet, json_line).await;
    }
    #[cfg(feature = "screen")]
    if out::is_terminal() {
        return table::show(app, manager, events, fleet).await;
    }
    let mut watch = Watch::<Chronicle>::start(manager);
    lines(events, fleet, |item| text_line(&mut watch.noted, item)).await
}

/// What is shown as it happens.
enum Happened {
    Event(EventItem),
    /// The workers are others, or other, than they were: in words, and as they are.
    #[cfg_attr(not(feature = "nats"), allow(dead_code, reason = "no fleet"))]
    Fleet(Vec<Text>, Value),
}

/// What changes among the workers of a pool.
#[cfg(feature = "nats")]
struct FleetNews {
    pool: Option<mcpool::nats::Follow>,
    ticks: tokio::time::Interval,
    before: mcpool::gateway::Fleet,
}

/// There are no workers.
#[cfg(not(feature = "nats"))]
struct FleetNews;

impl FleetNews {
    #[cfg(feature = "nats")]
    fn of(pool: Option<&mcpool::nats::Follow>) -> Self {
        let before = mcpool::gateway::Fleet {
            connected: true,
            ..mcpool::gateway::Fleet::default()
        };
        let mut ticks = tokio::time::interval(FLEET_LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            pool: pool.cloned(),
            ticks,
            before,
        }
    }

    /// Waits for a change. Cancel-safe.
    #[cfg(feature = "nats")]
    async fn next(&mut self) -> Happened {
        let Some(pool) = &self.pool else {
            return std::future::pending().await;
        };
        loop {
            self.ticks.tick().await;
            let fleet = crate::fleet::shown(pool.carrier(), &pool.fleet());
            let lines = crate::fleet::changes(&self.before, &fleet);
            if !lines.is_empty() {
                let value = serde_json::json!(fleet);
                self.before = fleet;
                return Happened::Fleet(lines, value);
            }
        }
    }

    #[cfg(not(feature = "nats"))]
    async fn next(&mut self) -> Happened {
        std::future::pending().await
    }
}

fn adjust(specs: &mut Vec<ServerSpec>, args: &WatchArgs) {
    if let Some(only) = &args.server {
        specs.retain(|spec| spec.name.as_str() == only);
    }
    for spec in specs {
        if spec.start == StartMode::Eager {
            // Connect behind the table, so that one sees it happen.
            spec.start = StartMode::Background;
        }
        if let Some(every) = args.every {
            spec.policy.health.interval = every;
        }
    }
}

/// One line for each event, until the manager is shut down.
async fn lines(
    mut events: EventStream,
    mut fleet: FleetNews,
    mut show: impl FnMut(Happened) -> Result<bool, Failure>,
) -> Outcome {
    loop {
        let happened = tokio::select! {
            item = events.recv() => match item {
                Some(item) => Happened::Event(item),
                None => break,
            },
            fleet = fleet.next() => fleet,
        };
        if !show(happened)? {
            break;
        }
    }
    Ok(Exit::Good)
}

/// An event for programs.
fn json_line(happened: Happened) -> Result<bool, Failure> {
    match happened {
        Happened::Event(EventItem::Missed(count)) => out::json_line(json::missed(count)),
        Happened::Event(EventItem::Event(event)) => out::json_line(json::event(&event)),
        Happened::Event(_) => Ok(true),
        Happened::Fleet(_, fleet) => {
            let at = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
            out::json_line(serde_json::json!({ "event": "fleet", "at": at, "fleet": fleet }))
        }
    }
}

/// An event for people who have no terminal.
fn text_line(chronicle: &mut Chronicle, happened: Happened) -> Result<bool, Failure> {
    match happened {
        Happened::Event(EventItem::Missed(count)) => {
            out::print_line(&text!("{} events were missed", count))
        }
        Happened::Event(EventItem::Event(event)) => match chronicle.note(&event) {
            Some(words) => out::print_line(&timed(event.at, &words)),
            None => Ok(true),
        },
        Happened::Event(_) => Ok(true),
        Happened::Fleet(lines, _) => {
            for line in lines {
                if !out::print_line(&timed(SystemTime::now(), &line))? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
    }
}

/// A watch for people. However it ends, by a key, a signal or an error, a summary is printed.
struct Watch<'m, N: AsRef<Chronicle>> {
    /// What was taken note of.
    noted: N,
    manager: &'m ConnectionManager,
    started: Instant,
}

impl<'m, N: AsRef<Chronicle> + Default> Watch<'m, N> {
    fn start(manager: &'m ConnectionManager) -> Self {
        Self {
            noted: N::default(),
            manager,
            started: Instant::now(),
        }
    }
}

impl<N: AsRef<Chronicle>> Drop for Watch<'_, N> {
    fn drop(&mut self) {
        let servers = self.manager.status_all();
        let summary = chronicle::summary(
            self.noted.as_ref(),
            &servers,
            self.started.elapsed(),
            out::columns(),
        );
        // A reader that has gone away wants no summary.
        let _ = out::print(&summary);
    }
}
