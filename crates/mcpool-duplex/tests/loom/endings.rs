use std::future::poll_fn;

use loom::{future::block_on, sync::Arc, thread};

use crate::ending::Ending;

#[test]
fn who_waits_for_the_end_is_woken() {
    loom::model(|| {
        let ending = Arc::new(Ending::new());
        let writer = {
            let ending = Arc::clone(&ending);
            thread::spawn(move || ending.end(true))
        };
        // It hangs, which loom reports, where the wake gets lost.
        block_on(poll_fn(|cx| ending.poll(cx)));
        writer.join().unwrap();
    });
}

#[test]
fn who_looks_after_the_end_sees_it_though_nobody_is_woken() {
    loom::model(|| {
        let ending = Arc::new(Ending::new());
        let writer = {
            let ending = Arc::clone(&ending);
            thread::spawn(move || ending.end(false))
        };
        writer.join().unwrap();
        block_on(poll_fn(|cx| ending.poll(cx)));
    });
}
