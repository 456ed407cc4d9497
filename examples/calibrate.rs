//! Fits the level and the scale of a track's score, and tells how far the score holds on what it was not fitted to.
//!
//! `cargo run --release --example calibrate 8` follows every object of so many synthetic scenes as the daemon does, and pairs the
//! score of each mask with its IoU with the exact one. With real video after it, `calibrate 8 DAVIS MODEL.onnx OUTPUT`, that is
//! followed too, by a bare ViT (16 pixels a patch, mean and standard deviation 0.5): each sequence is interrupted by 40 frames of
//! the next, in which there is nothing to be seen. Each sequence is scored by numbers that were fitted to all the others; scenes
//! and sequences count the same altogether. What is printed is read by `benches/accuracy/reliability.py`, which draws it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use tagalong::capture::synthetic::{Scene, SceneFrame, SceneOptions};
use tagalong::config::Config;
use tagalong::embed::{self, Backbone, BareModel, Embedder, Execution};
use tagalong::eval::Davis;
use tagalong::track::{Evidence, Session, TagError};
use tagalong::types::{Features, FrameMeta, Mask, PixelBuf, PixelFormat, Seed, Timestamp, TrackId};

type Failure = Box<dyn std::error::Error>;

/// A mask that was told.
struct Sample {
    /// Which scene or sequence it is from.
    film: String,
    logit: f64,
    score: f64,
    iou: f64,
}

const FRAMES: u64 = 300;
/// Pixels of an object that must show before it is tagged.
const IN_SIGHT: usize = 600;
/// Frames of another sequence in the middle of each.
const INTERRUPTION: usize = 40;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let scenes: u64 = arguments.first().map_or(Ok(6), |text| text.parse())?;
    let mut domains = vec![("synthetic scenes", follow_scenes(scenes)?)];
    match &arguments[..] {
        [] | [_] => {}
        [_, davis, onnx, output] => domains.push(("real video", follow_videos(davis, onnx, output)?)),
        _ => return Err("give SCENES, or SCENES DAVIS MODEL.onnx OUTPUT".into()),
    }
    let held_out = hold_out(&domains);
    println!("# level and scale of the logit, fitted to all: {:.3?}\n", fit(&weighted(&domains, None)));
    for ((domain, samples), fitted) in domains.iter().zip(held_out) {
        println!("## {domain}, with the weights in force\n");
        reliability(samples.iter().map(|sample| (sample.score, sample.iou)));
        println!("## {domain}, each film by weights that were fitted to the others\n");
        reliability(fitted.into_iter().zip(samples).map(|(score, sample)| (score, sample.iou)));
    }
    Ok(())
}

/// A camera's session and what feeds it.
struct Follower {
    embedder: Embedder,
    features: Features,
    session: Session,
    frames: u64,
}

impl Follower {
    fn new(backbone: Box<dyn Backbone>) -> Follower {
        let grid = backbone.spec().grids[0];
        let embedder = Embedder::new(backbone, grid);
        let features = embedder.empty_features();
        let session = new_session(&embedder);
        Follower { embedder, features, session, frames: 0 }
    }

    fn begin(&mut self) {
        self.session = new_session(&self.embedder);
        self.frames = 0;
    }

    /// Follows every object into a frame, and pairs what is told with what is true; an object without a mask is not there.
    fn step(
        &mut self,
        film: &str,
        pixels: &PixelBuf,
        truth: impl Fn(TrackId) -> Option<Mask>,
        samples: &mut Vec<Sample>,
    ) -> Result<(), Failure> {
        self.features.view = self.session.gaze();
        self.embedder.embed(pixels, &mut self.features)?;
        let ns = self.frames * 1_000_000_000 / 30;
        let captured_at = Timestamp { mono_ns: ns, real_ns: ns };
        let (width, height) = (pixels.width, pixels.height);
        let meta = FrameMeta { camera: "film".into(), seq: self.frames, captured_at, dropped: 0, width, height };
        self.frames += 1;
        let report = self.session.step(&meta, &self.features);
        let evidence: BTreeMap<TrackId, Evidence> = self.session.all_evidence().into_iter().collect();
        for track in &report.tracks {
            let Some(mask) = &track.mask else { continue };
            let iou = truth(track.id).map_or(Ok(0.0), |truth| Mask::from_coco(mask).map(|mask| mask.iou(&truth)))?;
            let logit = f64::from(evidence[&track.id].logit());
            samples.push(Sample { film: film.to_owned(), logit, score: f64::from(track.score), iou });
        }
        Ok(())
    }
}

fn new_session(embedder: &Embedder) -> Session {
    let config = Config::builtin();
    Session::new(config.propagation().clone(), config.track.clone(), embedder.grid(), embedder.dim())
}

fn follow_scenes(scenes: u64) -> Result<Vec<Sample>, Failure> {
    let mut follower = Follower::new(embed::load(&Config::builtin().model)?);
    let mut samples = Vec::new();
    for seed in 0..scenes {
        let options = SceneOptions { seed, ..SceneOptions::default() };
        let scene = Scene::new(options.clone())?;
        let (film, mut drawn) = (format!("scene {seed}"), SceneFrame::default());
        let mut tagged: BTreeSet<usize> = BTreeSet::new();
        follower.begin();
        for seq in 0..FRAMES {
            scene.render(seq, &mut drawn);
            let pixels = PixelBuf::packed(PixelFormat::Rgb3, options.width, options.height, drawn.rgb.clone())?;
            let truth = |id: TrackId| Some(drawn.truth.mask(id.0 as usize));
            follower.step(&film, &pixels, truth, &mut samples)?;
            for number in 1..=options.objects {
                let mask = drawn.truth.mask(number);
                if mask.area() < IN_SIGHT || tagged.contains(&number) {
                    continue;
                }
                let id = TrackId(number as u64);
                match follower.session.tag(&Seed::Mask(mask), None, id, format!("object {number}")) {
                    // All of the next frames is looked at.
                    Err(TagError::NotLookedAt { .. }) => {}
                    begun => {
                        begun?;
                        tagged.insert(number);
                    }
                }
            }
        }
        eprintln!("{film} is done");
    }
    Ok(samples)
}

fn follow_videos(davis: &str, onnx: &str, output: &str) -> Result<Vec<Sample>, Failure> {
    let [mean, std] = [[0.5; 3]; 2];
    let model = BareModel { onnx: onnx.into(), output: output.into(), patch: 16, mean, std, input_sizes: vec![] };
    let mut follower = Follower::new(Box::new(embed::load_bare(&model, Execution::default())?));
    let davis = Davis::open(Path::new(davis), None)?;
    let mut samples = Vec::new();
    for (index, film) in davis.names().iter().enumerate() {
        let sequence = davis.sequence(film)?;
        let other = davis.sequence(&davis.names()[(index + 1) % davis.names().len()])?;
        let (middle, instances) = (sequence.annotated() / 2, sequence.instances());
        follower.begin();
        let own = |index| (true, index);
        let order = (0..middle).map(own).chain((0..INTERRUPTION.min(other.len())).map(|index| (false, index)));
        for (own, index) in order.chain((middle..sequence.annotated()).map(own)) {
            let frame = if own { sequence.frame(index) } else { other.frame(index) }?;
            let masks = if own { sequence.annotation(index)?.masks(instances) } else { Vec::new() };
            let truth = |id: TrackId| masks.get(id.0 as usize - 1).cloned();
            follower.step(film, &frame.pixels, truth, &mut samples)?;
            if follower.frames == 1 {
                for (id, mask) in (1..).map(TrackId).zip(masks) {
                    follower.session.tag(&Seed::Mask(mask), None, id, id.to_string())?;
                }
            }
        }
        eprintln!("{film} is done");
    }
    Ok(samples)
}

type Domain<'a> = (&'a str, Vec<Sample>);

/// Logits, IoUs and weights of all samples but those of one film; each domain counts the same.
fn weighted(domains: &[Domain<'_>], without: Option<&str>) -> Vec<[f64; 3]> {
    let of_domain = |(_, samples): &Domain<'_>| -> Vec<[f64; 3]> {
        let kept: Vec<&Sample> = samples.iter().filter(|sample| Some(&sample.film[..]) != without).collect();
        kept.iter().map(|sample| [sample.logit, sample.iou, 1.0 / kept.len() as f64]).collect()
    };
    domains.iter().flat_map(of_domain).collect()
}

/// Scores of each domain's samples by what was fitted to all films but their own.
fn hold_out(domains: &[Domain<'_>]) -> Vec<Vec<f64>> {
    let films: BTreeSet<&str> = domains.iter().flat_map(|(_, samples)| samples).map(|s| &s.film[..]).collect();
    let fits: BTreeMap<&str, [f64; 2]> =
        films.into_iter().map(|film| (film, fit(&weighted(domains, Some(film))))).collect();
    let score = |sample: &Sample| {
        let [level, scale] = fits[&sample.film[..]];
        logistic(level + scale * sample.logit)
    };
    domains.iter().map(|(_, samples)| samples.iter().map(score).collect()).collect()
}

fn logistic(logit: f64) -> f64 {
    1.0 / (1.0 + (-logit).exp())
}

/// Level and scale by which the logistic function of a logit is the mean of the values with it, by Newton's method on the
/// cross-entropy.
fn fit(samples: &[[f64; 3]]) -> [f64; 2] {
    let (mut level, mut scale) = (0.0, 1.0);
    for _ in 0..50 {
        let (mut gradient, mut hessian) = ([0.0; 2], [1e-9, 0.0, 1e-9]);
        for [logit, value, weight] in samples {
            let is = logistic(level + scale * logit);
            let (error, curvature) = (weight * (is - value), weight * is * (1.0 - is));
            gradient[0] += error;
            gradient[1] += error * logit;
            hessian[0] += curvature;
            hessian[1] += curvature * logit;
            hessian[2] += curvature * logit * logit;
        }
        let determinant = hessian[0] * hessian[2] - hessian[1] * hessian[1];
        level -= (hessian[2] * gradient[0] - hessian[1] * gradient[1]) / determinant;
        scale -= (hessian[0] * gradient[1] - hessian[1] * gradient[0]) / determinant;
    }
    [level, scale]
}

/// What a score says against the IoU that it was, in tenths; and the mean difference, weighted by masks.
fn reliability(scored: impl Iterator<Item = (f64, f64)>) {
    let mut bins = [(0usize, 0.0, 0.0); 10];
    for (score, iou) in scored {
        let (count, said, was) = &mut bins[((score * 10.0) as usize).min(9)];
        (*count, *said, *was) = (*count + 1, *said + score, *was + iou);
    }
    println!("| score | masks | mean score | mean IoU |\n|---|---|---|---|");
    let total: usize = bins.iter().map(|bin| bin.0).sum();
    let mut error = 0.0;
    for (i, (count, said, was)) in bins.into_iter().enumerate().filter(|(_, bin)| bin.0 > 0) {
        error += (said - was).abs() / total as f64;
        let (said, was) = (said / count as f64, was / count as f64);
        println!("| {:.1} to {:.1} | {count} | {said:.3} | {was:.3} |", i as f64 / 10.0, (i + 1) as f64 / 10.0);
    }
    let [said, was] = [bins.iter().map(|bin| bin.1).sum::<f64>(), bins.iter().map(|bin| bin.2).sum()];
    println!(
        "\nmean difference {error:.3}; {:.3} promised on average, {:.3} kept\n",
        said / total as f64,
        was / total as f64
    );
}
