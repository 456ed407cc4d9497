//! Objects that look the same. What they are known by cannot tell them apart, and so each gets labels where the other is. Where
//! they were going tells.

/// Where an object is expected in a frame, in pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Expected {
    pub centre: [f64; 2],
    /// Of a disc of its area.
    pub radius: f64,
}

impl Expected {
    /// Whether the discs of two objects overlap.
    pub fn touches(&self, other: &Expected) -> bool {
        self.distance(other) < self.radius + other.radius
    }

    /// Between the centres.
    pub fn distance(&self, other: &Expected) -> f64 {
        let [x, y] = [0, 1].map(|axis| self.centre[axis] - other.centre[axis]);
        x.hypot(y)
    }
}

/// Two objects contend where so much of the labels of the one with fewer are the other's, too.
const CONTENDED: f32 = 0.05;

/// Less than this of the labels that they have apart is left of two that cover one another.
const COVERED: f32 = 0.95;

/// Whether one of two objects covers the other: they have less together than the sums `apart` of the labels of each.
pub fn cover(a: &[f32], b: &[f32], apart: [f32; 2]) -> bool {
    let together: f32 = a.iter().zip(b).map(|(a, b)| (a + b).min(1.0)).sum();
    together < COVERED * (apart[0] + apart[1])
}

/// Those pairs of objects, the lower first, that have labels on the same patches to speak of. `planes` are the labels of each,
/// (objects, patches). What takes time grows with the objects, not with their pairs, where few of them meet.
pub fn contended(planes: &[&[f32]]) -> Vec<(usize, usize)> {
    let count = planes.len();
    let (mut sums, mut common) = (vec![0.0f32; count], vec![0.0f32; count * count]);
    let mut here: Vec<(usize, f32)> = Vec::new();
    for patch in 0..planes.iter().map(|plane| plane.len()).max().unwrap_or(0) {
        here.clear();
        let labels = planes.iter().map(|plane| plane.get(patch).copied().unwrap_or(0.0));
        here.extend(labels.enumerate().filter(|(_, label)| *label > 0.0));
        for (at, (other, b)) in here.iter().enumerate() {
            sums[*other] += b;
            here[..at].iter().for_each(|(one, a)| common[one * count + other] += a.min(*b));
        }
    }
    let pairs = (1..count).flat_map(|other| (0..other).map(move |one| (one, other)));
    let contend = |(one, other): &(usize, usize)| {
        let least = sums[*one].min(sums[*other]);
        least > 0.0 && common[one * count + other] >= CONTENDED * least
    };
    pairs.filter(contend).collect()
}

/// Shares out the labels that two objects have together: of each patch the one gets the more that is expected nearer to it, and
/// nearly all where that is nearer by the half of their size. `places` are the patches' centres in pixels.
pub fn part(labels: [&mut [f32]; 2], expected: [Expected; 2], places: impl Iterator<Item = [f64; 2]>) {
    let [a, b] = labels;
    let spread = (expected[0].radius + expected[1].radius) / 4.0;
    let square = |place: [f64; 2], [x, y]: [f64; 2]| (place[0] - x).powi(2) + (place[1] - y).powi(2);
    for ((a, b), place) in a.iter_mut().zip(b).zip(places) {
        let [to_a, to_b] = expected.map(|expected| square(place, expected.centre));
        let share = 1.0 / (1.0 + ((to_a - to_b) / (2.0 * spread * spread).max(1e-9)).exp());
        let all = (*a + *b).min(1.0);
        (*a, *b) = (all * share as f32, all * (1.0 - share) as f32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_go_to_who_is_expected_nearer_and_none_are_made_up() {
        // Ten patches of 10 pixels in a row; both have labels at 1 to 3 and at 6 to 8.
        let both = || (0..10).map(|i| if [1, 2, 3, 6, 7, 8].contains(&i) { 0.5 } else { 0.0 }).collect::<Vec<f32>>();
        let (mut a, mut b) = (both(), both());
        assert_eq!(contended(&[&a, &[0.0; 10], &b, &[]]), [(0, 2)]);
        let at = |x| Expected { centre: [x, 5.0], radius: 15.0 };
        let places = || (0..10).map(|i| [10.0 * f64::from(i) + 5.0, 5.0]);
        part([&mut a, &mut b], [at(25.0), at(75.0)], places());
        for i in 0..10 {
            assert!((a[i] + b[i] - 2.0 * both()[i]).abs() < 1e-6, "{i}");
        }
        assert!(a[1..4].iter().all(|label| *label > 0.95) && b[6..9].iter().all(|label| *label > 0.95), "{a:?} {b:?}");
        assert!(contended(&[&a, &b]).is_empty() && !at(25.0).touches(&at(75.0)) && at(25.0).touches(&at(50.0)));
        assert!(cover(&a, &b, [4.0, 4.0]) && !cover(&a, &b, [3.0, 3.0]));
        // Where both are expected in one place, both keep what they have.
        let (mut a, mut b) = (both(), both());
        part([&mut a, &mut b], [at(25.0), at(25.0)], places());
        assert!(a.iter().zip(both()).all(|(a, before)| (a - before).abs() < 1e-6));
        // What is as nothing does no harm.
        let point = Expected { centre: [25.0, 5.0], radius: 0.0 };
        part([&mut a, &mut b], [point; 2], places());
        part([&mut a, &mut b], [point, at(75.0)], places());
        assert!(a.iter().chain(&b).all(|label| (0.0..=1.0).contains(label)), "{a:?} {b:?}");
    }
}
