//! How many requests are in the isolate at once. Those that are share the processor, batch by batch; who comes when there are too
//! many is told so at once.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use edge_net_driver::host;

/// A request that shows no sign of life for this long is gone, in milliseconds: the host drops what a client has left without a word.
const LEASE: u64 = 60_000;

/// The requests that are there: when each was last seen.
#[derive(Clone)]
pub struct Admission {
    most: usize,
    there: Rc<RefCell<Vec<Rc<Cell<u64>>>>>,
}

/// A place, until dropped.
pub struct Place {
    admission: Admission,
    seen: Rc<Cell<u64>>,
}

impl Admission {
    /// As many as `most` at once.
    pub fn of(most: usize) -> Self {
        Self { most, there: Rc::default() }
    }

    /// A place, if one is left.
    pub fn enter(&self) -> Option<Place> {
        let now = host::now();
        let mut there = self.there.borrow_mut();
        there.retain(|seen| now < seen.get() + LEASE);
        (there.len() < self.most).then(|| {
            let seen = Rc::new(Cell::new(now));
            there.push(Rc::clone(&seen));
            Place { admission: self.clone(), seen }
        })
    }
}

impl Place {
    /// Lets the others have the processor, and who just came in.
    pub async fn give_way(&self) {
        host::sleep(0).await;
        self.seen.set(host::now());
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.admission.there.borrow_mut().retain(|seen| !Rc::ptr_eq(seen, &self.seen));
    }
}
