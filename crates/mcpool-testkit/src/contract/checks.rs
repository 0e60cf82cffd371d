//! The checks, each a rule of the contract. A check gives the first violation that it sees.

mod cancellation;
mod end;
mod messages;

use serde_json::Value;

use super::{Verdict, drive::violated};

pub use cancellation::{dropped_sends_break_nothing, receive_is_cancel_safe};
pub use end::{
    close_is_bounded_while_a_send_is_stuck, close_is_idempotent, death_ends_everything,
    drop_leaves_nothing, drop_outside_a_runtime_leaves_nothing,
};
pub use messages::{
    answers_a_call, carries_large_messages, keeps_order_of_receives, keeps_order_of_sends,
    passes_notifications_and_requests_of_the_server, sends_concurrently,
};

/// The numbers of a `burst` from 0, none missing, none twice.
fn in_order(check: &'static str, seen: &[Value], count: u64) -> Verdict {
    let numbers: Vec<u64> = seen
        .iter()
        .filter(|message| message["method"] == "notifications/burst")
        .filter_map(|message| message["params"]["number"].as_u64())
        .collect();
    let expected: Vec<u64> = (0..count).collect();
    if numbers == expected {
        return Ok(());
    }
    let wrong = numbers.iter().zip(&expected).position(|(a, b)| a != b);
    violated(
        check,
        format!(
            "{} of {count} came; the first wrong one is {wrong:?}",
            numbers.len()
        ),
    )
}
