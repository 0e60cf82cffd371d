//! The rows that a script cannot show: each by the test of this repository that does.

use super::Seen;
use crate::{Outcome, tools::cargo};

/// A row, and the test that shows it.
pub(super) struct Test {
    /// The folder of the row.
    pub(super) group: &'static str,
    /// The row, in few words.
    pub(super) row: &'static str,
    /// The crate.
    pub(super) package: &'static str,
    /// The test program of it; "" for the library's own tests.
    target: &'static str,
    /// The test.
    pub(super) name: &'static str,
}

const fn row(
    group: &'static str,
    row: &'static str,
    package: &'static str,
    target: &'static str,
    name: &'static str,
) -> Test {
    Test {
        group,
        row,
        package,
        target,
        name,
    }
}

/// Every such row. A row may need several tests.
#[rustfmt::skip]
pub(super) const TESTS: &[Test] = &[
    row("config", "a-window-of-a-long-line", "mcpool-config", "", "excerpt::tests::a_long_line_is_a_window_around_the_place"),
    row("config", "a-pipe-as-config", "mcpool-cli", "cli", "consent::a_config_from_a_pipe_is_read_with_a_bound_and_given_up_at_a_signal"),
    row("config", "every-row-of-ours", "mcpool-config", "config", "rows::every_row_is_as_it_must_be"),
    row("reliability", "1-dead-pool", "mcpool-http", "transport", "sockets::a_fresh_connect_is_not_tied_to_dead_connections"),
    row("reliability", "1-dead-pool-of-the-host", "mcpool-http-pool", "connections", "a_fresh_connect_drops_the_idle_connections_of_its_origin"),
    row("reliability", "1-dead-pool-after-a-failure", "mcpool-client", "negotiation", "http::a_connect_after_a_failure_asks_for_fresh_sockets"),
    row("reliability", "2-sse-refused-post", "mcpool-sse", "connection", "a_refused_post_fails_its_request_alone"),
    row("reliability", "2-sse-oversized-event", "mcpool-sse", "connection", "an_event_over_the_limit_fails_its_request_only"),
    row("reliability", "3-apply-under-load", "mcpool-manager", "behaviour", "reload::a_call_that_waits_goes_to_the_replacement"),
    row("reliability", "4-cancellations-over-http", "mcpool-http", "transport", "cancelling::cancellations_come_side_by_side"),
    row("reliability", "5-out-of-descriptors", "mcpool-http", "exhausted", "no_descriptor_left_is_no_evidence_against_a_server"),
    row("reliability", "6-sockets-after-shutdown", "mcpool-http-pool", "connections", "idle_connections_are_closed_with_their_last_user"),
    row("reliability", "7-another-runtime", "mcpool-manager", "behaviour", "shutdown::a_start_from_another_runtime_brings_back_what_ended_with_the_first"),
    row("reliability", "8-grandchild-without-a-trace", "mcpool-stdio", "orphans", "an_orphan_with_nothing_of_its_servers_dies_with_the_last_of_them"),
    row("reliability", "9-answer-with-a-wrong-id", "mcpool-http", "transport", "answers::an_answer_with_a_wrong_id_ends_its_exchange_at_once"),
    row("reliability", "10-stopped-server", "mcpool-stdio", "orphans", "a_server_starts_while_another_is_being_ended"),
    row("reliability", "duration-max", "mcpool-client", "", "clock::tests::no_duration_overflows"),
];

impl Test {
    /// Runs it, and nothing else.
    pub(super) fn run(&self) -> Outcome<Seen> {
        let mut command = cargo(["test", "--locked", "--quiet", "--all-features"]);
        command.args(["--package", self.package]);
        match self.target {
            "" => command.arg("--lib"),
            target => command.args(["--test", target]),
        };
        let output = command
            .args(["--", "--exact", self.name])
            .output()
            .map_err(|error| format!("cargo did not start: {error}"))?;
        let text = [output.stdout, output.stderr].concat();
        Ok(Seen {
            code: output.status.code(),
            text: String::from_utf8_lossy(&text).into_owned(),
        })
    }

    /// A test that is not there is not run, and is no failure to cargo.
    pub(super) fn judge(&self, seen: &Seen) -> Outcome {
        seen.ended_with(0)?;
        seen.says(&[" 1 passed"])
    }
}
