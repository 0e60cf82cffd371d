//! The checks, each a rule of the contract. A check gives the first violation that it sees.

mod cancellation;
mod death;
mod end;
mod hostile;
mod messages;

pub use cancellation::{
    dropped_requests_break_nothing, dropping_a_request_cancels_it,
    the_handshake_is_never_cancelled_in_words,
};
pub use death::{
    a_broken_answer_fails_its_request, death_ends_everything, requests_end_with_their_runtime,
};
pub use end::{
    close_is_bounded_while_a_send_is_stuck, close_is_idempotent, drop_leaves_nothing,
    drop_outside_a_runtime_leaves_nothing,
};
pub use hostile::{
    an_answer_that_cannot_be_read_fails_its_request, an_answer_to_nobody_harms_nobody,
};
pub use messages::{
    answers_a_call, answers_a_thousand_out_of_order, carries_large_messages,
    keeps_order_of_concurrent_sends, keeps_order_of_receives, keeps_order_of_sends,
    passes_what_the_server_says_during_a_request, tells_of_progress_before_the_answer,
};
