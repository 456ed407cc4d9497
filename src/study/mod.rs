//! What frozen features are worth to nearest neighbours: four tasks, no training, any folder in DAVIS layout.
//!
//! It repeats the comparison of arXiv 2401.00463. Features are taken as they are, with the dimensions that vary most
//! left out, standardised, and projected ([`Treatment`]); pictures as they are and degraded ([`Degradation`]):
//!
//! - [`classification`]: a few frames are labelled, the patches of the rest get the class of their nearest neighbours;
//! - [`identification`]: is this patch of the same object, across frames;
//! - [`retrieval`]: an object of one frame, found among all objects and distractors of the others;
//! - [`tracking`]: from a patch to its nearest in the next frame, and whole masks propagated through a video.
//!
//! What is labelled, or shown as the example, is of the pictures as they are; what has to be found is degraded. The
//! videos are parted into two halves. A treatment is fitted to the one and tried on the other, and each half's tasks
//! know of that half alone: of two videos or more, nothing is fitted to what it is tried on. Scores are of both halves
//! together.

pub mod classification;
pub mod extractor;
pub mod identification;
mod neighbours;
pub mod plots;
pub mod report;
pub mod retrieval;
pub mod scores;
pub mod tracking;
pub mod treatment;
pub mod video;

use std::num::NonZero;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use serde::Serialize;

use crate::embed::EmbedError;
use crate::eval::{DavisError, Degradation, Sequence};
use crate::model::variance::{Gathering, Variance, mean_inside};
use crate::propagate::{MAX_OBJECTS, PropagateConfig};
use crate::track::TrackConfig;
use crate::types::PatchGrid;

use extractor::Extractor;
pub use scores::{Measure, Scores};
use treatment::Fitted;
pub use treatment::Treatment;
use video::{Video, View};

/// What is studied.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Every n-th frame of a video is looked at, 1 or more; of short videos more of them, so that 3 are left.
    pub every: usize,
    /// Labelled frames of a video in the classification, 1 or more.
    pub shots: usize,
    /// Nearest neighbours that vote, 1 or more.
    pub k: usize,
    pub treatments: Vec<Treatment>,
    /// Beside the pictures as they are.
    pub degradations: Vec<Degradation>,
    /// Which patches are sampled, which distractors are taken and what the noise is follow from it.
    pub seed: u64,
    /// The rule of propagation.
    pub rule: PropagateConfig,
    pub track: TrackConfig,
}

/// Why a study ended early.
#[derive(Debug, thiserror::Error)]
pub enum StudyError {
    #[error(transparent)]
    Davis(#[from] DavisError),
    #[error("{video}, frame {frame}: {source}")]
    Embed { video: String, frame: usize, source: EmbedError },
    #[error("{video}: its first frame marks {objects} objects, and at most {MAX_OBJECTS} are followed: leave it out")]
    TooMany { video: String, objects: usize },
    #[error("{video}: its objects cannot be followed: {problem}")]
    Follow { video: String, problem: String },
}

/// One model's scores.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ModelStudy {
    pub name: String,
    /// Hex, of the graph; empty for what is no model.
    pub sha256: String,
    /// Rows and columns of patches.
    pub grid: [usize; 2],
    /// Side of a patch in pixels of the input.
    pub patch: usize,
    /// Length of an embedding as it is.
    pub dim: usize,
    /// Treatments that it has too few dimensions for.
    pub unfit: Vec<String>,
    pub cells: Vec<Cell>,
}

/// Scores of one treatment on one kind of pictures.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cell {
    pub pictures: String,
    pub treatment: String,
    #[serde(flatten)]
    pub scores: Scores,
}

/// How far a study has come.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress<'a> {
    pub pictures: &'a str,
    /// Of all kinds of pictures: frames embedded, and treatments tried, each counted as a frame.
    pub done: usize,
    pub total: usize,
}

/// Studies one model, or what stands in its place.
///
/// # Errors
/// [`StudyError`].
///
/// # Panics
/// When there is no sequence.
pub fn study(
    extractor: &mut dyn Extractor,
    sequences: &[Sequence],
    plan: &Plan,
    tell: &mut dyn FnMut(Progress<'_>),
) -> Result<ModelStudy, StudyError> {
    let (treatments, unfit): (Vec<Treatment>, Vec<Treatment>) =
        plan.treatments.iter().partition(|treatment| treatment.fits(extractor.dim()));
    if let Some(sequence) = sequences.iter().find(|sequence| sequence.instances() > MAX_OBJECTS) {
        return Err(StudyError::TooMany { video: sequence.name().into(), objects: sequence.instances() });
    }
    let frames: usize = sequences.iter().map(|sequence| video::indices(sequence, plan.every).count()).sum();
    let total = (frames + treatments.len()) * (1 + plan.degradations.len());
    let mut done = 0;
    let mut look = |degradation: Option<Degradation>, done: &mut usize, tell: &mut dyn FnMut(Progress<'_>)| {
        let pictures = degradation.map_or(CLEAN.into(), |d| d.to_string());
        sequences
            .iter()
            .map(|sequence| {
                let video = Video::look(sequence, plan, degradation, extractor);
                *done += video::indices(sequence, plan.every).count();
                tell(Progress { pictures: &pictures, done: *done, total });
                video
            })
            .collect::<Result<Vec<Video>, StudyError>>()
    };
    let clean = look(None, &mut done, tell)?;
    let halves = halves(clean.len());
    let variances: Vec<Variance> = halves.iter().map(|half| variance(&clean, &half.fitted_to)).collect();
    let mut cells = Vec::new();
    for degradation in std::iter::once(None).chain(plan.degradations.iter().copied().map(Some)) {
        let pictures = degradation.map_or(CLEAN.into(), |d| d.to_string());
        let degraded = degradation.map(|d| look(Some(d), &mut done, tell)).transpose()?;
        let scores = in_parallel(treatments.len(), |at| -> Result<Scores, StudyError> {
            let mut scores = Scores::default();
            for (half, variance) in halves.iter().zip(&variances) {
                let fitted = treatments[at].fit(variance);
                let labelled = views(&clean, half, &fitted);
                let seen = degraded.as_ref().map_or_else(|| labelled.clone(), |videos| views(videos, half, &fitted));
                scores.merge(tasks(&labelled, &seen, plan)?);
            }
            Ok(scores)
        });
        done += treatments.len();
        tell(Progress { pictures: &pictures, done, total });
        for (treatment, scores) in treatments.iter().zip(scores) {
            cells.push(Cell { pictures: pictures.clone(), treatment: treatment.to_string(), scores: scores? });
        }
    }
    let PatchGrid { rows, cols, patch } = extractor.grid();
    Ok(ModelStudy {
        name: extractor.name(),
        sha256: extractor.sha256(),
        grid: [rows, cols],
        patch,
        dim: extractor.dim(),
        unfit: unfit.iter().map(ToString::to_string).collect(),
        cells,
    })
}

/// What the pictures are called that are as they are.
pub const CLEAN: &str = "as they are";

/// All tasks on one half of the videos. `labelled[i]` and `seen[i]` are of one video.
fn tasks(labelled: &[View], seen: &[View], plan: &Plan) -> Result<Scores, StudyError> {
    let mut scores = Scores::default();
    classification::run(labelled, seen, plan.shots, plan.k, &mut scores);
    identification::run(labelled, seen, plan.k, plan.seed, &mut scores);
    retrieval::run(labelled, seen, plan.seed, &mut scores);
    tracking::run(labelled, seen, plan, &mut scores)?;
    Ok(scores)
}

/// Which videos a treatment is tried on, and which it is fitted to.
struct Half {
    tried_on: Vec<usize>,
    fitted_to: Vec<usize>,
}

/// Every other video, and the rest. One alone is all there is to fit to.
fn halves(videos: usize) -> Vec<Half> {
    let every_other = |from: usize| (from..videos).step_by(2).collect::<Vec<usize>>();
    if videos < 2 {
        return vec![Half { tried_on: every_other(0), fitted_to: every_other(0) }];
    }
    [(0, 1), (1, 0)].map(|(a, b)| Half { tried_on: every_other(a), fitted_to: every_other(b) }).into()
}

fn views<'a>(videos: &'a [Video], half: &Half, fitted: &Fitted) -> Vec<View<'a>> {
    half.tried_on.iter().map(|at| videos[*at].view(fitted)).collect()
}

fn variance(videos: &[Video], fitted_to: &[usize]) -> Variance {
    let dim = videos[fitted_to[0]].looks[0].rows.ncols();
    let mut gathering = Gathering::new(dim);
    for video in fitted_to.iter().map(|at| &videos[*at]) {
        video.looks.iter().for_each(|look| gathering.picture(look.rows.view()));
        for object in 0..video.objects {
            let means = video.looks.iter().filter_map(|look| mean_inside(look.rows.view(), look.fractions(object)));
            let means: Vec<f32> = means.flatten().collect();
            let means = ndarray::ArrayView2::from_shape((means.len() / dim, dim), &means).expect("whole rows");
            gathering.object(means);
        }
    }
    gathering.finish()
}

/// Treatments that are tried side by side at most: each holds the features of half of the videos.
const SIDE_BY_SIDE: usize = 4;

/// The values of `work` for 0 to `count`, in order, worked out by one thread a core.
fn in_parallel<T: Send>(count: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let values: Mutex<Vec<Option<T>>> = Mutex::new((0..count).map(|_| None).collect());
    let threads = thread::available_parallelism().map_or(1, NonZero::get).min(count).min(SIDE_BY_SIDE);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    if at >= count {
                        break;
                    }
                    let value = work(at);
                    values.lock().expect("no thread panicked")[at] = Some(value);
                }
            });
        }
    });
    values.into_inner().expect("no thread panicked").into_iter().map(|v| v.expect("each was worked out")).collect()
}

/// Mixes numbers into one that looks random (the finaliser of SplitMix64).
fn mix(numbers: &[u64]) -> u64 {
    numbers.iter().fold(0x9e37_79b9_7f4a_7c15, |state: u64, number| {
        let mut z = (state ^ number).wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    })
}
