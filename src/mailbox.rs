//! Where captured frames wait for the backbone: one place for each camera, the newest frame wins.
//!
//! A bounded channel would keep the oldest frame and so add its age to every report; here what is taken is
//! never older than it must be, and what was overwritten is counted.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// One waiting place for each of several senders, and one receiver that serves them in turn.
pub struct Mailbox<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

struct State<T> {
    slots: Vec<Slot<T>>,
    /// The slot that is served first, so that a fast camera does not starve the others.
    turn: usize,
}

struct Slot<T> {
    waiting: Option<T>,
    overwritten: u64,
    closed: bool,
}

/// What came of waiting on a [`Mailbox`].
#[derive(Debug, PartialEq, Eq)]
pub enum Taken<T> {
    /// From which sender, what, and how many of that sender's were overwritten since its last.
    Item { slot: usize, item: T, overwritten: u64 },
    /// Nothing came in time.
    TimedOut,
    /// Every sender has closed its slot, and nothing is left.
    Closed,
}

impl<T> Mailbox<T> {
    pub fn new(slots: usize) -> Mailbox<T> {
        let slots = (0..slots).map(|_| Slot { waiting: None, overwritten: 0, closed: false }).collect();
        Mailbox { state: Mutex::new(State { slots, turn: 0 }), changed: Condvar::new() }
    }

    /// Leaves `item`, in place of one that still waits; returns whether there was one.
    pub fn put(&self, slot: usize, item: T) -> bool {
        let mut state = self.lock();
        let slot = &mut state.slots[slot];
        let replaced = slot.waiting.replace(item).is_some();
        slot.overwritten += u64::from(replaced);
        drop(state);
        self.changed.notify_one();
        replaced
    }

    /// Says that nothing more comes from a sender; what waits can still be taken.
    pub fn close(&self, slot: usize) {
        self.lock().slots[slot].closed = true;
        self.changed.notify_one();
    }

    /// Waits for the next item, for at most `timeout`.
    pub fn take(&self, timeout: Duration) -> Taken<T> {
        let deadline = Instant::now() + timeout;
        let mut state = self.lock();
        loop {
            let count = state.slots.len();
            let turn = state.turn;
            let waiting = (0..count).map(|i| (turn + i) % count).find(|i| state.slots[*i].waiting.is_some());
            if let Some(slot) = waiting {
                state.turn = (slot + 1) % count;
                let from = &mut state.slots[slot];
                let overwritten = std::mem::take(&mut from.overwritten);
                let item = from.waiting.take().expect("this slot was just found to hold an item");
                return Taken::Item { slot, item, overwritten };
            }
            if state.slots.iter().all(|slot| slot.closed) {
                return Taken::Closed;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Taken::TimedOut;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // No code that can panic runs under this lock, so what it guards is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_wins_and_the_lost_are_counted() {
        let mailbox = Mailbox::new(1);
        assert!(!mailbox.put(0, 1));
        assert!(mailbox.put(0, 2));
        assert!(mailbox.put(0, 3));
        assert_eq!(mailbox.take(Duration::ZERO), Taken::Item { slot: 0, item: 3, overwritten: 2 });
        assert_eq!(mailbox.take(Duration::from_millis(1)), Taken::TimedOut);
    }

    #[test]
    fn senders_are_served_in_turn() {
        let mailbox = Mailbox::new(3);
        let mut order = Vec::new();
        mailbox.put(0, 'a');
        mailbox.put(2, 'c');
        for _ in 0..4 {
            if let Taken::Item { slot, .. } = mailbox.take(Duration::ZERO) {
                order.push(slot);
                mailbox.put(slot, 'x');
            }
        }
        assert_eq!(order, [0, 2, 0, 2]);
    }

    #[test]
    fn closing_lets_the_last_item_through_and_wakes_the_receiver() {
        let mailbox = std::sync::Arc::new(Mailbox::new(2));
        mailbox.put(1, 'z');
        mailbox.close(1);
        assert_eq!(mailbox.take(Duration::ZERO), Taken::Item { slot: 1, item: 'z', overwritten: 0 });
        let other = mailbox.clone();
        let closer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            other.close(0);
        });
        assert_eq!(mailbox.take(Duration::from_secs(60)), Taken::Closed);
        closer.join().unwrap();
    }
}
