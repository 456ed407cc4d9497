//! Numbers and stamps of frames, made from what drivers tell of them, which is not always true.

/// Numbers a camera's frames by its driver's counter, and tells how many were lost before each.
///
/// Numbers only ever grow: neither a driver's counter that repeats, wraps or begins again nor opening the
/// device again makes one come twice.
#[derive(Clone, Debug)]
pub struct SequenceCounter {
    /// The least number that the next frame may bear.
    next: u64,
    /// The driver's number of the last frame that was kept.
    last: Option<u32>,
    /// Frames thrown away since then.
    lost: u64,
}

/// A frame's number, and how many frames were lost between it and the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbered {
    pub seq: u64,
    pub dropped: u64,
}

impl SequenceCounter {
    /// Numbers from `next` on.
    pub fn resume_from(next: u64) -> SequenceCounter {
        SequenceCounter { next, last: None, lost: 0 }
    }

    /// A frame came, and was thrown away: it was damaged, or a newer one was there already.
    pub fn lose(&mut self) {
        self.lost = self.lost.saturating_add(1);
    }

    /// A frame came and is kept. `driver` is the driver's own number of it, where the driver counts.
    pub fn keep(&mut self, driver: Option<u32>) -> Numbered {
        let step = self.last.zip(driver).map_or(0, |(last, now)| now.wrapping_sub(last));
        let dropped = match step {
            // The counter stood still, went back or is not there: it says nothing of frames between.
            0 | 0x8000_0000.. => self.lost,
            // A driver that counts has counted what was thrown away here as well.
            _ => u64::from(step) - 1,
        };
        let seq = self.next.saturating_add(dropped);
        self.next = seq.saturating_add(1);
        self.last = driver;
        self.lost = 0;
        Numbered { seq, dropped }
    }
}

/// Keeps the monotonic stamps of a camera's frames believable: never in the future, never going back.
#[derive(Clone, Copy, Debug, Default)]
pub struct StampKeeper {
    last_ns: u64,
}

impl StampKeeper {
    /// The stamp to use for a frame that the driver stamped `driver_ns`, if on the monotonic clock at all, and
    /// that was received at `now_ns`. All on the monotonic clock, in nanoseconds.
    pub fn keep(&mut self, driver_ns: Option<u64>, now_ns: u64) -> u64 {
        let stamp = driver_ns.filter(|stamp| (1..=now_ns).contains(stamp)).unwrap_or(now_ns);
        self.last_ns = stamp.max(self.last_ns.saturating_add(1));
        self.last_ns
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn frames_are_numbered_as_the_driver_counts() {
        struct Case {
            driver: Option<u32>,
            lost: u64,
            numbered: (u64, u64),
        }
        let case = |driver, lost, seq, dropped| Case { driver, lost, numbered: (seq, dropped) };
        let cases = [
            case(Some(7), 0, 100, 0),
            case(Some(8), 0, 101, 0),
            // Two lost by the driver.
            case(Some(11), 0, 104, 2),
            // Two thrown away here, which the driver counted as well.
            case(Some(14), 2, 107, 2),
            // A number that repeats.
            case(Some(14), 0, 108, 0),
            // A driver that began again, with one thrown away here.
            case(Some(0), 1, 110, 1),
            case(Some(1), 0, 111, 0),
            case(None, 0, 112, 0),
            case(None, 3, 116, 3),
        ];
        let mut counter = SequenceCounter::resume_from(100);
        for Case { driver, lost, numbered: (seq, dropped) } in cases {
            (0..lost).for_each(|_| counter.lose());
            assert_eq!(counter.keep(driver), Numbered { seq, dropped });
        }
    }

    #[test]
    fn the_counter_of_the_driver_may_wrap() {
        let mut counter = SequenceCounter::resume_from(0);
        counter.keep(Some(u32::MAX - 1));
        assert_eq!(counter.keep(Some(1)), Numbered { seq: 3, dropped: 2 });
    }

    #[test]
    fn stamps_that_cannot_be_are_replaced() {
        let mut keeper = StampKeeper::default();
        assert_eq!(keeper.keep(Some(900), 1000), 900);
        assert_eq!(keeper.keep(Some(5000), 1100), 1100, "in the future");
        assert_eq!(keeper.keep(None, 1200), 1200);
        assert_eq!(keeper.keep(Some(0), 1300), 1300, "never set");
        assert_eq!(keeper.keep(Some(1250), 1400), 1301, "before the frame that came before");
    }

    proptest! {
        /// Whatever a driver tells, numbers grow, and each tells truly how far.
        #[test]
        fn numbers_never_repeat_and_never_go_back(
            start in 0..u64::MAX / 2,
            steps in prop::collection::vec((prop::option::of(any::<u32>()), 0..4_u64, any::<bool>()), 0..200),
        ) {
            let mut counter = SequenceCounter::resume_from(start);
            let mut least = start;
            for (driver, lost, reopen) in steps {
                if reopen {
                    counter = SequenceCounter::resume_from(least);
                }
                (0..lost).for_each(|_| counter.lose());
                let numbered = counter.keep(driver);
                prop_assert_eq!(numbered.seq, least + numbered.dropped);
                least = numbered.seq + 1;
            }
        }

        /// A driver that counts truly is believed: numbers differ by as much as the frames do.
        #[test]
        fn numbers_follow_a_driver_that_counts(
            start in any::<u32>(),
            // How far on the next frame lies that is kept, and how many of those between are seen, and thrown away.
            steps in prop::collection::vec((1..1000_u32, 0..1000_u32), 1..100),
        ) {
            let mut counter = SequenceCounter::resume_from(0);
            let (mut driver, mut seq) = (start, 0);
            counter.keep(Some(driver));
            for (step, seen) in steps {
                (0..seen.min(step - 1)).for_each(|_| counter.lose());
                driver = driver.wrapping_add(step);
                seq += u64::from(step);
                let expected = Numbered { seq, dropped: u64::from(step) - 1 };
                prop_assert_eq!(counter.keep(Some(driver)), expected);
            }
        }

        #[test]
        fn stamps_only_grow_and_keep_behind_the_clock(
            steps in prop::collection::vec((prop::option::of(0..20_000_u64), 2..100_u64), 0..100),
        ) {
            let (mut keeper, mut last, mut now) = (StampKeeper::default(), 0, 1);
            for (driver, passed) in steps {
                now += passed;
                let stamp = keeper.keep(driver, now);
                prop_assert!(stamp > last && stamp <= now);
                last = stamp;
            }
        }
    }
}
