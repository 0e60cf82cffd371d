//! The way into a connection with room for one: nobody is forgotten, anybody who goes.

use loom::{future::block_on, model::Builder, sync::Arc, thread};

use crate::{
    gate::{Gate, Refused},
    queue::Queue,
};

#[derive(Default)]
struct Server {
    gate: Gate,
    queue: Queue,
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

/// A call that is inside.
struct Inside<'a>(&'a Server);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        // As admission does.
        let _ = self.0.gate.leave();
        self.0.queue.left();
    }
}

impl Server {
    fn admit(&self) -> Result<Inside<'_>, Refused> {
        self.gate.enter(1).map(|()| Inside(self))
    }

    /// As admission: at once where nobody queues and there is room, else in the queue.
    async fn enter(&self) -> Option<Inside<'_>> {
        let at_once = match self.queue.is_busy() {
            false => self.admit().ok(),
            true => None,
        };
        match at_once {
            Some(inside) => Some(inside),
            None => self.queue.room(|| self.admit(), || {}).await,
        }
    }
}

/// All orders of the threads but for those with more than so many switches that nothing forces.
fn orders(preemptions: usize) -> Builder {
    let mut orders = Builder::new();
    orders.preemption_bound = Some(preemptions);
    orders
}

#[test]
fn everybody_gets_in_one_after_the_other() {
    orders(2).check(|| {
        let server = Arc::new(Server::default());
        let calls: Vec<_> = (0..2)
            .map(|_| {
                let server = Arc::clone(&server);
                thread::spawn(move || {
                    // It hangs, which loom reports, where a call is forgotten.
                    let inside = block_on(server.enter()).unwrap();
                    assert_eq!(server.gate.inside(), 1);
                    drop(inside);
                })
            })
            .collect();
        drop(block_on(server.enter()).unwrap());
        for call in calls {
            call.join().unwrap();
        }
        assert_eq!(server.gate.inside(), 0);
        assert!(!server.queue.is_busy());
    });
}

#[test]
fn who_gives_up_waiting_leaves_its_place_to_the_next() {
    orders(2).check(|| {
        let server = Arc::new(Server::default());
        let inside = server.admit().unwrap();
        let impatient = {
            let server = Arc::clone(&server);
            thread::spawn(move || {
                let mut waiting = std::pin::pin!(server.enter());
                let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
                drop(waiting.as_mut().poll(&mut cx));
            })
        };
        let patient = {
            let server = Arc::clone(&server);
            thread::spawn(move || drop(block_on(server.enter()).unwrap()))
        };
        drop(inside);
        impatient.join().unwrap();
        patient.join().unwrap();
        assert_eq!(server.gate.inside(), 0);
        assert!(!server.queue.is_busy());
    });
}

#[test]
fn who_waits_when_the_connection_is_given_up_looks_elsewhere() {
    orders(2).check(|| {
        let server = Arc::new(Server::default());
        let inside = server.admit().unwrap();
        let waiting = {
            let server = Arc::clone(&server);
            thread::spawn(move || assert!(block_on(server.enter()).is_none()))
        };
        server.gate.shut();
        server.queue.look_again();
        waiting.join().unwrap();
        drop(inside);
        assert!(!server.queue.is_busy());
    });
}
