//! The live table of `mcpool watch`: what it shows and what its keys do. What is drawn is a
//! function of this, of the servers' states and of the time.

mod details;
mod draw;
mod rows;

use std::{collections::VecDeque, time::SystemTime};

use mcpool::{Event, EventKind, ServerName, ServerStatus};

pub(crate) use details::Details;

use super::{
    chronicle::{self, Chronicle},
    text::Text,
};

/// How many events are kept.
const MAX_EVENTS: usize = 500;

/// How long a filter may be.
const MAX_FILTER_CHARS: usize = 100;

/// What was reported.
#[derive(Debug)]
struct Reported {
    server: Option<ServerName>,
    is_heartbeat: bool,
    line: Text,
}

/// What fills the screen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum View {
    /// The table and the events.
    #[default]
    Servers,
    /// One server, from this line on.
    Details { scroll: usize },
    /// The keys.
    Help,
}

/// What the screen remembers beside the states themselves.
#[derive(Debug, Default)]
pub(crate) struct Screen {
    chronicle: Chronicle,
    events: VecDeque<Reported>,
    view: View,
    selected: Option<ServerName>,
    filter: String,
    is_typing: bool,
    shows_heartbeats: bool,
}

/// A key, as far as the screen knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Key {
    Char(char),
    Enter,
    Escape,
    Backspace,
    Up,
    Down,
    PageUp,
    PageDown,
    Home,
    End,
}

/// What a key asks of the program.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// To draw.
    Draw,
    /// To shut down and leave.
    Leave,
    /// To connect this server now.
    Retry(ServerName),
    /// To enable it.
    Enable(ServerName),
    /// To disable it.
    Disable(ServerName),
}

/// How far a page is.
const PAGE: usize = 10;

impl Screen {
    /// Takes note of an event.
    pub(crate) fn note(&mut self, event: &Event) {
        if let Some(words) = self.chronicle.note(event) {
            let is_heartbeat = matches!(event.kind, EventKind::HeartbeatOk { .. });
            self.keep(event.at, event.server.clone(), is_heartbeat, &words);
        }
    }

    /// Takes note of something that is no event of a server.
    pub(crate) fn remark(&mut self, at: SystemTime, words: &Text) {
        self.keep(at, None, false, words);
    }

    fn keep(
        &mut self,
        at: SystemTime,
        server: Option<ServerName>,
        is_heartbeat: bool,
        words: &Text,
    ) {
        self.events.push_back(Reported {
            server,
            is_heartbeat,
            line: chronicle::timed(at, words),
        });
        if self.events.len() > MAX_EVENTS {
            self.events.pop_front();
        }
    }

    /// The server whose details are shown.
    pub(crate) fn detailed(&self) -> Option<&ServerName> {
        match self.view {
            View::Details { .. } => self.selected.as_ref(),
            _ => None,
        }
    }

    /// Does what a key says.
    pub(crate) fn press(&mut self, key: Key, servers: &[ServerStatus]) -> Wish {
        if self.is_typing {
            self.type_filter(key);
            self.select(0, servers);
            return Wish::Draw;
        }
        match (key, self.view) {
            (Key::Char('q'), View::Servers) => return Wish::Leave,
            (Key::Char('q') | Key::Escape, _) if self.view != View::Servers => {
                self.view = View::Servers;
            }
            (Key::Escape, _) => self.filter.clear(),
            (Key::Char('?'), View::Help) => self.view = View::Servers,
            (Key::Char('?'), _) => self.view = View::Help,
            (Key::Char('h'), _) => self.shows_heartbeats = !self.shows_heartbeats,
            (Key::Char('/'), View::Servers) => self.is_typing = true,
            (Key::Enter, View::Servers) if self.selected.is_some() => {
                self.view = View::Details { scroll: 0 };
            }
            (Key::Enter, _) => self.view = View::Servers,
            (Key::Char('r'), View::Servers | View::Details { .. }) => {
                return self.wish(Wish::Retry);
            }
            (Key::Char('d'), View::Servers | View::Details { .. }) => {
                return self.wish(Wish::Disable);
            }
            (Key::Char('e'), View::Servers | View::Details { .. }) => {
                return self.wish(Wish::Enable);
            }
            (key, View::Servers) => self.select(distance(key), servers),
            (key, View::Details { scroll }) => {
                let scroll = scroll.saturating_add_signed(distance(key));
                self.view = View::Details { scroll };
            }
            (_, View::Help) => {}
        }
        Wish::Draw
    }

    fn wish(&self, wish: impl Fn(ServerName) -> Wish) -> Wish {
        self.selected.clone().map_or(Wish::Draw, wish)
    }

    fn type_filter(&mut self, key: Key) {
        match key {
            Key::Char(c) if self.filter.chars().count() < MAX_FILTER_CHARS => self.filter.push(c),
            Key::Backspace => {
                self.filter.pop();
            }
            Key::Enter => self.is_typing = false,
            Key::Escape => {
                self.is_typing = false;
                self.filter.clear();
            }
            _ => {}
        }
    }

    /// Moves the selection by so many rows; it stays where there is a row.
    fn select(&mut self, by: isize, servers: &[ServerStatus]) {
        let shown = self.shown(servers);
        let now = self.selected_row(&shown);
        let last = shown.len().saturating_sub(1);
        let next = now.saturating_add_signed(by).min(last);
        self.selected = shown.get(next).map(|server| server.name.clone());
    }

    /// The row of the selection; the first when its server is gone.
    fn selected_row(&self, shown: &[&ServerStatus]) -> usize {
        let selected = self.selected.as_ref();
        let row = shown
            .iter()
            .position(|server| Some(&server.name) == selected);
        row.unwrap_or_default()
    }

    /// The servers that the filter lets through: by name or by state.
    fn shown<'s>(&self, servers: &'s [ServerStatus]) -> Vec<&'s ServerStatus> {
        let wanted = self.filter.to_lowercase();
        let fits = |server: &&ServerStatus| {
            server.name.as_str().to_lowercase().contains(&wanted)
                || chronicle::state_word(server).contains(wanted.as_str())
        };
        servers.iter().filter(fits).collect()
    }

    /// The events that are shown: heartbeats only when they are wanted.
    fn shown_events(&self) -> impl DoubleEndedIterator<Item = &Reported> {
        let wanted = |event: &&Reported| self.shows_heartbeats || !event.is_heartbeat;
        self.events.iter().filter(wanted)
    }

    /// Draws everything.
    pub(crate) fn draw(
        &mut self,
        frame: &mut ratatui::Frame<'_>,
        servers: &[ServerStatus],
        details: Option<&Details>,
        now: SystemTime,
    ) {
        if self.selected.is_none() {
            self.select(0, servers);
        }
        self.view = draw::draw(self, frame, servers, details, now);
    }
}

impl AsRef<Chronicle> for Screen {
    fn as_ref(&self) -> &Chronicle {
        &self.chronicle
    }
}

/// How far a key moves.
fn distance(key: Key) -> isize {
    let page = PAGE.cast_signed();
    match key {
        Key::Up | Key::Char('k') => -1,
        Key::Down | Key::Char('j') => 1,
        Key::PageUp => -page,
        Key::PageDown => page,
        Key::Home => isize::MIN,
        Key::End => isize::MAX,
        _ => 0,
    }
}

#[cfg(test)]
mod tests;
