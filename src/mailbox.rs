//! Where captured frames wait for the backbone: one place for each camera, the newest frame wins.
//!
//! A bounded channel would keep the oldest frame and so add its age to every report; here what is taken is
//! never older than it must be, and what was overwritten is counted by what takes its place.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// One waiting place for each of several senders, and one receiver that serves them in turn.
pub struct Mailbox<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
    /// Lets an item take over what is to be known of the one that it overwrites.
    overwrite: fn(&mut T, T),
}

struct State<T> {
    slots: Vec<Slot<T>>,
    /// The slot that is served first, so that a fast camera does not starve the others.
    turn: usize,
}

struct Slot<T> {
    waiting: Option<T>,
    closed: bool,
}

/// What came of waiting on a [`Mailbox`].
#[derive(Debug, PartialEq, Eq)]
pub enum Taken<T> {
    /// From which sender, and what.
    Item { slot: usize, item: T },
    /// Nothing came in time.
    TimedOut,
    /// Every sender has closed its slot, and nothing is left.
    Closed,
}

impl<T> Mailbox<T> {
    /// `overwrite` gets the newer item and the older one that it takes the place of.
    pub fn new(slots: usize, overwrite: fn(&mut T, T)) -> Mailbox<T> {
        let slots = (0..slots).map(|_| Slot { waiting: None, closed: false }).collect();
        Mailbox { state: Mutex::new(State { slots, turn: 0 }), changed: Condvar::new(), overwrite }
    }

    /// Leaves `item`, in place of one that still waits; returns whether there was one.
    pub fn put(&self, slot: usize, mut item: T) -> bool {
        let mut state = self.lock();
        let slot = &mut state.slots[slot];
        let older = slot.waiting.take();
        let replaced = older.is_some();
        if let Some(older) = older {
            (self.overwrite)(&mut item, older);
        }
        slot.waiting = Some(item);
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
                let item = from.waiting.take().expect("this slot was just found to hold an item");
                return Taken::Item { slot, item };
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

    /// Adds to `others` what waits now in the slots other than `slot`, in order of turn.
    pub fn take_others(&self, slot: usize, others: &mut Vec<(usize, T)>) {
        let mut state = self.lock();
        let (count, turn) = (state.slots.len(), state.turn);
        for other in (0..count).map(|i| (turn + i) % count).filter(|other| *other != slot) {
            others.extend(state.slots[other].waiting.take().map(|item| (other, item)));
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
        // What is lost is what stood before an item, and the item itself.
        let mailbox = Mailbox::new(1, |newer: &mut (char, u64), older| newer.1 += older.1 + 1);
        assert!(!mailbox.put(0, ('a', 2)));
        assert!(mailbox.put(0, ('b', 0)));
        assert!(mailbox.put(0, ('c', 5)));
        assert_eq!(mailbox.take(Duration::ZERO), Taken::Item { slot: 0, item: ('c', 9) });
        assert_eq!(mailbox.take(Duration::from_millis(1)), Taken::TimedOut);
    }

    #[test]
    fn senders_are_served_in_turn() {
        let mailbox = Mailbox::new(3, |_, _| {});
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
    fn what_else_waits_is_taken_in_turn() {
        let mailbox = Mailbox::new(3, |_, _| {});
        for slot in 0..3 {
            mailbox.put(slot, slot);
        }
        let mut taken = vec![(0, 0)];
        assert_eq!(mailbox.take(Duration::ZERO), Taken::Item { slot: 0, item: 0 });
        mailbox.put(0, 9);
        mailbox.take_others(0, &mut taken);
        assert_eq!(taken, [(0, 0), (1, 1), (2, 2)], "one of each");
        assert_eq!(mailbox.take(Duration::ZERO), Taken::Item { slot: 0, item: 9 });
        mailbox.take_others(0, &mut taken);
        assert_eq!(taken.len(), 3);
    }

    #[test]
    fn closing_lets_the_last_item_through_and_wakes_the_receiver() {
        let mailbox = std::sync::Arc::new(Mailbox::new(2, |_, _| {}));
        mailbox.put(1, 'z');
        mailbox.close(1);
        assert_eq!(mailbox.take(Duration::ZERO), Taken::Item { slot: 1, item: 'z' });
        let other = mailbox.clone();
        let closer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            other.close(0);
        });
        assert_eq!(mailbox.take(Duration::from_secs(60)), Taken::Closed);
        closer.join().unwrap();
    }
}
