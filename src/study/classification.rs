//! Few-shot classification of patches: a few frames of each video are labelled, the patches of the rest get the class of
//! their nearest neighbours. Every object of every video is a class, and all backgrounds together are one.

use ndarray::{Array2, Axis, concatenate};

use super::neighbours::{nearest, vote};
use super::scores::{ClassScore, Measure, Scores};
use super::video::View;

/// Of each class: labelled patches, patches to tell, told rightly, told to be of it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Counts {
    labelled: u64,
    to_tell: u64,
    right: u64,
    told: u64,
}

/// Adds the scores of one half of the videos.
pub fn run(labelled: &[View], seen: &[View], shots: usize, k: usize, scores: &mut Scores) {
    let first_class: Vec<usize> = labelled
        .iter()
        .scan(1, |next, view| {
            let first = *next;
            *next += view.video.objects;
            Some(first)
        })
        .collect();
    let class_of = |view: usize, class: u8| if class == 0 { 0 } else { first_class[view] + usize::from(class) - 1 };
    let names: Vec<String> = std::iter::once("background".into())
        .chain(labelled.iter().flat_map(|view| {
            (1..=view.video.objects).map(|number| format!("{}/{number}", view.video.name)).collect::<Vec<_>>()
        }))
        .collect();
    let mut counts = vec![Counts::default(); names.len()];

    let mut bank: Vec<Array2<f32>> = Vec::new();
    let mut bank_classes: Vec<usize> = Vec::new();
    for (at, view) in labelled.iter().enumerate() {
        for look in shown(view.video.looks.len(), shots) {
            let known = view.video.looks[look].known();
            bank.push(view.rows(look, &known));
            bank_classes.extend(known.into_iter().map(|patch| class_of(at, view.video.looks[look].classes[patch])));
        }
    }
    bank_classes.iter().for_each(|class| counts[*class].labelled += 1);
    let bank =
        concatenate(Axis(0), &bank.iter().map(|rows| rows.view()).collect::<Vec<_>>()).expect("rows of one length");

    for (at, view) in seen.iter().enumerate() {
        let shown: Vec<usize> = shown(view.video.looks.len(), shots).collect();
        for look in (0..view.video.looks.len()).filter(|look| !shown.contains(look)) {
            let known = view.video.looks[look].known();
            let found = nearest(view.rows(look, &known).view(), bank.view(), k, |_, _| true);
            for (patch, neighbours) in known.into_iter().zip(found) {
                let class = class_of(at, view.video.looks[look].classes[patch]);
                counts[class].to_tell += 1;
                let neighbours: Vec<usize> = neighbours.into_iter().map(|key| bank_classes[key]).collect();
                if let Some(told) = vote(&neighbours) {
                    counts[told].told += 1;
                    counts[class].right += u64::from(told == class);
                }
            }
        }
    }
    conclude(&counts, &names, k, scores);
}

/// Which of a video's looks are labelled: the first, and others spread evenly; never all.
fn shown(looks: usize, shots: usize) -> impl Iterator<Item = usize> {
    let shots = shots.min(looks - 1);
    (0..shots).map(move |shot| shot * looks / shots)
}

fn conclude(counts: &[Counts], names: &[String], k: usize, scores: &mut Scores) {
    let all = counts.iter().fold(Counts::default(), |all, counts| Counts {
        labelled: all.labelled + counts.labelled,
        to_tell: all.to_tell + counts.to_tell,
        ..all
    });
    for (counts, name) in counts.iter().zip(names).filter(|(counts, _)| counts.to_tell > 0) {
        let accuracy = counts.right as f64 / counts.to_tell as f64;
        let iou = counts.right as f64 / (counts.to_tell + counts.told - counts.right) as f64;
        // A neighbour at random has the class as often as the labelled patches have it; with several that vote, the
        // larger classes win more often than that.
        let share = counts.labelled as f64 / all.labelled.max(1) as f64;
        let known = (k == 1).then_some(share);
        let (to_tell, told) = (counts.to_tell as f64, share * all.to_tell as f64);
        let by_chance = known.map(|share| share * to_tell / (to_tell + told - share * to_tell));
        scores.push(Measure::Accuracy, accuracy, known);
        scores.push(Measure::Iou, iou, by_chance);
        scores.classes.push(ClassScore { name: name.clone(), accuracy, iou });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labelled_frames_are_spread_and_leave_some_to_tell() {
        let shown = |looks, shots| shown(looks, shots).collect::<Vec<usize>>();
        assert_eq!(shown(9, 1), [0]);
        assert_eq!(shown(9, 3), [0, 3, 6]);
        assert_eq!(shown(3, 9), [0, 1]);
    }

    #[test]
    fn accuracy_and_iou_are_of_each_class() {
        let counts = [
            Counts { labelled: 60, to_tell: 80, right: 60, told: 70 },
            Counts { labelled: 40, to_tell: 20, right: 10, told: 30 },
            // Labelled, but nowhere to be told: it is no class of the test.
            Counts { labelled: 0, to_tell: 0, right: 0, told: 0 },
        ];
        let names: Vec<String> = ["background", "boat/1", "boat/2"].map(String::from).into();
        let mut scores = Scores::default();
        conclude(&counts, &names, 1, &mut scores);
        let near = |got: Option<f64>, expected: f64| (got.unwrap() - expected).abs() < 1e-12;
        assert!(near(scores.get(Measure::Accuracy), (0.75 + 0.5) / 2.0));
        assert!(near(scores.get(Measure::Iou), (60.0 / 90.0 + 10.0 / 40.0) / 2.0));
        assert!(near(scores.chance(Measure::Accuracy), 0.5), "shares of all classes sum to 1");
        // 60% of the 100 are told to be background: 48 of the 80 rightly, so 48 / (80 + 60 - 48).
        assert!(near(scores.chance(Measure::Iou), (48.0 / 92.0 + 8.0 / 52.0) / 2.0));
        assert_eq!(scores.classes.len(), 2);
        let mut several = Scores::default();
        conclude(&counts, &names, 3, &mut several);
        assert_eq!(several.chance(Measure::Accuracy), None);
    }
}
