//! The gate of a connection.

use crate::gate::{Gate, Refused};
use loom::{
    model::Builder,
    sync::{Arc, Notify},
    thread,
};

#[test]
fn never_more_are_inside_than_are_allowed() {
    loom::model(|| {
        let gate = Arc::new(Gate::new());
        let calls: Vec<_> = (0..2)
            .map(|_| {
                let gate = Arc::clone(&gate);
                thread::spawn(move || match gate.enter(1) {
                    Ok(()) => {
                        assert_eq!(gate.inside(), 1);
                        assert!(!gate.leave(), "nobody has shut it");
                        true
                    }
                    Err(refused) => {
                        assert_eq!(refused, Refused::Full);
                        false
                    }
                })
            })
            .collect();
        let entered: Vec<bool> = calls.into_iter().map(|call| call.join().unwrap()).collect();
        assert!(entered.contains(&true));
        assert_eq!(gate.inside(), 0);
    });
}

#[test]
fn a_waiter_for_the_last_call_is_woken_and_nobody_comes_after_it() {
    let mut orders = Builder::new();
    // All orders of three threads take minutes.
    orders.preemption_bound = Some(2);
    orders.check(|| {
        let gate = Arc::new(Gate::new());
        let drained = Arc::new(Notify::new());
        let calls: Vec<_> = (0..2)
            .map(|_| {
                let (gate, drained) = (Arc::clone(&gate), Arc::clone(&drained));
                thread::spawn(move || {
                    if gate.enter(8).is_ok() && gate.leave() {
                        drained.notify();
                    }
                })
            })
            .collect();
        gate.shut();
        // As `Live::drained`: it is woken by what comes after the look.
        while gate.inside() > 0 {
            drained.wait();
        }
        assert!(gate.is_shut());
        assert_eq!(gate.enter(8), Err(Refused::Shut));
        assert_eq!(gate.inside(), 0);
        for call in calls {
            call.join().unwrap();
        }
        assert_eq!(gate.inside(), 0);
    });
}
