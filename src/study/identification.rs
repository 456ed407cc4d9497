//! Is this patch of the same object, across frames? Patches of objects and of backgrounds are sampled, and compared
//! with those of all other frames of all videos.

use ndarray::{Array2, Axis, concatenate};

use super::mix;
use super::neighbours::{each_similarity, nearest, vote};
use super::scores::{Measure, Scores};
use super::video::View;

/// Patches of one class that are sampled in one frame.
const SAMPLES: usize = 8;

/// Adds the scores of one half of the videos: anchors are sampled from `labelled`, what they are compared with from
/// `seen`.
pub fn run(labelled: &[View], seen: &[View], k: usize, seed: u64, scores: &mut Scores) {
    let ((anchors, anchor_rows), (others, other_rows)) = (sample(labelled, seed), sample(seen, seed));
    for (video, view) in labelled.iter().enumerate() {
        for class in 1..=view.video.objects as u8 {
            let of_object = |origin: &Origin| origin.video == video && origin.class == class;
            let places: Vec<usize> = (0..anchors.len()).filter(|at| of_object(&anchors[*at])).collect();
            let rows = anchor_rows.select(Axis(0), &places);
            let (mut same, mut different, mut shares) = (Vec::new(), Vec::new(), 0.0);
            each_similarity(rows.view(), other_rows.view(), |query, similarities| {
                let anchor = anchors[places[query]];
                let before = (same.len(), different.len());
                for (other, similarity) in others.iter().zip(similarities) {
                    if !anchor.same_frame(*other) {
                        let of = if anchor.same_object(*other) { &mut same } else { &mut different };
                        of.push(*similarity);
                    }
                }
                let [same, different] = [same.len() - before.0, different.len() - before.1];
                shares += same as f64 / (same + different).max(1) as f64;
            });
            if same.is_empty() || different.is_empty() {
                continue;
            }
            scores.push(Measure::Auc, area_under_curve(&mut same, &mut different), Some(0.5));
            let may = |query: usize, other: usize| !anchors[places[query]].same_frame(others[other]);
            let found = nearest(rows.view(), other_rows.view(), k, may);
            let right = found.iter().filter(|neighbours| {
                let told: Vec<(usize, u8)> =
                    neighbours.iter().map(|other| (others[*other].video, others[*other].class)).collect();
                vote(&told) == Some((video, class))
            });
            let (right, anchors) = (right.count() as f64, places.len() as f64);
            scores.push(Measure::Identified, right / anchors, (k == 1).then_some(shares / anchors));
        }
    }
}

/// Where a patch is from, and what it shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Origin {
    video: usize,
    look: usize,
    /// 0 for the background.
    class: u8,
}

impl Origin {
    fn same_frame(self, other: Origin) -> bool {
        (self.video, self.look) == (other.video, other.look)
    }

    fn same_object(self, other: Origin) -> bool {
        self.class > 0 && (self.video, self.class) == (other.video, other.class)
    }
}

/// Some patches of each class in each frame, the same ones whatever the features: their origins and their rows, (patches,
/// dimensions).
fn sample(views: &[View], seed: u64) -> (Vec<Origin>, Array2<f32>) {
    let (mut origins, mut rows) = (Vec::new(), Vec::new());
    for (video, view) in views.iter().enumerate() {
        for (look, shown) in view.video.looks.iter().enumerate() {
            for class in 0..=view.video.objects as u8 {
                let mut patches = shown.patches(class);
                let place = |patch: &usize| mix(&[seed, video as u64, look as u64, *patch as u64]);
                patches.sort_by_key(place);
                patches.truncate(SAMPLES);
                origins.extend(patches.iter().map(|_| Origin { video, look, class }));
                rows.push(view.rows(look, &patches));
            }
        }
    }
    let rows: Vec<_> = rows.iter().map(|rows| rows.view()).collect();
    (origins, concatenate(Axis(0), &rows).expect("rows of one length"))
}

/// How often one of `same` is larger than one of `different`, equals counting for a half: the area under the ROC curve
/// by the statistic of Mann and Whitney. Sorts both.
fn area_under_curve(same: &mut [f32], different: &mut [f32]) -> f64 {
    same.sort_by(f32::total_cmp);
    different.sort_by(f32::total_cmp);
    let (mut below, mut not_above, mut wins) = (0, 0, 0.0);
    for value in same.iter() {
        while below < different.len() && different[below] < *value {
            below += 1;
        }
        not_above = not_above.max(below);
        while not_above < different.len() && different[not_above] <= *value {
            not_above += 1;
        }
        wins += (below + not_above) as f64 / 2.0;
    }
    wins / (same.len() as f64 * different.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_area_is_that_of_all_pairs(
            same in prop::collection::vec(0u8..12, 1..40), different in prop::collection::vec(0u8..12, 1..40),
        ) {
            let pairs = same.iter().flat_map(|a| different.iter().map(move |b| (a, b)));
            let wins: f64 = pairs.map(|(a, b)| if a > b { 1.0 } else if a == b { 0.5 } else { 0.0 }).sum();
            let expected = wins / (same.len() * different.len()) as f64;
            let floats = |values: Vec<u8>| values.into_iter().map(f32::from).collect::<Vec<f32>>();
            let got = area_under_curve(&mut floats(same), &mut floats(different));
            prop_assert!((got - expected).abs() < 1e-12);
        }
    }
}
