//! The live table of `mcpool watch`, where there is a terminal.

use std::time::{Duration, SystemTime};

use mcpool::{
    ConnectFailure, ConnectionManager, EventItem, EventKind, EventStream, Refresh, Requester as _,
    ServerName,
};
use ratatui::crossterm::event::{self, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use tokio::{sync::mpsc, task::JoinSet, time::MissedTickBehavior};

use super::{FleetNews, Happened, Watch, terminal::Terminal};
use crate::{
    app::App,
    commands::{Outcome, tools::signature},
    exit::{Exit, Failure},
    render::screen::{Details, Key, Screen, Wish},
    text,
};

/// How often the table is drawn when nothing happens: the seconds to the next retry run.
const REDRAW: Duration = Duration::from_millis(250);

/// Shows the table until a key or a signal ends it.
pub(super) async fn show(
    app: &App,
    manager: &ConnectionManager,
    mut events: EventStream,
    mut fleet: FleetNews,
) -> Outcome {
    let own = |error: std::io::Error| Failure::internal(text!("the terminal: {}", error));
    let taken = Terminal::take().map_err(own)?;
    let mut watch = Watch::<Screen>::start(manager);
    // Dropped before the watch, whose summary is for the terminal as it was.
    let mut terminal = taken;
    let screen = &mut watch.noted;
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
            .draw(screen, &servers, details.as_ref())
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
