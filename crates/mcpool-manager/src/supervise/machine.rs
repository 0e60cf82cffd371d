//! The life of one connection as a pure state machine.
//!
//! [`step`] takes a state and an input and gives the next state and what is to be done. It knows
//! no clock (inputs carry `now`), no randomness (inputs carry a drawn number) and no I/O; the
//! supervisor feeds it and carries out its effects. Every state is tested with every input.

use std::time::Duration;

use mcpool_core::{DisconnectCause, HealthPolicy, ReconnectPolicy};
use tokio::time::Instant;

/// The longest pause that a `Retry-After` can ask for.
const LONGEST_PAUSE: Duration = Duration::from_secs(24 * 60 * 60);

/// The shortest time between two heartbeats, whatever the policy says.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);

/// Longer than anything waits.
const NEVER: Duration = Duration::from_secs(60 * 60 * 24 * 365);

/// The rules that one server's connection lives by.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    pub(crate) reconnect: ReconnectPolicy,
    pub(crate) health: HealthPolicy,
    /// Whether it is connected on first use only.
    pub(crate) lazy: bool,
    /// After how long without use it is closed.
    pub(crate) idle_timeout: Option<Duration>,
}

/// Where a connection stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct State {
    pub(crate) phase: Phase,
    /// How many delays were given since the last stable connection: the rung of the ladder.
    pub(crate) ladder: u32,
    /// How many connects were started since the last stable connection.
    pub(crate) attempts: u32,
    /// How many retries a caller asked for, until the next connection.
    pub(crate) wanted_retries: Option<u32>,
}

/// The phase of a connection's life.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Phase {
    Disabled,
    /// Not wanted; `held` when a caller disconnected it, so that a call does not connect it again.
    Idle {
        held: bool,
    },
    Connecting,
    Ready(Ready),
    Backoff {
        until: Instant,
    },
    AuthRequired,
    Dormant {
        until: Option<Instant>,
    },
    Closed,
}

/// What is remembered of a live connection.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Ready {
    pub(crate) since: Instant,
    /// Probes that failed in a row.
    pub(crate) misses: u32,
    /// When the probe that is under way was started.
    pub(crate) probing: Option<Instant>,
    /// When the next heartbeat is due; `None` when heartbeats are off.
    pub(crate) next_probe: Option<Instant>,
    /// When to look whether the connection is idle; `None` when it is never closed for that.
    pub(crate) idle_check: Option<Instant>,
}

/// Something that happened.
#[derive(Debug, Clone)]
pub(crate) struct Input {
    pub(crate) now: Instant,
    /// A number in `[0, 1)`, drawn for this input.
    pub(crate) random: f64,
    pub(crate) what: What,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum What {
    /// A call needs the server.
    Wanted,
    /// A caller asks for a connection, with so many retries at least.
    Connect {
        retries: Option<u32>,
    },
    /// A caller asks for the connection's end.
    Disconnect,
    Enable,
    Disable,
    Shutdown,
    /// The connect succeeded.
    Connected,
    /// The connect failed.
    ConnectFailed(Failure),
    /// The live connection ended by itself.
    Lost(DisconnectCause),
    ProbeOk,
    ProbeMissed,
    /// The probe could not be sent, for a reason of this program's own.
    ProbeImpossible,
    /// A caller met trouble: evidence, not proof.
    Reported,
    /// A caller wants to know the health now.
    Check,
    /// The server refused the credentials of a live connection.
    AuthRefused,
    /// The machine slept and woke.
    Resumed,
    /// The deadline that [`deadline`] gave has passed.
    Tick(Traffic),
}

/// What kind of failure a connect met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Trying again may help, not before the pause has passed.
    Transient { retry_after: Option<Duration> },
    /// Trying again the same way fails again.
    Permanent,
    /// Somebody has to log in.
    Auth,
}

/// The use of a live connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Traffic {
    /// When the server was last heard of, probes not counted.
    pub(crate) heard: Instant,
    /// When the last call ended.
    pub(crate) used: Instant,
    /// Whether a call is in flight.
    pub(crate) busy: bool,
}

/// Something to do.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Effect {
    /// Start a connect.
    Connect,
    /// Drop the connect that is under way.
    AbortConnect,
    /// Take the live connection out of use and close it.
    Close(DisconnectCause),
    /// Ask the server whether it lives. After a resume within the connect budget.
    Probe { budgeted: bool },
}

impl State {
    /// The state of a server that nobody has asked for yet.
    pub(crate) fn new(enabled: bool) -> Self {
        Self {
            phase: if enabled {
                Phase::Idle { held: false }
            } else {
                Phase::Disabled
            },
            ladder: 0,
            attempts: 0,
            wanted_retries: None,
        }
    }
}

/// When the next [`What::Tick`] is due.
pub(crate) fn deadline(state: &State) -> Option<Instant> {
    match &state.phase {
        Phase::Backoff { until } => Some(*until),
        Phase::Dormant { until } => *until,
        Phase::Ready(ready) => {
            let probe = ready.next_probe.filter(|_| ready.probing.is_none());
            match (probe, ready.idle_check) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            }
        }
        _ => None,
    }
}

/// The next state, and what is to be done.
pub(crate) fn step(rules: &Rules, mut state: State, input: Input) -> (State, Vec<Effect>) {
    let Input { now, random, what } = input;
    let mut effects = Vec::new();
    match (&mut state.phase, what) {
        // Terminal: nothing leads out of it.
        (Phase::Closed, _) => {}

        (phase, What::Shutdown) => {
            release(phase, DisconnectCause::Shutdown, &mut effects);
            state.phase = Phase::Closed;
        }
        (phase, What::Disable) => {
            release(phase, DisconnectCause::Requested, &mut effects);
            state.phase = Phase::Disabled;
            forget(&mut state);
        }
        (Phase::Disabled, What::Enable) => {
            if rules.lazy {
                state.phase = Phase::Idle { held: false };
            } else {
                connect(&mut state, &mut effects);
            }
        }
        // Only `Enable` leads out of it.
        (Phase::Disabled, _) | (_, What::Enable) => {}

        (phase, What::Disconnect) => {
            release(phase, DisconnectCause::Requested, &mut effects);
            state.phase = Phase::Idle { held: true };
            forget(&mut state);
        }

        (Phase::Idle { held: false }, What::Wanted) => connect(&mut state, &mut effects),
        (
            Phase::Idle { .. }
            | Phase::AuthRequired
            | Phase::Dormant { .. }
            | Phase::Backoff { .. },
            What::Connect { retries },
        ) => {
            // A caller's word is a new start; who waits already does not get less.
            let retries = retries.max(state.wanted_retries);
            forget(&mut state);
            state.wanted_retries = retries;
            connect(&mut state, &mut effects);
        }
        (Phase::Connecting, What::Connect { retries }) => {
            state.wanted_retries = state.wanted_retries.max(retries);
        }

        (Phase::Connecting, What::Connected) => {
            state.wanted_retries = None;
            state.phase = Phase::Ready(Ready {
                since: now,
                misses: 0,
                probing: None,
                next_probe: heartbeat(rules, now, random),
                idle_check: rules.idle_timeout.map(|idle| after(now, idle)),
            });
        }
        (Phase::Connecting, What::ConnectFailed(failure)) => match failure {
            Failure::Auth => state.phase = Phase::AuthRequired,
            Failure::Permanent => state.phase = Phase::Dormant { until: None },
            Failure::Transient { retry_after } => {
                climb(rules, &mut state, now, random, retry_after);
            }
        },

        (Phase::Ready(ready), What::Lost(cause)) => {
            let stable = now.duration_since(ready.since) >= rules.reconnect.reset_after;
            effects.push(Effect::Close(cause));
            lose(rules, &mut state, now, random, stable, &mut effects);
        }
        (Phase::Ready(_), What::AuthRefused) => {
            effects.push(Effect::Close(DisconnectCause::AuthRequired));
            state.phase = Phase::AuthRequired;
        }
        (Phase::Ready(ready), What::ProbeOk) => {
            ready.misses = 0;
            ready.probing = None;
            ready.next_probe = heartbeat(rules, now, random);
        }
        (Phase::Ready(ready), What::ProbeMissed) => {
            ready.misses = ready.misses.saturating_add(1);
            let started = ready.probing.take().unwrap_or(now);
            if ready.misses >= rules.health.misses.max(1) {
                let stable = now.duration_since(ready.since) >= rules.reconnect.reset_after;
                effects.push(Effect::Close(DisconnectCause::HeartbeatFailed));
                lose(rules, &mut state, now, random, stable, &mut effects);
            } else {
                // One timeout a miss: death is noticed within interval + timeout × misses,
                // and a probe that fails at once is not repeated at once.
                ready.next_probe = Some(after(started, rules.health.timeout).max(now));
            }
        }
        (Phase::Ready(ready), What::ProbeImpossible) => {
            ready.probing = None;
            ready.next_probe = heartbeat(rules, now, random);
        }
        (Phase::Ready(ready), What::Reported) => {
            // A caller's word counts as one miss but never as the last one.
            let most = rules.health.misses.max(1) - 1;
            ready.misses = ready.misses.saturating_add(1).min(most);
            probe(ready, now, false, &mut effects);
        }
        (Phase::Ready(ready), What::Check) => probe(ready, now, false, &mut effects),
        (Phase::Ready(ready), What::Resumed) => {
            // After a sleep one probe decides.
            ready.misses = rules.health.misses.max(1) - 1;
            probe(ready, now, true, &mut effects);
        }
        (Phase::Backoff { .. } | Phase::Dormant { until: Some(_) }, What::Resumed) => {
            connect(&mut state, &mut effects);
        }

        (Phase::Backoff { until }, What::Tick(_)) if now >= *until => {
            connect(&mut state, &mut effects);
        }
        (Phase::Dormant { until: Some(until) }, What::Tick(_)) if now >= *until => {
            connect(&mut state, &mut effects);
        }
        (Phase::Ready(ready), What::Tick(traffic)) => {
            if let (Some(check), Some(idle)) = (ready.idle_check, rules.idle_timeout)
                && now >= check
            {
                let used = if traffic.busy { now } else { traffic.used };
                if now >= after(used, idle) {
                    effects.push(Effect::Close(DisconnectCause::IdleTimeout));
                    state.phase = Phase::Idle { held: false };
                    forget(&mut state);
                    return (state, effects);
                }
                ready.idle_check = Some(after(used, idle));
            }
            if ready.probing.is_none() && ready.next_probe.is_some_and(|due| now >= due) {
                if ready.misses == 0 && now < after(traffic.heard, interval(rules)) {
                    // Traffic is better evidence than a probe.
                    ready.next_probe = Some(after(traffic.heard, interval(rules)));
                } else {
                    probe(ready, now, false, &mut effects);
                }
            }
        }

        // What comes too late, or means nothing here.
        (
            Phase::Idle { .. }
            | Phase::Connecting
            | Phase::Ready(_)
            | Phase::Backoff { .. }
            | Phase::AuthRequired
            | Phase::Dormant { .. },
            _,
        ) => {}
    }
    (state, effects)
}

/// Gives back what the phase holds.
fn release(phase: &Phase, cause: DisconnectCause, effects: &mut Vec<Effect>) {
    match phase {
        Phase::Connecting => effects.push(Effect::AbortConnect),
        Phase::Ready(_) => effects.push(Effect::Close(cause)),
        _ => {}
    }
}

/// Forgets the failures: the next connect is a first one.
fn forget(state: &mut State) {
    state.ladder = 0;
    state.attempts = 0;
    state.wanted_retries = None;
}

fn connect(state: &mut State, effects: &mut Vec<Effect>) {
    state.attempts = state.attempts.saturating_add(1);
    state.phase = Phase::Connecting;
    effects.push(Effect::Connect);
}

fn probe(ready: &mut Ready, now: Instant, budgeted: bool, effects: &mut Vec<Effect>) {
    if ready.probing.is_none() {
        ready.probing = Some(now);
        effects.push(Effect::Probe { budgeted });
    }
}

/// When the next heartbeat is due, ±10 %.
fn heartbeat(rules: &Rules, from: Instant, random: f64) -> Option<Instant> {
    rules
        .health
        .enabled
        .then(|| after(from, scaled(interval(rules), 0.9 + 0.2 * random)))
}

/// The time between two heartbeats. A shorter one would be a flood of probes.
fn interval(rules: &Rules) -> Duration {
    rules.health.interval.max(SHORTEST_INTERVAL)
}

/// A duration times a factor; the longest ones saturate.
fn scaled(duration: Duration, factor: f64) -> Duration {
    Duration::try_from_secs_f64(duration.as_secs_f64() * factor).unwrap_or(Duration::MAX)
}

/// A moment so long after another, or one that is as good as never.
pub(crate) fn after(moment: Instant, pause: Duration) -> Instant {
    moment.checked_add(pause).unwrap_or_else(|| moment + NEVER)
}

/// After the loss of a live connection: at once when it had been stable, otherwise up the ladder.
fn lose(
    rules: &Rules,
    state: &mut State,
    now: Instant,
    random: f64,
    stable: bool,
    effects: &mut Vec<Effect>,
) {
    if stable {
        state.ladder = 0;
        state.attempts = 0;
        if rules.reconnect.immediate_first && rules.reconnect.max_attempts != Some(0) {
            connect(state, effects);
            return;
        }
    }
    climb(rules, state, now, random, None);
}

/// One rung up: wait for the next attempt, or go dormant when the attempts are used up.
fn climb(
    rules: &Rules,
    state: &mut State,
    now: Instant,
    random: f64,
    retry_after: Option<Duration>,
) {
    let pause = retry_after.unwrap_or_default().min(LONGEST_PAUSE);
    let policy = &rules.reconnect;
    let allowed = policy
        .max_attempts
        .map(|max| max.max(state.wanted_retries.unwrap_or(0)));
    if allowed.is_some_and(|max| state.ladder >= max) {
        let until = policy
            .dormant_interval
            .map(|interval| after(now, scaled(interval, 0.8 + 0.4 * random).max(pause)));
        state.phase = Phase::Dormant { until };
        state.wanted_retries = None;
        return;
    }
    let delay = policy.delay(state.ladder, random).max(pause);
    state.ladder = state.ladder.saturating_add(1);
    state.phase = Phase::Backoff {
        until: after(now, delay),
    };
}

#[cfg(test)]
mod tests;
