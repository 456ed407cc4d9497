//! An object of one frame, found among all objects of all other frames, and among pieces of background of the objects'
//! own shapes.

use ndarray::{Array1, ArrayView2};

use super::mix;
use super::scores::{Measure, Scores};
use super::video::{Look, View};

/// Objects of which less is in the frame are neither looked for nor among what is searched, in patches.
const LEAST: f32 = 0.25;
/// Places that a piece of background may be taken from; the one with the least of any object is.
const PLACES: u64 = 16;

/// Adds the scores of one half of the videos: examples are of `labelled`, what is searched of `seen`.
pub fn run(labelled: &[View], seen: &[View], seed: u64, scores: &mut Scores) {
    let searched: Vec<Item> = items(seen, Some(seed));
    for query in items(labelled, None) {
        let elsewhere = searched.iter().filter(|item| (item.video, item.look) != (query.video, query.look));
        let mut ranking: Vec<(f32, bool)> = elsewhere
            .map(|item| {
                let relevant = item.video == query.video && item.object == query.object;
                (item.embedding.dot(&query.embedding), relevant)
            })
            .collect();
        ranking.sort_by(|a, b| b.0.total_cmp(&a.0));
        let relevant: Vec<bool> = ranking.into_iter().map(|(_, relevant)| relevant).collect();
        let count = relevant.iter().filter(|relevant| **relevant).count();
        if count == 0 {
            continue;
        }
        let (precision, chance) = (average_precision(&relevant), chance(count, relevant.len()));
        scores.push(Measure::Retrieval, precision, Some(chance));
        scores.push(by_size(query.size), precision, Some(chance));
    }
}

/// Something that can be found.
struct Item {
    video: usize,
    look: usize,
    /// Counted from 0; `None` for a piece of background.
    object: Option<usize>,
    /// (dimensions), unit length
    embedding: Array1<f32>,
    /// In patches.
    size: f32,
}

fn by_size(patches: f32) -> Measure {
    match patches {
        ..4.0 => Measure::RetrievalTiny,
        4.0..16.0 => Measure::RetrievalSmall,
        16.0..64.0 => Measure::RetrievalMedium,
        _ => Measure::RetrievalLarge,
    }
}

/// All objects of all frames; with a seed, a piece of background beside each.
fn items(views: &[View], distractors: Option<u64>) -> Vec<Item> {
    let mut items = Vec::new();
    for (video, view) in views.iter().enumerate() {
        for (at, look) in view.video.looks.iter().enumerate() {
            let features = &view.features[at];
            let rows = ArrayView2::from_shape((features.grid.len(), features.dim), &features.data).expect("whole rows");
            let mut push = |object: Option<usize>, weights: &[f32]| {
                let size: f32 = weights.iter().sum();
                let mut embedding = rows.t().dot(&ndarray::ArrayView1::from(weights));
                let length = embedding.dot(&embedding).sqrt();
                if size >= LEAST && length > 0.0 {
                    embedding /= length;
                    items.push(Item { video, look: at, object, embedding, size });
                }
            };
            for object in 0..view.video.objects {
                push(Some(object), look.fractions(object));
                if let Some(seed) = distractors {
                    let seed = mix(&[seed, video as u64, at as u64, object as u64]);
                    push(None, &elsewhere(look, view.video.objects, object, features.grid.cols, seed));
                }
            }
        }
    }
    items
}

/// The shape of an object at another place of its frame, without what of it is an object there: (patches).
fn elsewhere(look: &Look, objects: usize, object: usize, cols: usize, seed: u64) -> Vec<f32> {
    let shape = look.fractions(object);
    let rows = shape.len() / cols;
    let background = |patch: usize| {
        let known = if look.classes[patch] == crate::eval::davis::VOID { 0.0 } else { 1.0f32 };
        (known - (0..objects).map(|object| look.fractions(object)[patch]).sum::<f32>()).max(0.0)
    };
    let background: Vec<f32> = (0..shape.len()).map(background).collect();
    let shifted = |place: u64| -> Vec<f32> {
        let random = mix(&[seed, place]);
        let (down, right) = ((random >> 32) as usize % rows, random as u32 as usize % cols);
        let from = |patch: usize| (patch / cols + down) % rows * cols + (patch % cols + right) % cols;
        (0..shape.len()).map(|patch| shape[from(patch)] * background[patch]).collect()
    };
    let largest = |a: &Vec<f32>, b: &Vec<f32>| a.iter().sum::<f32>().total_cmp(&b.iter().sum::<f32>());
    (0..PLACES).map(shifted).max_by(largest).expect("some places")
}

/// The mean, over what is relevant, of the share of relevant ones down to there.
fn average_precision(ranking: &[bool]) -> f64 {
    let (mut found, mut sum) = (0.0, 0.0);
    for (rank, _) in ranking.iter().enumerate().filter(|(_, relevant)| **relevant) {
        found += 1.0;
        sum += found / (rank as f64 + 1.0);
    }
    sum / found
}

/// The mean average precision of rankings at random, of `all` with `relevant` ones among them (as derived by Bestgen,
/// 2015).
///
/// Rank i holds a relevant one in R of N cases; then each of the i - 1 before it is relevant in R - 1 of N - 1.
fn chance(relevant: usize, all: usize) -> f64 {
    let (relevant, count) = (relevant as f64, all as f64);
    let harmonic: f64 = (1..=all).map(|rank| 1.0 / rank as f64).sum();
    let others = if all > 1 { (relevant - 1.0) / (count - 1.0) } else { 0.0 };
    (harmonic + others * (count - harmonic)) / count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn average_precision_is_that_of_the_definition() {
        assert_eq!(average_precision(&[true, true, false]), 1.0);
        assert_eq!(average_precision(&[false, true, false, true]), (0.5 + 0.5) / 2.0);
        assert_eq!(average_precision(&[false, false, true]), 1.0 / 3.0);
    }

    #[test]
    fn chance_is_the_mean_over_all_rankings() {
        for (relevant, all) in [(1, 1), (1, 5), (2, 6), (3, 7), (8, 8)] {
            let rankings = (0u32..1 << all).filter(|bits| bits.count_ones() as usize == relevant);
            let precision = |bits: u32| average_precision(&(0..all).map(|i| bits >> i & 1 == 1).collect::<Vec<_>>());
            let all_of_them: Vec<f64> = rankings.map(precision).collect();
            let mean = all_of_them.iter().sum::<f64>() / all_of_them.len() as f64;
            assert!((chance(relevant, all) - mean).abs() < 1e-12, "{relevant} of {all}");
        }
    }
}
