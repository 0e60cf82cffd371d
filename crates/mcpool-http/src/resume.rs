//! Going on with an answer's event stream after it broke off (MCP 2025-11-25, "Resumability and
//! Redelivery").

use std::{sync::Arc, time::Duration};

use http::HeaderValue;
use mcpool_core::{Error, ErrorKind, Result};
use mcpool_http_pool::{
    Events, PeerRequest, ServerEvent, drain,
    http::{Method, StatusCode},
    status_error,
};
use tokio::time::sleep;

use crate::{
    headers::{LAST_EVENT_ID, is_event_stream},
    link::Link,
    session::Session,
};

/// How often in a row a stream that brings no message is asked for again.
const MAX_FRUITLESS: u32 = 10;
/// The pauses when the server asks for none: soon, then less often.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// The longest pause of the server's that is kept.
const LONGEST_RETRY: Duration = Duration::from_secs(300);

/// Where to go on when a stream ends early.
#[derive(Debug, Default)]
pub(crate) struct Resumption {
    last_event_id: Option<String>,
    retry: Option<Duration>,
    fruitless: u32,
}

impl Resumption {
    /// An event came.
    pub(crate) fn event(&mut self, event: &ServerEvent) {
        self.last_event_id = (!event.id.is_empty()).then(|| event.id.clone());
        if event.retry.is_some() {
            self.retry = event.retry;
        }
        if !event.data.is_empty() {
            self.fruitless = 0;
        }
    }

    /// The pause before the stream is asked for again; `None` when it cannot be, or was asked for
    /// often enough.
    fn next_pause(&mut self) -> Option<Duration> {
        self.last_event_id.as_ref()?;
        if self.fruitless >= MAX_FRUITLESS {
            return None;
        }
        let own = FIRST_PAUSE
            .saturating_mul(2_u32.saturating_pow(self.fruitless))
            .min(LONGEST_PAUSE);
        self.fruitless += 1;
        Some(match self.retry {
            Some(retry) if self.fruitless == 1 => retry.min(LONGEST_RETRY),
            Some(retry) => retry.min(LONGEST_RETRY).max(own),
            None => own,
        })
    }

    /// Asks for the rest of the stream until the server gives it.
    ///
    /// # Errors
    /// `lost`, when it cannot be had.
    pub(crate) async fn resume(
        &mut self,
        link: &Arc<Link>,
        session: &Session,
        lost: Error,
    ) -> Result<Events> {
        while let Some(pause) = self.next_pause() {
            sleep(pause).await;
            let Some(id) = self.last_event_id.as_deref() else {
                break;
            };
            let Ok(id) = HeaderValue::from_str(id) else {
                break;
            };
            let request = PeerRequest::new(Method::GET, link.peer.url().clone())
                .with_base(Arc::new(session.gets(&link.peer)))
                .with_header(LAST_EVENT_ID, id)
                .with_repeatable(true);
            let response = match link.peer.send(&request).await {
                Ok(response) => response,
                Err(error) => {
                    link.notes.error(&error);
                    link.verify(&error).await;
                    match error.kind() {
                        ErrorKind::AuthRequired | ErrorKind::Forbidden => return Err(lost),
                        _ => continue,
                    }
                }
            };
            link.heard();
            if response.status().is_success() && is_event_stream(response.headers()) {
                return Ok(Events::new(
                    response,
                    link.bounds.message,
                    link.bounds.read_idle,
                ));
            }
            let status = response.status();
            link.answered(status, &[]);
            link.notes.error(&status_error(status, response.headers()));
            drain(response).await;
            if !(status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS) {
                return Err(lost);
            }
        }
        Err(lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(id: &str, data: &str, retry: Option<u64>) -> ServerEvent {
        let mut event = ServerEvent::default();
        event.id = id.to_owned();
        event.data = data.to_owned();
        event.retry = retry.map(Duration::from_millis);
        event
    }

    fn pauses(resumption: &mut Resumption) -> Vec<u128> {
        std::iter::from_fn(|| resumption.next_pause())
            .map(|pause| pause.as_millis())
            .collect()
    }

    #[test]
    fn nothing_is_resumed_without_an_event_id() {
        let mut resumption = Resumption::default();
        assert_eq!(resumption.next_pause(), None);
        resumption.event(&event("", "{}", Some(5)));
        assert_eq!(resumption.next_pause(), None);
        resumption.event(&event("1", "", None));
        assert!(resumption.next_pause().is_some());
        resumption.event(&event("", "", None));
        assert_eq!(resumption.next_pause(), None);
    }

    #[test]
    fn the_servers_pause_is_kept_and_the_attempts_are_bounded() {
        let mut resumption = Resumption::default();
        resumption.event(&event("1", "", None));
        let own = [
            100, 200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000, 10_000,
        ];
        assert_eq!(pauses(&mut resumption), own);
        resumption.event(&event("2", "{}", Some(500)));
        let with_retry = [
            500, 500, 500, 800, 1_600, 3_200, 6_400, 10_000, 10_000, 10_000,
        ];
        assert_eq!(pauses(&mut resumption), with_retry);
        resumption.event(&event("3", "{}", Some(u64::MAX)));
        assert_eq!(resumption.next_pause(), Some(LONGEST_RETRY));
        // An event without a message is no fruit.
        resumption.event(&event("4", "", Some(0)));
        assert_eq!(resumption.next_pause(), Some(Duration::from_millis(200)));
    }
}
