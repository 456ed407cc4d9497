//! Few-shot classification of patches: a few frames of each video are labelled, the patches of the rest get the class
//! of their nearest neighbours. Every object of every video is a class, and all backgrounds together are one.

use ndarray::{Array2, Axis, concatenate};

use super::neighbours::{nearest, vote};
use super::scores::{ClassCounts, Measure, Scores};
use super::video::View;

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
    let objects = labelled.iter().flat_map(|view| {
        let name = &view.video.name;
        (1..=view.video.objects).map(move |number| format!("{name}/{number}"))
    });
    let mut classes: Vec<ClassCounts> = std::iter::once("background".into())
        .chain(objects)
        .map(|name| ClassCounts { name, patches: 0, told: 0, right: 0 })
        .collect();

    // A matrix for each labelled frame, (patches, dimensions); (all patches)
    let mut bank: Vec<Array2<f32>> = Vec::new();
    let mut bank_classes: Vec<usize> = Vec::new();
    for (at, view) in labelled.iter().enumerate() {
        for look in shown(view.video.looks.len(), shots) {
            let known = view.video.looks[look].known();
            bank.push(view.rows(look, &known));
            bank_classes.extend(known.into_iter().map(|patch| class_of(at, view.video.looks[look].classes[patch])));
        }
    }
    let share = |class: usize| {
        bank_classes.iter().filter(|other| **other == class).count() as f64 / bank_classes.len().max(1) as f64
    };
    let shares: Vec<f64> = (0..classes.len()).map(share).collect();
    let bank =
        concatenate(Axis(0), &bank.iter().map(|rows| rows.view()).collect::<Vec<_>>()).expect("rows of one length");

    for (at, view) in seen.iter().enumerate() {
        let shown: Vec<usize> = shown(view.video.looks.len(), shots).collect();
        for look in (0..view.video.looks.len()).filter(|look| !shown.contains(look)) {
            let known = view.video.looks[look].known();
            let found = nearest(view.rows(look, &known).view(), bank.view(), k, |_, _| true);
            for (patch, neighbours) in known.into_iter().zip(found) {
                let class = class_of(at, view.video.looks[look].classes[patch]);
                classes[class].patches += 1;
                let neighbours: Vec<usize> = neighbours.into_iter().map(|key| bank_classes[key]).collect();
                if let Some(told) = vote(&neighbours) {
                    classes[told].told += 1;
                    classes[class].right += u64::from(told == class);
                }
            }
        }
    }
    conclude(classes, &shares, k, scores);
}

/// Which of a video's looks are labelled: the first, and others spread evenly; never all.
fn shown(looks: usize, shots: usize) -> impl Iterator<Item = usize> {
    let shots = shots.min(looks - 1);
    (0..shots).map(move |shot| shot * looks / shots)
}

/// `shares` are those of the classes among what is labelled.
fn conclude(classes: Vec<ClassCounts>, shares: &[f64], k: usize, scores: &mut Scores) {
    let all: u64 = classes.iter().map(|class| class.patches).sum();
    for (class, share) in classes.into_iter().zip(shares).filter(|(class, _)| class.patches > 0) {
        // A neighbour at random has the class as often as what is labelled has it; where several vote, the larger
        // classes win more often than that.
        let known = (k == 1).then_some(*share);
        let (patches, told) = (class.patches as f64, share * all as f64);
        scores.push(Measure::Accuracy, class.accuracy(), known);
        scores.push(Measure::Iou, class.iou(), known.map(|share| share * patches / (patches + told - share * patches)));
        scores.classes.push(class);
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
        let class = |name: &str, patches, told, right| ClassCounts { name: name.into(), patches, told, right };
        let classes = vec![
            class("background", 80, 70, 60),
            class("boat/1", 20, 30, 10),
            // Labelled nowhere, and nowhere to be told: it is no class of the test.
            class("boat/2", 0, 0, 0),
        ];
        let (shares, mut scores) = ([0.6, 0.4, 0.0], Scores::default());
        conclude(classes.clone(), &shares, 1, &mut scores);
        let near = |got: Option<f64>, expected: f64| (got.unwrap() - expected).abs() < 1e-12;
        assert!(near(scores.get(Measure::Accuracy), (0.75 + 0.5) / 2.0));
        assert!(near(scores.get(Measure::Iou), (60.0 / 90.0 + 10.0 / 40.0) / 2.0));
        assert!(near(scores.chance(Measure::Accuracy), 0.5), "shares of all classes sum to 1");
        // 60% of the 100 are told to be background: 48 of the 80 rightly, so 48 / (80 + 60 - 48).
        assert!(near(scores.chance(Measure::Iou), (48.0 / 92.0 + 8.0 / 52.0) / 2.0));
        assert_eq!(scores.classes.len(), 2);
        let mut several = Scores::default();
        conclude(classes, &shares, 3, &mut several);
        assert_eq!(several.chance(Measure::Accuracy), None);
    }
}
