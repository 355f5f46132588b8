//! Mutual exclusion by name: one task looks a thing up, the others wait and find it.

use std::cell::RefCell;
use std::rc::Rc;

use futures::lock::Mutex;

/// A lock for each name in use.
#[derive(Default)]
pub struct Turns(RefCell<Vec<(String, Rc<Mutex<()>>)>>);

impl Turns {
    /// The lock of `name`, shared with the tasks that hold it or wait for it.
    pub fn of(&self, name: &str) -> Rc<Mutex<()>> {
        let mut turns = self.0.borrow_mut();
        // Drop the locks that no task has.
        turns.retain(|(_, turn)| Rc::strong_count(turn) > 1);
        if let Some((_, turn)) = turns.iter().find(|(of, _)| of == name) {
            return Rc::clone(turn);
        }
        let turn = Rc::default();
        turns.push((name.to_owned(), Rc::clone(&turn)));
        turn
    }
}
