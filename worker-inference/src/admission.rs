//! The number of requests in the isolate. They share its processor, batch by batch; a request above
//! the maximum is refused at once.

use std::cell::Cell;
use std::convert::Infallible;

use edge_net_driver::host;
use edge_net_driver::lease::{Attempt, Lease, Leases, Terms};

/// A request that made no progress for this long is gone, in milliseconds: the host drops a request
/// whose client left without running its destructors.
const EXPIRY: u64 = 60_000;

/// The places for requests.
pub struct Admission {
    places: Leases<Infallible>,
    next: Cell<u64>,
}

/// A place, until dropped.
pub struct Place(Lease<Infallible>);

impl Admission {
    /// Places for at most `max` requests.
    pub fn new(max: usize) -> Self {
        let terms = Terms { expiry: EXPIRY, max_leases: max, max_failures: 0 };
        Self { places: Leases::new(terms), next: Cell::default() }
    }

    /// A place, if one is free at `now`, in milliseconds.
    pub fn enter(&self, now: u64) -> Option<Place> {
        let number = self.next.replace(self.next.get() + 1).to_string();
        match self.places.attempt(&number, now) {
            Attempt::Granted(lease) => Some(Place(lease)),
            Attempt::Wait => None,
            Attempt::Failed(never) => match never {},
        }
    }
}

impl Place {
    /// Yields the processor to other requests.
    pub async fn give_way(&self) {
        host::sleep(0).await;
        self.renew(host::now());
    }

    fn renew(&self, now: u64) {
        self.0.renewal()(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_limited_until_one_is_left() {
        let admission = Admission::new(2);
        let (one, _other) = (admission.enter(0).unwrap(), admission.enter(0).unwrap());
        assert!(admission.enter(1).is_none());
        drop(one);
        assert!(admission.enter(1).is_some());
    }

    #[test]
    fn a_request_without_progress_loses_its_place() {
        let admission = Admission::new(1);
        let place = admission.enter(0).unwrap();
        place.renew(30_000);
        assert!(admission.enter(89_999).is_none());
        let successor = admission.enter(90_000).unwrap();
        place.renew(100_000);
        drop(place);
        assert!(admission.enter(100_000).is_none(), "the successor still has its place");
        drop(successor);
        assert!(admission.enter(100_000).is_some());
    }
}
