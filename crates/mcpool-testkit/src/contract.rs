//! The contract of [`Transport`](mcpool_core::Transport), as a suite that runs on any of them.
//!
//! Say how to start a server ([`ContractTarget`]), and run [`run_all`] or one test a check:
//!
//! ```
//! use mcpool_testkit::contract::{self, MemoryTarget};
//!
//! // A transport over stdio says `StdioTarget::new(|| Arc::new(MyStdioConnector::new()))`.
//! let target = MemoryTarget::new();
//! # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
//! contract::answers_a_call(&target).await.unwrap();
//! # });
//! ```
//!
//! [`contract_tests!`](crate::contract_tests) writes one `#[tokio::test]` for each check.
//!
//! The server must offer the tools of [`fixtures`](crate::fixtures). Anybody who brings a carrier of
//! their own puts [`Engine`](crate::fixtures::Engine) behind it.

mod checks;
mod drive;
mod targets;

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::future::BoxFuture;
use mcpool_core::{ConnectRequest, Connector};

pub use checks::{
    a_broken_answer_fails_its_request, an_answer_that_cannot_be_read_fails_its_request,
    an_answer_to_nobody_harms_nobody, answers_a_call, answers_a_thousand_out_of_order,
    carries_large_messages, close_is_bounded_while_a_send_is_stuck, close_is_idempotent,
    death_ends_everything, drop_leaves_nothing, drop_outside_a_runtime_leaves_nothing,
    dropped_requests_break_nothing, dropping_a_request_cancels_it, keeps_order_of_concurrent_sends,
    keeps_order_of_receives, keeps_order_of_sends, passes_what_the_server_says_during_a_request,
    requests_end_with_their_runtime, tells_of_progress_before_the_answer,
    the_handshake_is_never_cancelled_in_words,
};
pub use targets::{HttpTarget, MemoryTarget, SseTarget, StdioTarget};

use crate::Behavior;

/// How long the suite waits for what must come, where its target does not say: 60 seconds.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What the suite runs on: a transport, and servers for it.
#[async_trait]
pub trait ContractTarget: Send + Sync {
    /// A connector that shares nothing with the ones given before, pools of sockets included: so
    /// that dropping it must release everything.
    fn connector(&self) -> Arc<dyn Connector>;

    /// Starts a server of this behaviour, or gets one ready to be started by the connector.
    async fn start(&self, behavior: Behavior) -> Box<dyn RunningFixture>;

    /// Whether messages arrive in the order in which they are begun. Where each message travels by
    /// itself, as in a POST, only what is sent after the end of another is sure to come after it.
    /// Default `true`.
    fn keeps_order(&self) -> bool {
        true
    }

    /// Whether the client's own notifications get to the server. Where a relay stands between the
    /// two, with a session of its own with the server, only those do that have a meaning there,
    /// and of a burst of the server's notifications some may be dropped there. Default `true`.
    fn passes_notifications(&self) -> bool {
        true
    }

    /// Whether there is a connection that ends when the server dies. Over Streamable HTTP there is
    /// none: each request finds out by itself. Default `true`.
    fn has_connection(&self) -> bool {
        true
    }

    /// Whether progress comes on the way of the answer, and so all of it before the answer. A
    /// server of Streamable HTTP that answers with JSON sends it on another stream: what has not
    /// arrived when the answer does is left out. Default `true`.
    fn keeps_progress(&self) -> bool {
        true
    }

    /// How long the suite waits for what must come, such as an answer or a notification: longer
    /// than that takes on a machine that is busy. A violation that is something missing is seen
    /// after this time. Default [`PATIENCE`].
    fn patience(&self) -> Duration {
        PATIENCE
    }
}

/// A server that the suite talks to. Dropping it ends it.
pub trait RunningFixture: Send + Sync {
    /// How to connect to it.
    fn request(&self) -> ConnectRequest;

    /// Ends the server and its connections at once, as `kill -9` and a broken network would.
    fn kill(&self);

    /// What connections to this server hold now. `None` where that cannot be known.
    fn footprint(&self) -> Option<Footprint> {
        None
    }
}

/// What the connections to one server hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Footprint {
    /// Processes that run.
    pub processes: usize,
    /// Sockets and pipes that are open in this process.
    pub descriptors: usize,
}

impl Footprint {
    /// So many processes, so many sockets and pipes.
    #[must_use]
    pub fn new(processes: usize, descriptors: usize) -> Self {
        Self {
            processes,
            descriptors,
        }
    }

    fn is_nothing(self) -> bool {
        self == Self::default()
    }
}

/// A rule that a transport broke.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Violation {
    /// The check.
    pub check: &'static str,
    /// What was seen.
    pub seen: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.check, self.seen)
    }
}

impl std::error::Error for Violation {}

/// How a check ends.
pub type Verdict = Result<(), Violation>;

/// A check, as a value.
pub type Check = for<'a> fn(&'a dyn ContractTarget) -> BoxFuture<'a, Verdict>;

/// Gives the name of every check to a macro, behind what stands in the braces. The one list of
/// them.
#[doc(hidden)]
#[macro_export]
macro_rules! with_contract_checks {
    ([$($to:tt)*] { $($before:tt)* }) => {
        $($to)*! { $($before)*
            answers_a_call,
            keeps_order_of_sends,
            keeps_order_of_concurrent_sends,
            keeps_order_of_receives,
            answers_a_thousand_out_of_order,
            carries_large_messages,
            passes_what_the_server_says_during_a_request,
            tells_of_progress_before_the_answer,
            an_answer_to_nobody_harms_nobody,
            an_answer_that_cannot_be_read_fails_its_request,
            dropping_a_request_cancels_it,
            the_handshake_is_never_cancelled_in_words,
            dropped_requests_break_nothing,
            death_ends_everything,
            a_broken_answer_fails_its_request,
            requests_end_with_their_runtime,
            close_is_idempotent,
            close_is_bounded_while_a_send_is_stuck,
            drop_leaves_nothing,
            drop_outside_a_runtime_leaves_nothing,
        }
    };
}

/// Every check with its name.
#[must_use]
pub fn all() -> Vec<(&'static str, Check)> {
    macro_rules! list {
        ($($check:ident),* $(,)?) => {
            vec![$((stringify!($check), |target| Box::pin($check(target)))),*]
        };
    }
    crate::with_contract_checks!([list] {})
}

/// Runs every check, one after the other, and gives all that was broken.
///
/// # Errors
/// The violations.
pub async fn run_all(target: &dyn ContractTarget) -> Result<(), Vec<Violation>> {
    let mut violations = Vec::new();
    for (_, check) in all() {
        if let Err(violation) = check(target).await {
            violations.push(violation);
        }
    }
    if violations.is_empty() {
        Ok(())
    } else {
        Err(violations)
    }
}

/// Writes one `#[tokio::test]` for each check. The argument is an expression that makes the
/// [`ContractTarget`](crate::contract::ContractTarget); the caller needs `tokio` with `macros`
/// and `rt-multi-thread`.
#[macro_export]
macro_rules! contract_tests {
    ($target:expr) => {
        $crate::with_contract_checks!([$crate::contract_tests] { @each $target; });
    };
    (@each $target:expr; $($check:ident),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $check() {
                let target = $target;
                if let Err(violation) = $crate::contract::$check(&target).await {
                    panic!("{violation}");
                }
            }
        )*

        #[test]
        fn no_check_of_the_contract_is_left_out() {
            let mut here = vec![$(stringify!($check)),*];
            let mut all: Vec<_> = $crate::contract::all()
                .into_iter()
                .map(|(name, _)| name)
                .collect();
            here.sort_unstable();
            all.sort_unstable();
            assert_eq!(here, all);
        }
    };
}
