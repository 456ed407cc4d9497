//! What looks as an object does, and is known not to be it. What an object is known by cannot tell it from those; but while each of
//! them is where it was, what else looks so is the object.

use super::lookalikes::Expected;

/// Seconds for which what passed by is waited for; and what was in sight for less has passed by.
const PASSING: f64 = 1.0;

/// Where those are that were in sight when the object was not.
#[derive(Clone, Debug, PartialEq)]
pub struct Distractors {
    seen: Vec<Seen>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Seen {
    place: Expected,
    /// In seconds.
    first: f64,
    last: f64,
}

impl Distractors {
    /// Those of `alike`, at `now` in seconds, that are not where the object was last seen, `gone_from`: so far it cannot have come.
    pub fn of(alike: &[Expected], gone_from: &Expected, now: f64) -> Distractors {
        let others = alike.iter().filter(|part| !part.touches(gone_from));
        Distractors { seen: others.map(|place| Seen { place: *place, first: now, last: now }).collect() }
    }

    /// Follows each to where it is `now`, of all that look `alike`. Whether there are some, each is in sight, and at most one more looks
    /// so: of one that is out of sight, it could not be told whether it is what comes. But what was in sight for a moment only was the
    /// last of the object on its way, and is not waited for while there are others.
    pub fn follow(&mut self, alike: &[Expected], now: f64) -> bool {
        let mut taken = vec![false; alike.len()];
        let mut is_clear = true;
        let (mut followed, mut passed) = (Vec::with_capacity(self.seen.len()), Vec::new());
        for one in &self.seen {
            let touched = (0..alike.len()).filter(|at| one.place.touches(&alike[*at]));
            let nearest =
                touched.min_by(|a, b| one.place.distance(&alike[*a]).total_cmp(&one.place.distance(&alike[*b])));
            match nearest {
                Some(at) if !taken[at] => {
                    taken[at] = true;
                    followed.push(Seen { place: alike[at], last: now, ..*one });
                }
                None if now - one.last > PASSING && one.last - one.first < PASSING => passed.push(*one),
                _ => {
                    is_clear = false;
                    followed.push(*one);
                }
            }
        }
        if followed.is_empty() {
            is_clear = false;
            followed = passed;
        }
        self.seen = followed;
        let others = (0..alike.len()).filter(|at| !taken[*at] && !self.cover(&alike[*at])).count();
        is_clear && others <= 1
    }

    /// Whether something lies where one of them does.
    pub fn cover(&self, place: &Expected) -> bool {
        self.seen.iter().any(|one| one.place.touches(place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Discs of 10 pixels in a row.
    fn at(places: &[f64]) -> Vec<Expected> {
        places.iter().map(|x| Expected { centre: [*x, 0.0], radius: 10.0 }).collect()
    }

    /// Those that were first seen at 0, and last at `now`.
    fn known(places: &[f64], now: f64) -> Distractors {
        let seen = |place| Seen { place, first: 0.0, last: now };
        Distractors { seen: at(places).into_iter().map(seen).collect() }
    }

    #[test]
    fn what_is_far_from_where_the_object_went_is_another_and_what_is_near_may_be_it() {
        let gone_from = at(&[0.0])[0];
        assert_eq!(Distractors::of(&at(&[15.0, 25.0, 90.0]), &gone_from, 0.0), known(&[25.0, 90.0], 0.0));
    }

    #[test]
    fn one_that_comes_is_told_from_those_that_were_there() {
        struct Case {
            why: &'static str,
            known: &'static [f64],
            alike: &'static [f64],
            is_told: bool,
        }
        let cases = [
            Case { why: "they stay", known: &[0.0, 50.0], alike: &[52.0, 3.0], is_told: true },
            Case { why: "one comes", known: &[0.0, 50.0], alike: &[3.0, 90.0, 52.0], is_told: true },
            Case { why: "two come", known: &[0.0], alike: &[3.0, 90.0, 150.0], is_told: false },
            Case { why: "there were none", known: &[], alike: &[90.0], is_told: false },
            Case { why: "one is out of sight", known: &[0.0, 50.0], alike: &[3.0, 90.0], is_told: false },
            Case { why: "two are in one place", known: &[0.0, 25.0], alike: &[12.0, 90.0], is_told: false },
        ];
        for Case { why, known: places, alike, is_told } in cases {
            for (now, later) in [(0.0, 0.1), (5.0, 5.1), (5.0, 50.0)] {
                assert_eq!(known(places, now).follow(&at(alike), later), is_told, "{why}, {now} to {later}");
            }
        }
    }

    #[test]
    fn those_that_move_are_followed_and_one_that_was_out_of_sight_is_waited_for_where_it_was() {
        let mut distractors = known(&[0.0], 5.0);
        for x in [12.0, 24.0, 36.0] {
            assert!(distractors.follow(&at(&[x]), 5.0));
        }
        assert!(distractors.cover(&at(&[20.0])[0]) && !distractors.cover(&at(&[10.0])[0]));
        assert!(!distractors.follow(&at(&[80.0]), 50.0));
        assert!(distractors.follow(&at(&[80.0, 40.0]), 90.0) && !distractors.cover(&at(&[80.0])[0]));
    }

    #[test]
    fn what_passed_by_is_forgotten_after_a_while_where_another_stays() {
        let mut distractors = known(&[0.0, 50.0], 0.0);
        assert!(distractors.follow(&at(&[0.0, 50.0]), 0.9), "the second is seen for less than a second");
        assert!(!distractors.follow(&at(&[0.0, 90.0]), 1.8), "and waited for as long");
        assert!(distractors.follow(&at(&[0.0, 90.0]), 2.0));
        assert!(distractors.cover(&at(&[0.0])[0]) && !distractors.cover(&at(&[50.0])[0]));
        // The last of all is waited for.
        let mut last = known(&[50.0], 0.5);
        assert!(!last.follow(&at(&[90.0]), 9.0));
        assert!(last.follow(&at(&[90.0, 50.0]), 9.1) && !last.cover(&at(&[90.0])[0]));
        // Nor is one forgotten that is in sight beside another.
        assert!(!known(&[0.0, 25.0], 0.5).follow(&at(&[12.0, 90.0]), 9.0));
    }
}
