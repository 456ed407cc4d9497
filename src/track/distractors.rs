//! What looks as an object does, and is known not to be it. What an object is known by cannot tell it from those; but while each of
//! them is where it was, what else looks so is the object.

use super::lookalikes::Expected;

/// Where those are that were in sight when the object was not.
#[derive(Clone, Debug, PartialEq)]
pub struct Distractors {
    places: Vec<Expected>,
}

impl Distractors {
    /// Those of `alike` that are not where the object was last seen, `gone_from`: so far it cannot have come.
    pub fn of(alike: &[Expected], gone_from: &Expected) -> Distractors {
        Distractors { places: alike.iter().filter(|part| !part.touches(gone_from)).copied().collect() }
    }

    /// Follows each to where it is now, of all that look `alike`. Whether there are some, each is in sight, and at most one more looks
    /// so: of one that is out of sight, it could not be told whether it is what comes.
    pub fn follow(&mut self, alike: &[Expected]) -> bool {
        let mut taken = vec![false; alike.len()];
        let mut now = Vec::with_capacity(self.places.len());
        for place in &self.places {
            let touched = (0..alike.len()).filter(|at| place.touches(&alike[*at]));
            let nearest = touched.min_by(|a, b| place.distance(&alike[*a]).total_cmp(&place.distance(&alike[*b])));
            let Some(nearest) = nearest.filter(|at| !taken[*at]) else { return false };
            taken[nearest] = true;
            now.push(alike[nearest]);
        }
        let others = (0..alike.len()).filter(|at| !taken[*at] && !self.cover(&alike[*at])).count();
        self.places = now;
        !self.places.is_empty() && others <= 1
    }

    /// Whether something lies where one of them does.
    pub fn cover(&self, place: &Expected) -> bool {
        self.places.iter().any(|one| one.touches(place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Discs of 10 pixels in a row.
    fn at(places: &[f64]) -> Vec<Expected> {
        places.iter().map(|x| Expected { centre: [*x, 0.0], radius: 10.0 }).collect()
    }

    #[test]
    fn what_is_far_from_where_the_object_went_is_another_and_what_is_near_may_be_it() {
        let gone_from = at(&[0.0])[0];
        assert_eq!(Distractors::of(&at(&[15.0, 25.0, 90.0]), &gone_from), Distractors { places: at(&[25.0, 90.0]) });
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
        for Case { why, known, alike, is_told } in cases {
            let mut distractors = Distractors { places: at(known) };
            assert_eq!(distractors.follow(&at(alike)), is_told, "{why}");
        }
    }

    #[test]
    fn those_that_move_are_followed_and_one_that_was_out_of_sight_is_waited_for_where_it_was() {
        let mut distractors = Distractors { places: at(&[0.0]) };
        for x in [12.0, 24.0, 36.0] {
            assert!(distractors.follow(&at(&[x])));
        }
        assert!(distractors.cover(&at(&[20.0])[0]) && !distractors.cover(&at(&[10.0])[0]));
        assert!(!distractors.follow(&at(&[80.0])));
        assert!(distractors.follow(&at(&[80.0, 40.0])) && !distractors.cover(&at(&[80.0])[0]));
    }
}
