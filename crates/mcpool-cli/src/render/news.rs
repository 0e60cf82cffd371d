//! What the operator of a program that serves has to know of its servers, on standard error: which
//! do not come up, which are lost and come back, and a config that is not used.

use std::{collections::BTreeMap, time::SystemTime};

use mcpool::{Event, EventItem, EventKind, EventStream, ServerName, StateKind};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    render::{
        chronicle::{Chronicle, is_loss, timed},
        out,
        text::Text,
    },
    text,
};

/// Says what happens, from the moment that the events begin, until the handle is dropped.
pub(crate) fn told_of(mut events: EventStream) -> AbortOnDropHandle<()> {
    let telling = async move {
        let mut news = News::default();
        while let Some(item) = events.recv().await {
            let line = match item {
                EventItem::Event(event) => news.of(&event).map(|words| timed(event.at, &words)),
                EventItem::Missed(count) => {
                    news.missed();
                    let words = text!("{} events were missed", count);
                    Some(timed(SystemTime::now(), &words))
                }
                _ => None,
            };
            if let Some(line) = line {
                out::tell(&text!("{}\n", line));
            }
        }
    };
    AbortOnDropHandle::new(tokio::spawn(telling))
}

#[derive(Default)]
struct News {
    chronicle: Chronicle,
    said: BTreeMap<ServerName, Said>,
}

/// What was said of the trouble that a server is in.
#[derive(Default, PartialEq, Eq)]
struct Said {
    is_lost: bool,
    /// Why it could not be connected, without its stderr: a time may stand there.
    failure: Option<String>,
    state: Option<StateKind>,
}

impl News {
    /// Events were missed: any server whose trouble was said may have come back, and be lost again.
    fn missed(&mut self) {
        for said in self.said.values_mut() {
            *said = Said {
                is_lost: true,
                ..Said::default()
            };
        }
    }

    /// What is to be said of an event, if it is news.
    fn of(&mut self, event: &Event) -> Option<Text> {
        let words = self.chronicle.note(event);
        let Some(server) = &event.server else {
            return words.filter(|_| matches!(event.kind, EventKind::ConfigRejected { .. }));
        };
        let said = self.said.entry(server.clone()).or_default();
        let is_news = match &event.kind {
            EventKind::Connected { .. } => std::mem::take(said) != Said::default(),
            EventKind::ConnectFailed { error, .. } => {
                let failure = Some(error.message().to_owned());
                std::mem::replace(&mut said.failure, failure.clone()) != failure
            }
            EventKind::StateChanged {
                to: to @ (StateKind::AuthRequired | StateKind::Dormant),
                ..
            } => said.state.replace(*to) != Some(*to),
            EventKind::StateChanged {
                to: StateKind::Disabled | StateKind::Closed,
                ..
            }
            | EventKind::Reconfigured => {
                self.said.remove(server);
                false
            }
            EventKind::Disconnected { cause, .. } if is_loss(*cause) => {
                said.is_lost = true;
                true
            }
            _ => false,
        };
        words.filter(|_| is_news)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use mcpool::{DisconnectCause, Error, ErrorKind, TransportKind};

    fn failed(why: &str, attempt: u32) -> EventKind {
        EventKind::ConnectFailed {
            attempt,
            elapsed: Duration::ZERO,
            error: Error::new(ErrorKind::Connect, why.to_owned()),
        }
    }

    fn connected() -> EventKind {
        EventKind::Connected {
            transport: TransportKind::Stdio,
            elapsed: Duration::ZERO,
            attempt: 1,
        }
    }

    fn now(to: StateKind) -> EventKind {
        let from = StateKind::Connecting;
        EventKind::StateChanged { from, to }
    }

    #[test]
    fn each_trouble_is_said_once_until_it_is_over() {
        let mut news = News::default();
        let server: ServerName = "memory".parse().unwrap();
        let mut said = |kind| {
            let words = news.of(&Event::now(server.clone(), kind));
            words.map_or(String::new(), |words| words.as_str().to_owned())
        };
        // That all is well is no news.
        assert_eq!(said(connected()), "");
        let lost = EventKind::Disconnected {
            cause: DisconnectCause::ProcessExited,
            uptime: Duration::from_secs(1),
            error: None,
        };
        assert_eq!(said(lost), "memory died, was up 1.0 s");
        assert!(said(failed("refused", 1)).ends_with("(attempt 1): refused"));
        assert_eq!(said(now(StateKind::Backoff)), "");
        assert_eq!(said(failed("refused", 2)), "");
        assert!(said(failed("other", 3)).ends_with("(attempt 3): other"));
        assert!(said(now(StateKind::Dormant)).contains("now and then"));
        assert_eq!(said(failed("other", 4)), "");
        assert_eq!(said(now(StateKind::Dormant)), "");
        assert!(said(connected()).starts_with("memory is back after"));
        assert!(said(failed("other", 1)).ends_with("(attempt 1): other"));
        assert_eq!(
            said(now(StateKind::AuthRequired)),
            "memory needs a login: `mcpool login memory`"
        );
        // It came up, and had not been lost.
        assert!(said(connected()).starts_with("memory is connected over"));
        let closed = EventKind::Disconnected {
            cause: DisconnectCause::IdleTimeout,
            uptime: Duration::from_secs(1),
            error: None,
        };
        assert_eq!(said(closed), "");
    }

    #[test]
    fn a_config_that_is_not_used_is_said() {
        let error = Error::new(ErrorKind::InvalidSpec, "line 1: no JSON");
        let event = Event::now(None, EventKind::ConfigRejected { error });
        let words = News::default().of(&event).unwrap();
        assert_eq!(
            words.as_str(),
            "the changed config is not used: line 1: no JSON"
        );
    }
}
