//! Leases on work that one request of an isolate does for all that want the result, such as the
//! fill of a cache entry or the load of a model.
//!
//! Requests of an isolate must not share I/O objects (workerd forbids it), so a request that waits
//! polls with timers of its own: [`Leases::attempt`], then a pause of [`Pauses`], then again. The
//! clock is passed in, so this module runs without a host. All times are milliseconds.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

/// Limits of a set of leases.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// A lease that was not renewed for this long has expired. The host drops a request whose
    /// client left without running its destructors, so a lease may never be released.
    pub expiry: u64,
    /// Maximum number of leases held at once, over all keys.
    pub max_leases: usize,
    /// Maximum number of failures remembered at once. The failure that ends first makes room.
    pub max_failures: usize,
}

/// The leases of an isolate, by key. Clones share their state.
#[derive(Debug)]
pub struct Leases<E>(Rc<RefCell<State<E>>>);

impl<E> Clone for Leases<E> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

#[derive(Debug)]
struct State<E> {
    terms: Terms,
    next_id: u64,
    held: HashMap<String, Held>,
    failures: HashMap<String, (E, u64)>,
}

/// A lease as the isolate knows it.
#[derive(Debug)]
struct Held {
    id: u64,
    /// Time of the grant or of the last renewal.
    renewed: u64,
}

impl<E> State<E> {
    fn is_expired(&self, held: &Held, now: u64) -> bool {
        now >= held.renewed + self.terms.expiry
    }

    /// The lease, if it is still the one of `key`: after expiry another request may have taken
    /// over.
    fn held(&mut self, key: &str, id: u64) -> Option<&mut Held> {
        self.held.get_mut(key).filter(|held| held.id == id)
    }
}

/// The result of [`Leases::attempt`].
#[derive(Debug)]
pub enum Attempt<E> {
    /// The caller holds the lease and has to do the work.
    Granted(Lease<E>),
    /// Another request does the work, or the maximum number of leases is held.
    Wait,
    /// The work failed a short time ago, with this error.
    Failed(E),
}

impl<E: Clone> Leases<E> {
    /// No leases yet.
    #[must_use]
    pub fn new(terms: Terms) -> Self {
        Self(Rc::new(RefCell::new(State {
            terms,
            next_id: 0,
            held: HashMap::new(),
            failures: HashMap::new(),
        })))
    }

    /// Whether a request holds the lease of `key`.
    #[must_use]
    pub fn is_held(&self, key: &str, now: u64) -> bool {
        let state = self.0.borrow();
        state.held.get(key).is_some_and(|held| !state.is_expired(held, now))
    }

    /// Takes the lease of `key`, unless the work failed a short time ago or the lease is not
    /// available.
    #[must_use]
    pub fn attempt(&self, key: &str, now: u64) -> Attempt<E> {
        let mut state = self.0.borrow_mut();
        if let Some((error, _)) = state.failures.get(key).filter(|(_, until)| now < *until) {
            return Attempt::Failed(error.clone());
        }
        let expiry = state.terms.expiry;
        state.held.retain(|_, held| now < held.renewed + expiry);
        if state.held.contains_key(key) || state.held.len() >= state.terms.max_leases {
            return Attempt::Wait;
        }
        let id = state.next_id;
        state.next_id += 1;
        state.held.insert(key.to_owned(), Held { id, renewed: now });
        Attempt::Granted(Lease { leases: self.clone(), key: key.to_owned(), id })
    }
}

/// The exclusive right to do the work of a key, until dropped or expired.
#[derive(Debug)]
pub struct Lease<E> {
    leases: Leases<E>,
    key: String,
    id: u64,
}

impl<E: 'static> Lease<E> {
    /// A function that renews this lease at the time it is given. It has no effect after the lease
    /// ended.
    pub fn renewal(&self) -> impl Fn(u64) + 'static {
        let (leases, key, id) = (self.leases.clone(), self.key.clone(), self.id);
        move |now| {
            if let Some(held) = leases.0.borrow_mut().held(&key, id) {
                held.renewed = now;
            }
        }
    }

    /// Ends the lease after the work succeeded. `false` if the lease was lost: it had expired, and
    /// another lease was granted since.
    #[must_use]
    pub fn succeed(self) -> bool {
        let mut state = self.leases.0.borrow_mut();
        let is_ours = state.held(&self.key, self.id).is_some();
        if is_ours {
            state.failures.remove(&self.key);
        }
        is_ours
    }

    /// Ends the lease after the work failed, and answers attempts before `until` with `error`.
    /// `false`, and nothing is remembered, if the lease was lost as in [`Lease::succeed`].
    pub fn fail(self, error: E, now: u64, until: u64) -> bool {
        let mut state = self.leases.0.borrow_mut();
        let is_ours = state.held(&self.key, self.id).is_some();
        if is_ours {
            state.failures.retain(|_, (_, until)| now < *until);
            while state.failures.len() >= state.terms.max_failures.max(1) {
                let failures = state.failures.iter();
                let first =
                    failures.min_by_key(|(_, (_, until))| *until).map(|(key, _)| key.clone());
                let Some(first) = first else { break };
                state.failures.remove(&first);
            }
            state.failures.insert(self.key.clone(), (error, until));
        }
        is_ours
    }
}

impl<E> Drop for Lease<E> {
    fn drop(&mut self) {
        let mut state = self.leases.0.borrow_mut();
        if state.held(&self.key, self.id).is_some() {
            state.held.remove(&self.key);
        }
    }
}

/// Pauses between attempts: each is twice as long as the one before, up to a maximum.
#[derive(Debug, Clone, Copy)]
pub struct Pauses {
    next: u64,
    longest: u64,
    until: u64,
}

impl Pauses {
    /// Pauses from `first` to `longest`; none begins at `until` or later.
    #[must_use]
    pub const fn new(first: u64, longest: u64, until: u64) -> Self {
        Self { next: first, longest, until }
    }

    /// The next pause. `None` when the request has waited long enough.
    pub fn next(&mut self, now: u64) -> Option<u64> {
        let pause = self.next;
        self.next = (pause * 2).min(self.longest);
        (now < self.until).then_some(pause)
    }
}
