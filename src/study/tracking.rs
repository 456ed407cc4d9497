//! Across frames: from each patch of an object to its nearest in the next frame, and whole masks by the daemon's own
//! propagation.

use super::neighbours::{nearest, vote};
use super::scores::{Measure, Scores};
use super::video::View;
use super::{Plan, StudyError};
use crate::eval::measures::score_frame;
use crate::eval::report::Score;
use crate::track::Session;
use crate::types::{InputTensor, Mask, Seed, TrackId};

/// Adds the scores of one half of the videos: each frame is of `labelled` and the next of `seen`; masks are given in
/// the first frame of `labelled`, and followed through `seen`.
pub fn run(labelled: &[View], seen: &[View], plan: &Plan, scores: &mut Scores) -> Result<(), StudyError> {
    for (labelled, seen) in labelled.iter().zip(seen) {
        next_patch(labelled, seen, plan.k, scores);
        propagation(labelled, seen, plan, scores)?;
    }
    Ok(())
}

fn next_patch(labelled: &View, seen: &View, k: usize, scores: &mut Scores) {
    for object in 1..=labelled.video.objects as u8 {
        let (mut right, mut by_chance, mut all) = (0, 0.0, 0);
        for at in 0..labelled.video.looks.len() - 1 {
            let (patches, next) = (labelled.video.looks[at].patches(object), &seen.video.looks[at + 1]);
            if next.patches(object).is_empty() {
                // It cannot be found where it is not.
                continue;
            }
            let known = next.known();
            let found = nearest(labelled.rows(at, &patches).view(), seen.rows(at + 1, &known).view(), k, |_, _| true);
            let is_object = |neighbours: &Vec<usize>| {
                let classes: Vec<u8> = neighbours.iter().map(|key| next.classes[known[*key]]).collect();
                vote(&classes) == Some(object)
            };
            right += found.iter().filter(|neighbours| is_object(neighbours)).count();
            all += patches.len();
            let share = next.patches(object).len() as f64 / known.len().max(1) as f64;
            by_chance += share * patches.len() as f64;
        }
        if all > 0 {
            let chance = (k == 1).then_some(by_chance / all as f64);
            scores.push(Measure::Followed, right as f64 / all as f64, chance);
        }
    }
}

fn propagation(labelled: &View, seen: &View, plan: &Plan, scores: &mut Scores) -> Result<(), StudyError> {
    let (first, looks) = (&labelled.video.looks[0], &seen.video.looks);
    let features = &labelled.features[0];
    let mut track = plan.track.clone();
    // As in `eval`: masks are asked for to the last frame, and nothing is looked for everywhere.
    (track.recover, track.remove_after_s) = (false, 0.0);
    let mut session = Session::new(plan.rule.clone(), track, features.grid, features.dim);
    session.step(&first.meta, features);
    let masks = first.annotation.masks(labelled.video.objects);
    // What is not in the first frame is not followed, and not scored.
    let given: Vec<bool> = masks.iter().map(|mask| !mask.is_empty()).collect();
    for (number, mask) in (1..).zip(masks).filter(|(_, mask)| !mask.is_empty()) {
        let tagged = session.tag(&Seed::Mask(mask), None, TrackId(number), number.to_string());
        // One that covers too little of any patch is not followed, and scores nothing.
        if let Err(error) = tagged
            && !matches!(error, crate::track::TagError::Seed(_))
        {
            return Err(StudyError::Follow { video: seen.video.name.clone(), problem: error.to_string() });
        }
    }
    // (objects, frames that are scored)
    let mut of_objects: Vec<Vec<Score>> = vec![Vec::new(); labelled.video.objects];
    // As DAVIS has it, neither the first frame nor the last is scored.
    for (look, features) in looks.iter().zip(seen.features.iter()).take(looks.len().max(3) - 1).skip(1) {
        session.propagate(features);
        session.observe(&look.meta, &InputTensor::default());
        let drawn = |number: u64| {
            let drawn = session.masks().find(|(id, _)| *id == TrackId(number));
            drawn.map_or_else(|| Mask::empty(look.meta.width, look.meta.height), |(_, mask)| mask.clone())
        };
        let masks: Vec<Mask> = (1..=of_objects.len() as u64).map(drawn).collect();
        of_objects.iter_mut().zip(score_frame(&masks, &look.annotation)).for_each(|(of, score)| of.push(score));
    }
    for score in of_objects.into_iter().zip(given).filter(|(_, given)| *given).map(|(of, _)| Score::mean(of)) {
        scores.push(Measure::J, score.j, None);
        scores.push(Measure::F, score.f, None);
    }
    Ok(())
}
