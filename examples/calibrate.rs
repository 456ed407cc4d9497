//! Fits the weights of a track's score on the synthetic scene, and tells how far the score holds.
//!
//! `cargo run --release --example calibrate` tags every object of several scenes when it first shows, follows
//! them as the daemon does, and pairs what is reported of each that is seen with whether its mask was right (IoU
//! with the exact mask of at least 0.5). Even seeds fit the weights, odd seeds test them.

use std::collections::BTreeMap;

use tagalong::capture::synthetic::{Scene, SceneFrame, SceneOptions};
use tagalong::config::Config;
use tagalong::embed::{self, Embedder};
use tagalong::track::{Evidence, Session};
use tagalong::types::{FrameMeta, Mask, PixelBuf, PixelFormat, Seed, Timestamp, TrackId};

const FRAMES: u64 = 300;
const RIGHT: f64 = 0.5;
/// Pixels of an object that must show before it is tagged.
const IN_SIGHT: usize = 600;

type Sample = ([f32; 5], f32, bool);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let seeds: u64 = std::env::args().nth(1).map_or(Ok(6), |text| text.parse())?;
    let mut samples: [Vec<Sample>; 2] = Default::default();
    for seed in 0..seeds {
        samples[seed as usize % 2].extend(follow(seed)?);
        eprintln!("scene {seed} is done");
    }
    let [fitting, testing] = &samples;
    let weights = fit(fitting);
    println!("samples: {} to fit, {} to test", fitting.len(), testing.len());
    println!("weights: {weights:.2?}");
    println!("\nwith the weights in force, on the scenes that were not fitted:");
    reliability(testing.iter().map(|(_, score, right)| (*score, *right)));
    println!("\nwith the weights just fitted, on the same scenes:");
    reliability(testing.iter().map(|(terms, _, right)| (logistic(terms, &weights), *right)));
    Ok(())
}

fn follow(seed: u64) -> Result<Vec<Sample>, Box<dyn std::error::Error>> {
    let config = Config::builtin();
    let options = SceneOptions { seed, ..SceneOptions::default() };
    let scene = Scene::new(options.clone())?;
    let backbone = embed::load(&config.model)?;
    let grid = backbone.spec().grids[0];
    let mut embedder = Embedder::new(backbone, grid);
    let mut features = embedder.empty_features();
    let mut session = Session::new(config.propagation().clone(), config.track.clone(), grid, embedder.dim());
    let mut rendered = SceneFrame::default();
    let mut numbers: BTreeMap<TrackId, usize> = BTreeMap::new();
    let mut samples = Vec::new();
    for seq in 0..FRAMES {
        scene.render(seq, &mut rendered);
        let pixels = PixelBuf::packed(PixelFormat::Rgb3, options.width, options.height, rendered.rgb.clone())?;
        embedder.embed(&pixels, &mut features)?;
        let ns = (seq as f64 * 1e9 / f64::from(options.fps)) as u64;
        let meta = FrameMeta {
            camera: "scene".into(),
            seq,
            captured_at: Timestamp { mono_ns: ns, real_ns: ns },
            dropped: 0,
            width: options.width,
            height: options.height,
        };
        let report = session.step(&meta, &features);
        let evidence: BTreeMap<TrackId, Evidence> = session.all_evidence().into_iter().collect();
        for track in &report.tracks {
            if let Some(mask) = &track.mask {
                let exact: Mask = rendered.truth.mask(numbers[&track.id]);
                let right = Mask::from_coco(mask)?.iou(&exact) >= RIGHT;
                samples.push((evidence[&track.id].terms(), track.score, right));
            }
        }
        for number in 1..=options.objects {
            let mask = rendered.truth.mask(number);
            if mask.area() >= IN_SIGHT && !numbers.values().any(|known| *known == number) {
                let id = TrackId(number as u64);
                session.tag(&Seed::Mask(mask), None, id, format!("object {number}"))?;
                numbers.insert(id, number);
            }
        }
    }
    Ok(samples)
}

fn logistic(terms: &[f32; 5], weights: &[f32; 5]) -> f32 {
    let logit: f32 = terms.iter().zip(weights).map(|(x, w)| x * w).sum();
    1.0 / (1.0 + (-logit).exp())
}

/// Logistic regression by gradient descent on standardised terms, with a little weight decay.
fn fit(samples: &[Sample]) -> [f32; 5] {
    let n = samples.len().max(1) as f64;
    let mean: Vec<f64> = (0..5).map(|i| samples.iter().map(|s| f64::from(s.0[i])).sum::<f64>() / n).collect();
    let spread: Vec<f64> = (0..5)
        .map(|i| (samples.iter().map(|s| (f64::from(s.0[i]) - mean[i]).powi(2)).sum::<f64>() / n).sqrt().max(1e-6))
        .collect();
    let standard = |terms: &[f32; 5], i: usize| {
        if i == 0 { 1.0 } else { (f64::from(terms[i]) - mean[i]) / spread[i] }
    };
    let mut weights = [0.0f64; 5];
    for _ in 0..3000 {
        let mut gradient = [0.0f64; 5];
        for (terms, _, right) in samples {
            let logit: f64 = (0..5).map(|i| weights[i] * standard(terms, i)).sum();
            let error = 1.0 / (1.0 + (-logit).exp()) - f64::from(u8::from(*right));
            (0..5).for_each(|i| gradient[i] += error * standard(terms, i) / n);
        }
        (0..5).for_each(|i| weights[i] -= gradient[i] + 1e-4 * weights[i]);
    }
    let mut raw = [0.0f32; 5];
    raw[0] = (weights[0] - (1..5).map(|i| weights[i] * mean[i] / spread[i]).sum::<f64>()) as f32;
    (1..5).for_each(|i| raw[i] = (weights[i] / spread[i]) as f32);
    raw
}

/// What a score says against how often it was right, in tenths; and the mean difference, weighted by frames.
fn reliability(scored: impl Iterator<Item = (f32, bool)>) {
    let mut bins = [(0usize, 0.0f64, 0usize); 10];
    for (score, right) in scored {
        let bin = &mut bins[((score * 10.0) as usize).min(9)];
        *bin = (bin.0 + 1, bin.1 + f64::from(score), bin.2 + usize::from(right));
    }
    println!("| score | frames | mean score | right |\n|---|---|---|---|");
    let total: usize = bins.iter().map(|bin| bin.0).sum();
    let mut error = 0.0;
    for (i, (frames, sum, right)) in bins.into_iter().enumerate().filter(|(_, bin)| bin.0 > 0) {
        let (said, was) = (sum / frames as f64, right as f64 / frames as f64);
        error += (said - was).abs() * frames as f64 / total as f64;
        println!("| {:.1} to {:.1} | {frames} | {said:.3} | {was:.3} |", i as f64 / 10.0, (i + 1) as f64 / 10.0);
    }
    println!("\nexpected calibration error: {error:.3}");
}
