//! `mcpool watch`: keeps every server of the config alive and shows how they are.

use std::time::{Instant, SystemTime};

use mcpool::{
    ConnectFailure, ConnectionManager, EventItem, EventKind, EventStream, Refresh, Requester as _,
    ServerName, ServerSpec, StartMode,
};
use ratatui::crossterm::event::{self, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use serde_json::Value;
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Duration, MissedTickBehavior},
};
use tokio_util::task::AbortOnDropHandle;

use super::{Outcome, tools::signature};
use crate::{
    app::App,
    args::WatchArgs,
    exit::{Exit, Failure},
    reload,
    render::{
        json, out,
        screen::{self, Details, Key, Screen, Wish},
        text::Text,
    },
    text,
};

/// How often the table is drawn when nothing happens: the seconds to the next retry run.
const REDRAW: Duration = Duration::from_millis(250);

/// How often the workers of a pool are compared with what they were.
#[cfg(feature = "nats")]
const FLEET_LOOK: Duration = Duration::from_secs(1);

/// Runs it until a key or a signal ends it.
pub(crate) async fn run(app: &App, args: WatchArgs) -> Outcome {
    #[cfg(feature = "nats")]
    let pool = match &args.server {
        // One server of the config, alone. Its login may be one of the pool.
        Some(_) => {
            if args.nats.keeps_tokens() {
                args.nats.connected(app).await?;
            }
            None
        }
        None => args
            .nats
            .connected(app)
            .await?
            .map(mcpool::nats::Follow::new),
    };
    #[cfg(feature = "nats")]
    let (loaded, watcher) = app.load_watched(pool.is_none()).await?;
    #[cfg(not(feature = "nats"))]
    let (loaded, watcher) = app.load_watched().await?;
    let mut specs = loaded.servers;
    if let Some(name) = &args.server
        && !specs.iter().any(|spec| spec.name.as_str() == name)
    {
        return Err(app.unknown_server(name, &specs));
    }
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
    if !out::is_terminal() {
        let mut watch = Watch::start(manager);
        return lines(events, fleet, |item| text_line(&mut watch.screen, item)).await;
    }
    table(app, manager, events, fleet).await
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
fn text_line(screen: &mut Screen, happened: Happened) -> Result<bool, Failure> {
    match happened {
        Happened::Event(EventItem::Missed(count)) => {
            out::print_line(&text!("{} events were missed", count))
        }
        Happened::Event(EventItem::Event(event)) => match screen.note(&event) {
            Some(line) => out::print_line(&line),
            None => Ok(true),
        },
        Happened::Event(_) => Ok(true),
        Happened::Fleet(lines, _) => {
            for line in lines {
                let line = screen.remark(SystemTime::now(), &line);
                if !out::print_line(&line)? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
    }
}

/// A watch for people. However it ends, by a key, a signal or an error, the terminal is given back
/// and a summary printed.
struct Watch<'m> {
    screen: Screen,
    manager: &'m ConnectionManager,
    started: Instant,
    has_table: bool,
}

impl<'m> Watch<'m> {
    fn start(manager: &'m ConnectionManager) -> Self {
        Self {
            screen: Screen::default(),
            manager,
            started: Instant::now(),
            has_table: false,
        }
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        if self.has_table {
            ratatui::restore();
        }
        let servers = self.manager.status_all();
        let summary = screen::summary(
            &self.screen,
            &servers,
            self.started.elapsed(),
            out::columns(),
        );
        // A reader that has gone away wants no summary.
        let _ = out::print(&summary);
    }
}

async fn table(
    app: &App,
    manager: &ConnectionManager,
    mut events: EventStream,
    mut fleet: FleetNews,
) -> Outcome {
    let own = |error: std::io::Error| Failure::internal(text!("the terminal: {}", error));
    let mut terminal = ratatui::try_init().map_err(own)?;
    let mut watch = Watch::start(manager);
    watch.has_table = true;
    let screen = &mut watch.screen;
    let mut pressed = keys();
    // What keys ask for, and first heartbeats. Dropped with the table.
    let mut errands: JoinSet<()> = JoinSet::new();
    let mut tick = tokio::time::interval(REDRAW);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let servers = manager.status_all();
        let details = match screen.detailed() {
            Some(name) => details(app, manager, name).await,
            None => None,
        };
        terminal
            .draw(|frame| screen.draw(frame, &servers, details.as_ref(), SystemTime::now()))
            .map_err(own)?;
        tokio::select! {
            _ = tick.tick() => {}
            key = pressed.recv() => match key {
                None => return Ok(Exit::Good),
                Some(Pressed::Interrupt) => return Ok(Exit::Signal(2)),
                Some(Pressed::Redraw) => {}
                Some(Pressed::Key(key)) => match screen.press(key, &servers) {
                    Wish::Draw => {}
                    Wish::Leave => return Ok(Exit::Good),
                    wish => run_errand(manager, wish, &mut errands),
                },
            },
            Some(_) = errands.join_next() => {}
            happened = fleet.next() => if let Happened::Fleet(lines, _) = happened {
                for line in lines {
                    screen.remark(SystemTime::now(), &line);
                }
            },
            item = events.recv() => match item {
                None => return Ok(Exit::Good),
                Some(EventItem::Event(event)) => {
                    if let (EventKind::Connected { .. }, Some(name)) = (&event.kind, &event.server) {
                        first_heartbeat(manager, name, &mut errands);
                    }
                    screen.note(&event);
                }
                Some(_) => {}
            },
        }
    }
}

/// Does what a key asked for, beside the table. How it went is reported by events.
fn run_errand(manager: &ConnectionManager, wish: Wish, errands: &mut JoinSet<()>) {
    let (Wish::Retry(name) | Wish::Enable(name) | Wish::Disable(name)) = &wish else {
        return;
    };
    let Ok(server) = manager.server(name.as_str()) else {
        return;
    };
    errands.spawn(async move {
        let _told_by_events = match wish {
            Wish::Retry(_) => server.connect().await,
            Wish::Enable(_) => server.enable().await,
            _ => server.disable().await,
        };
    });
}

/// Probes a server that is connected, so that its latency is seen at once.
fn first_heartbeat(manager: &ConnectionManager, name: &ServerName, errands: &mut JoinSet<()>) {
    if let Ok(server) = manager.server(name.as_str()) {
        errands.spawn(async move {
            let _told_by_events = server.health_check().await;
        });
    }
}

/// What is known of a server, from memory alone.
async fn details(app: &App, manager: &ConnectionManager, name: &ServerName) -> Option<Details> {
    let server = manager.server(name.as_str()).ok()?;
    let status = server.status().ok()?;
    let client = server.client().ok();
    let info = client.as_ref().and_then(|client| client.info());
    let tools = server.tools(Refresh::Cached).await.ok();
    let error = status.last_error.as_ref();
    let evidence = match &info {
        Some(info) => Some(info.evidence.clone()),
        None => error.and_then(ConnectFailure::evidence_of).cloned(),
    };
    Some(Details {
        reached_by: app.reached_by(name).to_owned(),
        peer: info.map(|info| format!("{} {}", info.peer.name, info.peer.version)),
        tools: tools
            .map(|tools| {
                tools
                    .items
                    .iter()
                    .map(|tool| signature(&tool.name, tool))
                    .collect()
            })
            .unwrap_or_default(),
        evidence,
        stderr: status.stderr_tail,
        skipped: client
            .map(|client| client.snapshot().diagnostics.skipped_samples)
            .unwrap_or_default(),
    })
}

/// What came from the keyboard, or another event of the terminal.
enum Pressed {
    Key(Key),
    Interrupt,
    Redraw,
}

/// The keys, read on a thread of their own, which ends with the program.
fn keys() -> mpsc::Receiver<Pressed> {
    let (sender, receiver) = mpsc::channel(16);
    std::thread::spawn(move || {
        while let Ok(event) = event::read() {
            let pressed = match event {
                event::Event::Key(key) if key.kind != KeyEventKind::Release => read_key(key),
                event::Event::Resize(..) => Some(Pressed::Redraw),
                _ => None,
            };
            if let Some(pressed) = pressed
                && sender.blocking_send(pressed).is_err()
            {
                break;
            }
        }
    });
    receiver
}

fn read_key(key: KeyEvent) -> Option<Pressed> {
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return (key.code == KeyCode::Char('c')).then_some(Pressed::Interrupt);
    }
    let key = match key.code {
        KeyCode::Char(c) => Key::Char(c),
        KeyCode::Enter => Key::Enter,
        KeyCode::Esc => Key::Escape,
        KeyCode::Backspace => Key::Backspace,
        KeyCode::Up => Key::Up,
        KeyCode::Down => Key::Down,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown => Key::PageDown,
        KeyCode::Home => Key::Home,
        KeyCode::End => Key::End,
        _ => return None,
    };
    Some(Pressed::Key(key))
}
