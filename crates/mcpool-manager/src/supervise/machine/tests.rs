#![allow(clippy::unwrap_used, clippy::expect_used)]

use mcpool_core::Jitter;
use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn rules() -> Rules {
    let mut reconnect = ReconnectPolicy::default();
    reconnect.base = SECOND;
    reconnect.jitter = Jitter::None;
    reconnect.max_attempts = Some(3);
    Rules {
        reconnect,
        health: HealthPolicy::default(),
        lazy: false,
        idle_timeout: None,
    }
}

/// The moment of every input of the table; connections are younger or older than it.
fn start() -> Instant {
    // One for all: inputs and states of one test must share their zero.
    static ZERO: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    *ZERO.get_or_init(|| Instant::now() + Duration::from_secs(1_000_000))
}

fn at(now: Instant, what: What) -> Input {
    Input {
        now,
        random: 0.5,
        what,
    }
}

fn quiet(now: Instant) -> What {
    What::Tick(Traffic {
        heard: now - Duration::from_secs(1000),
        used: now - Duration::from_secs(1000),
        busy: false,
    })
}

fn state(phase: Phase) -> State {
    State {
        phase,
        ladder: 0,
        attempts: 0,
        wanted_retries: None,
    }
}

fn live(age: Duration, misses: u32, probing: bool) -> Phase {
    Phase::Ready(Ready {
        since: start() - age,
        misses,
        probing: probing.then(start),
        next_probe: Some(start() + SECOND),
        idle_check: None,
    })
}

/// The phase in a word or two, relative to the start.
fn shown(state: &State) -> String {
    let after = |until: &Instant| format!("{:?}", until.duration_since(start()));
    match &state.phase {
        Phase::Disabled => "disabled".into(),
        Phase::Idle { held: false } => "idle".into(),
        Phase::Idle { held: true } => "held".into(),
        Phase::Connecting => "connecting".into(),
        Phase::Ready(ready) => format!(
            "ready{}{}",
            if ready.misses > 0 {
                format!("-{}", ready.misses)
            } else {
                String::new()
            },
            if ready.probing.is_some() { "?" } else { "" }
        ),
        Phase::Backoff { until } => format!("backoff({})", after(until)),
        Phase::AuthRequired => "auth".into(),
        Phase::Dormant { until: None } => "dormant".into(),
        Phase::Dormant { until: Some(until) } => format!("dormant({})", after(until)),
        Phase::Closed => "closed".into(),
    }
}

fn effect(effect: &Effect) -> String {
    match effect {
        Effect::Connect => "connect".into(),
        Effect::AbortConnect => "abort".into(),
        Effect::Close(cause) => format!("close:{}", cause.as_str()),
        Effect::Probe { budgeted: false } => "probe".into(),
        Effect::Probe { budgeted: true } => "probe:budgeted".into(),
    }
}

fn states() -> Vec<(&'static str, Phase)> {
    let young = SECOND;
    let old = Duration::from_secs(60);
    vec![
        ("disabled", Phase::Disabled),
        ("idle", Phase::Idle { held: false }),
        ("held", Phase::Idle { held: true }),
        ("connecting", Phase::Connecting),
        ("young", live(young, 0, false)),
        ("stable", live(old, 0, false)),
        ("probing", live(young, 0, true)),
        ("doubted", live(young, 1, true)),
        (
            "backoff",
            Phase::Backoff {
                until: start() + SECOND,
            },
        ),
        ("auth", Phase::AuthRequired),
        (
            "dormant",
            Phase::Dormant {
                until: Some(start() + SECOND),
            },
        ),
        ("given up", Phase::Dormant { until: None }),
        ("closed", Phase::Closed),
    ]
}

fn inputs() -> Vec<(&'static str, Input)> {
    let now = start();
    let later = start() + SECOND;
    let transient = Failure::Transient { retry_after: None };
    vec![
        ("wanted", at(now, What::Wanted)),
        ("connect", at(now, What::Connect { retries: None })),
        ("disconnect", at(now, What::Disconnect)),
        ("enable", at(now, What::Enable)),
        ("disable", at(now, What::Disable)),
        ("shutdown", at(now, What::Shutdown)),
        ("connected", at(now, What::Connected)),
        ("failed", at(now, What::ConnectFailed(transient))),
        (
            "permanent",
            at(now, What::ConnectFailed(Failure::Permanent)),
        ),
        ("login", at(now, What::ConnectFailed(Failure::Auth))),
        ("lost", at(now, What::Lost(DisconnectCause::RemoteClosed))),
        ("answered", at(now, What::ProbeOk)),
        ("missed", at(now, What::ProbeMissed)),
        ("unasked", at(now, What::ProbeImpossible)),
        ("reported", at(now, What::Reported)),
        ("check", at(now, What::Check)),
        ("refused", at(now, What::AuthRefused)),
        ("resumed", at(now, What::Resumed)),
        ("tick", at(now, quiet(now))),
        ("due", at(later, quiet(later))),
    ]
}

/// What every state makes of every input; `=` is nothing at all.
const TABLE: &str = "
           | disabled           | idle               | held               | connecting       | young                           | stable                                | probing                         | doubted                           | backoff            | auth               | dormant            | given up           | closed
wanted     | =                  | connecting connect | =                  | =                | =                               | =                                     | =                               | =                                 | =                  | =                  | =                  | =                  | =
connect    | =                  | connecting connect | connecting connect | =                | =                               | =                                     | =                               | =                                 | connecting connect | connecting connect | connecting connect | connecting connect | =
disconnect | =                  | held               | =                  | held abort       | held close:requested            | held close:requested                  | held close:requested            | held close:requested              | held               | held               | held               | held               | =
enable     | connecting connect | =                  | =                  | =                | =                               | =                                     | =                               | =                                 | =                  | =                  | =                  | =                  | =
disable    | =                  | disabled           | disabled           | disabled abort   | disabled close:requested        | disabled close:requested              | disabled close:requested        | disabled close:requested          | disabled           | disabled           | disabled           | disabled           | =
shutdown   | closed             | closed             | closed             | closed abort     | closed close:shutdown           | closed close:shutdown                 | closed close:shutdown           | closed close:shutdown             | closed             | closed             | closed             | closed             | =
connected  | =                  | =                  | =                  | ready            | =                               | =                                     | =                               | =                                 | =                  | =                  | =                  | =                  | =
failed     | =                  | =                  | =                  | backoff(1s)      | =                               | =                                     | =                               | =                                 | =                  | =                  | =                  | =                  | =
permanent  | =                  | =                  | =                  | dormant          | =                               | =                                     | =                               | =                                 | =                  | =                  | =                  | =                  | =
login      | =                  | =                  | =                  | auth             | =                               | =                                     | =                               | =                                 | =                  | =                  | =                  | =                  | =
lost       | =                  | =                  | =                  | =                | backoff(1s) close:remote_closed | connecting close:remote_closed connect | backoff(1s) close:remote_closed | backoff(1s) close:remote_closed   | =                  | =                  | =                  | =                  | =
answered   | =                  | =                  | =                  | =                | ready                           | ready                                 | ready                           | ready                             | =                  | =                  | =                  | =                  | =
missed     | =                  | =                  | =                  | =                | ready-1                         | ready-1                               | ready-1                         | backoff(1s) close:heartbeat_failed | =                  | =                  | =                  | =                  | =
unasked    | =                  | =                  | =                  | =                | =                               | =                                     | ready                           | ready-1                           | =                  | =                  | =                  | =                  | =
reported   | =                  | =                  | =                  | =                | ready-1? probe                  | ready-1? probe                        | ready-1?                        | =                                 | =                  | =                  | =                  | =                  | =
check      | =                  | =                  | =                  | =                | ready? probe                    | ready? probe                          | =                               | =                                 | =                  | =                  | =                  | =                  | =
refused    | =                  | =                  | =                  | =                | auth close:auth_required        | auth close:auth_required              | auth close:auth_required        | auth close:auth_required          | =                  | =                  | =                  | =                  | =
resumed    | =                  | =                  | =                  | =                | ready-1? probe:budgeted         | ready-1? probe:budgeted               | ready-1?                        | =                                 | connecting connect | =                  | connecting connect | =                  | =
tick       | =                  | =                  | =                  | =                | =                               | =                                     | =                               | =                                 | =                  | =                  | =                  | =                  | =
due        | =                  | =                  | =                  | =                | ready? probe                    | ready? probe                          | =                               | =                                 | connecting connect | =                  | connecting connect | =                  | =
";

#[test]
fn every_state_with_every_input() {
    let mut lines = TABLE.trim_matches('\n').lines();
    let cells = |line: &str| -> Vec<String> {
        line.split('|').map(|cell| cell.trim().to_owned()).collect()
    };
    let header = cells(lines.next().unwrap());
    let table: Vec<Vec<String>> = lines.map(cells).collect();
    let (states, inputs) = (states(), inputs());
    assert_eq!(
        header[1..],
        states
            .iter()
            .map(|(n, _)| n.to_string())
            .collect::<Vec<_>>()
    );
    assert_eq!(table.len(), inputs.len());
    let mut wrong = Vec::new();
    for ((input_name, input), row) in inputs.iter().zip(&table) {
        assert_eq!(row[0], *input_name);
        for ((state_name, phase), want) in states.iter().zip(&row[1..]) {
            let before = state(phase.clone());
            let (after, effects) = step(&rules(), before.clone(), input.clone());
            let mut got = shown(&after);
            for e in &effects {
                got.push(' ');
                got.push_str(&effect(e));
            }
            if got == shown(&before) {
                got = "=".to_owned();
            }
            let same = got == *want || (got == "=" && *want == shown(&before));
            if !same {
                wrong.push(format!(
                    "{state_name} + {input_name}: want {want:?}, got {got:?}"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A machine that is driven by hand.
struct Driver {
    rules: Rules,
    state: State,
    now: Instant,
}

impl Driver {
    fn new(rules: Rules) -> Self {
        Self {
            rules,
            state: State::new(true),
            now: start(),
        }
    }

    fn feed(&mut self, what: What) -> Vec<Effect> {
        let (state, effects) = step(&self.rules, self.state.clone(), at(self.now, what));
        self.state = state;
        effects
    }

    /// Lets the deadline pass and gives how long that took.
    fn wait(&mut self) -> Duration {
        let until = deadline(&self.state).expect("a deadline");
        let waited = until.duration_since(self.now);
        self.now = until;
        let tick = quiet(self.now);
        self.feed(tick);
        waited
    }

    fn fail(&mut self) {
        self.feed(What::ConnectFailed(Failure::Transient {
            retry_after: None,
        }));
    }
}

#[test]
fn the_ladder_is_climbed_then_probed_slowly_and_for_ever() {
    let mut m = Driver::new(rules());
    m.feed(What::Connect { retries: None });
    let mut waits = Vec::new();
    for _ in 0..6 {
        m.fail();
        waits.push(m.wait().as_secs());
        assert_eq!(m.state.phase, Phase::Connecting);
    }
    assert_eq!(waits, [1, 2, 4, 300, 300, 300]);
    assert_eq!(m.state.attempts, 7);
}

#[test]
fn a_dormant_interval_is_twenty_percent_early_or_late() {
    for (random, want) in [(0.0, 240), (1.0, 360)] {
        let mut m = Driver::new(rules());
        m.state.ladder = 3;
        m.state.phase = Phase::Connecting;
        let input = Input {
            now: m.now,
            random,
            what: What::ConnectFailed(Failure::Transient { retry_after: None }),
        };
        let (after, _) = step(&m.rules, m.state, input);
        assert_eq!(shown(&after), format!("dormant({want}s)"));
    }
}

#[test]
fn a_server_that_connects_and_dies_at_once_keeps_climbing() {
    let mut m = Driver::new(rules());
    m.feed(What::Connect { retries: None });
    let mut waits = Vec::new();
    for _ in 0..4 {
        m.feed(What::Connected);
        m.now += Duration::from_secs(59);
        m.feed(What::Lost(DisconnectCause::RemoteClosed));
        waits.push(m.wait().as_secs());
    }
    assert_eq!(waits, [1, 2, 4, 300]);
    // A stable minute refills it: the next loss is mended at once, without a wait.
    m.feed(What::Connected);
    m.now += Duration::from_secs(60);
    let effects = m.feed(What::Lost(DisconnectCause::RemoteClosed));
    assert_eq!(
        effects,
        [
            Effect::Close(DisconnectCause::RemoteClosed),
            Effect::Connect
        ]
    );
    m.fail();
    assert_eq!(m.wait(), SECOND);
}

#[test]
fn without_the_immediate_first_the_ladder_starts_at_its_foot() {
    let mut rules = rules();
    rules.reconnect.immediate_first = false;
    let mut m = Driver::new(rules);
    m.feed(What::Connect { retries: None });
    m.feed(What::Connected);
    m.now += Duration::from_secs(3600);
    m.feed(What::Lost(DisconnectCause::ProcessExited));
    assert_eq!(m.wait(), SECOND);
}

#[test]
fn the_policy_never_does_not_reconnect_even_what_was_stable() {
    let mut rules = rules();
    rules.reconnect = ReconnectPolicy::never();
    let mut m = Driver::new(rules);
    m.feed(What::Connect { retries: None });
    m.feed(What::Connected);
    m.now += Duration::from_secs(3600);
    m.feed(What::Lost(DisconnectCause::RemoteClosed));
    assert_eq!(m.state.phase, Phase::Dormant { until: None });
}

#[test]
fn a_caller_may_ask_for_more_retries_than_the_policy_has() {
    let mut rules = rules();
    rules.reconnect = ReconnectPolicy::never();
    let mut m = Driver::new(rules);
    m.feed(What::Connect { retries: Some(2) });
    for _ in 0..2 {
        m.fail();
        assert!(matches!(m.state.phase, Phase::Backoff { .. }));
        m.wait();
    }
    m.fail();
    assert_eq!(m.state.phase, Phase::Dormant { until: None });
}

#[test]
fn retry_after_is_kept_but_not_for_ever() {
    for (asked, want) in [
        (Duration::from_secs(7), Duration::from_secs(7)),
        (Duration::from_millis(1), SECOND),
        (Duration::MAX, LONGEST_PAUSE),
    ] {
        let mut m = Driver::new(rules());
        m.feed(What::Connect { retries: None });
        m.feed(What::ConnectFailed(Failure::Transient {
            retry_after: Some(asked),
        }));
        assert_eq!(m.wait(), want);
    }
}

#[test]
fn death_is_noticed_within_interval_and_time_outs() {
    let mut m = Driver::new(rules());
    m.feed(What::Connect { retries: None });
    m.feed(What::Connected);
    let connected = m.now;
    m.now = connected + rules().health.interval.mul_f64(1.1);
    let tick = quiet(m.now);
    assert_eq!(m.feed(tick), [Effect::Probe { budgeted: false }]);
    m.now += rules().health.timeout;
    assert_eq!(m.feed(What::ProbeMissed), []);
    // The second probe follows at once, because the first took its whole time.
    assert_eq!(m.wait(), Duration::ZERO);
    m.now += rules().health.timeout;
    let effects = m.feed(What::ProbeMissed);
    assert_eq!(effects, [Effect::Close(DisconnectCause::HeartbeatFailed)]);
}

#[test]
fn a_probe_that_fails_at_once_is_not_repeated_at_once() {
    let mut m = Driver::new(rules());
    m.feed(What::Connect { retries: None });
    m.feed(What::Connected);
    m.wait();
    m.feed(What::ProbeMissed);
    assert_eq!(m.wait(), rules().health.timeout);
}

#[test]
fn traffic_in_the_last_interval_spares_the_probe() {
    let mut m = Driver::new(rules());
    m.feed(What::Connect { retries: None });
    m.feed(What::Connected);
    for _ in 0..10 {
        m.now = deadline(&m.state).unwrap();
        let heard = m.now - Duration::from_secs(5);
        let effects = m.feed(What::Tick(Traffic {
            heard,
            used: heard,
            busy: false,
        }));
        assert_eq!(effects, []);
        assert_eq!(deadline(&m.state), Some(heard + rules().health.interval));
    }
}

#[test]
fn an_idle_lazy_server_is_closed_and_a_busy_one_is_not() {
    let mut rules = rules();
    rules.lazy = true;
    rules.idle_timeout = Some(Duration::from_secs(10));
    let mut m = Driver::new(rules);
    assert_eq!(m.feed(What::Wanted), [Effect::Connect]);
    m.feed(What::Connected);
    let traffic = |m: &Driver, ago: u64, busy| {
        What::Tick(Traffic {
            heard: m.now,
            used: m.now - Duration::from_secs(ago),
            busy,
        })
    };
    m.now = deadline(&m.state).unwrap();
    let busy = traffic(&m, 10, true);
    assert_eq!(m.feed(busy), []);
    m.now = deadline(&m.state).unwrap();
    let used = traffic(&m, 4, false);
    assert_eq!(m.feed(used), []);
    assert_eq!(deadline(&m.state), Some(m.now + Duration::from_secs(6)));
    m.now = deadline(&m.state).unwrap();
    let idle = traffic(&m, 10, false);
    assert_eq!(m.feed(idle), [Effect::Close(DisconnectCause::IdleTimeout)]);
    assert_eq!(m.state.phase, Phase::Idle { held: false });
    // It comes back on use.
    assert_eq!(m.feed(What::Wanted), [Effect::Connect]);
}

#[test]
fn a_lazy_server_that_is_enabled_waits_for_its_first_use() {
    let mut rules = rules();
    rules.lazy = true;
    let mut m = Driver::new(rules);
    m.feed(What::Disable);
    assert_eq!(m.feed(What::Enable), []);
    assert_eq!(m.state.phase, Phase::Idle { held: false });
}

/// Any input, with some sense in its details.
fn any_input() -> impl Strategy<Value = What> {
    let pause = prop::option::of((0..100_000u64).prop_map(Duration::from_secs));
    prop_oneof![
        Just(What::Wanted),
        prop::option::of(0..20u32).prop_map(|retries| What::Connect { retries }),
        Just(What::Disconnect),
        Just(What::Enable),
        Just(What::Disable),
        Just(What::Connected),
        pause.prop_map(|retry_after| What::ConnectFailed(Failure::Transient { retry_after })),
        Just(What::ConnectFailed(Failure::Permanent)),
        Just(What::ConnectFailed(Failure::Auth)),
        Just(What::Lost(DisconnectCause::RemoteClosed)),
        Just(What::ProbeOk),
        Just(What::ProbeMissed),
        Just(What::Reported),
        Just(What::Check),
        Just(What::AuthRefused),
        Just(What::Resumed),
        Just(What::Shutdown),
        (any::<bool>(), 0..100u64).prop_map(|(busy, ago)| What::Tick(Traffic {
            heard: start() - Duration::from_secs(ago),
            used: start() - Duration::from_secs(ago),
            busy,
        })),
    ]
}

proptest! {
    /// Whatever comes in whatever order, effects and phases fit each other: one connect at a
    /// time, one probe at a time, every connection closed once, and nothing after the end.
    #[test]
    fn effects_and_phases_fit(
        inputs in prop::collection::vec((any_input(), 0.0..1.0f64, 0..200u64), 1..200),
        lazy in any::<bool>(),
        idle in prop::option::of((1..300u64).prop_map(Duration::from_secs)),
    ) {
        let rules = Rules { lazy, idle_timeout: idle, ..rules() };
        let mut state = State::new(true);
        let mut now = start();
        let (mut connecting, mut open, mut probing) = (false, false, false);
        for (what, random, pause) in inputs {
            now += Duration::from_secs(pause);
            let was_closed = state.phase == Phase::Closed;
            if connecting && matches!(what, What::ConnectFailed(_)) {
                connecting = false;
            }
            if connecting && what == What::Connected {
                (connecting, open, probing) = (false, true, false);
            }
            if matches!(what, What::ProbeOk | What::ProbeMissed) {
                probing = false;
            }
            let (after, effects) = step(&rules, state, Input { now, random, what });
            state = after;
            prop_assert!(!was_closed || effects.is_empty());
            for effect in effects {
                match effect {
                    Effect::Connect => {
                        prop_assert!(!connecting && !open);
                        connecting = true;
                    }
                    Effect::AbortConnect => {
                        prop_assert!(connecting);
                        connecting = false;
                    }
                    Effect::Close(_) => {
                        prop_assert!(open);
                        (open, probing) = (false, false);
                    }
                    Effect::Probe { .. } => {
                        prop_assert!(open && !probing);
                        probing = true;
                    }
                }
            }
            prop_assert_eq!(connecting, state.phase == Phase::Connecting);
            prop_assert_eq!(open, matches!(state.phase, Phase::Ready(_)));
            if let Phase::Ready(ready) = &state.phase {
                prop_assert_eq!(probing, ready.probing.is_some());
            }
            if let Phase::Backoff { until } = state.phase {
                prop_assert!(until <= now + LONGEST_PAUSE);
            }
        }
    }
}
