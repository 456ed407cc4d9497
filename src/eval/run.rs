//! Runs a tracker over sequences and scores it.
//!
//! What the tracker is made of is not known here: `cmd` joins the backbone and the session of the daemon to a
//! [`VideoTracker`].

use std::borrow::Cow;
use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

use super::corruption::{Corruption, Shown};
use super::davis::{Davis, DavisError, Sequence, write_masks};
use super::measures::score_frame;
use super::report::{FrameScores, Report, SequenceReport};
use crate::types::{Frame, FrameMeta, Mask};

/// Follows objects through a video, from their masks in its first frame.
pub trait VideoTracker {
    /// Forgets everything, and starts on a video with its first frame and the masks of the objects in it.
    ///
    /// # Errors
    /// Whatever ends the evaluation.
    fn begin(&mut self, frame: &Frame, masks: &[Mask]) -> Result<StageTimes, TrackerError>;

    /// The objects' masks in the next frame: in their order, of the frame's size, empty where one is not seen.
    ///
    /// # Errors
    /// Whatever ends the evaluation.
    fn step(&mut self, frame: &Frame) -> Result<Tracked, TrackerError>;
}

/// Why a tracker gave up; of whatever type it likes.
pub type TrackerError = Box<dyn Error + Send + Sync>;

/// The objects in one frame, and how long it took to find them.
#[derive(Clone, Debug)]
pub struct Tracked {
    pub masks: Vec<Mask>,
    pub times: StageTimes,
}

/// Time spent in each stage. The tracker leaves `decode` at zero: the evaluation measures that itself.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StageTimes {
    /// Reading and decoding the picture.
    pub decode: Duration,
    /// Conversion, resizing, normalisation.
    pub preprocess: Duration,
    /// The backbone.
    pub embed: Duration,
    /// Label propagation; of the first frame, seeding.
    pub propagate: Duration,
    /// Masks out of label fields.
    pub mask: Duration,
}

impl StageTimes {
    /// Each stage's name and time, and the total, in the order of the flow.
    pub fn named(&self) -> [(&'static str, Duration); 6] {
        let StageTimes { decode, preprocess, embed, propagate, mask } = *self;
        [
            ("decode", decode),
            ("preprocess", preprocess),
            ("embed", embed),
            ("propagate", propagate),
            ("mask", mask),
            ("total", decode + preprocess + embed + propagate + mask),
        ]
    }
}

impl std::ops::AddAssign for StageTimes {
    fn add_assign(&mut self, other: StageTimes) {
        self.decode += other.decode;
        self.preprocess += other.preprocess;
        self.embed += other.embed;
        self.propagate += other.propagate;
        self.mask += other.mask;
    }
}

/// How far an evaluation has come; told after every frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress<'a> {
    pub sequence: &'a str,
    /// Frames done, of all sequences.
    pub done: usize,
    /// Frames to do, of all sequences.
    pub total: usize,
}

/// Why an evaluation ended early.
#[derive(Debug, thiserror::Error)]
pub enum EvalError {
    #[error(transparent)]
    Davis(#[from] DavisError),
    #[error("{sequence}, frame {frame}: {source}")]
    Tracker { sequence: String, frame: usize, source: TrackerError },
    #[error("{sequence}, frame {frame}: the tracker gave {got}, but {need} are due")]
    Masks { sequence: String, frame: usize, got: String, need: String },
}

/// Scores `tracker` on the named sequences in that order, each once, or on all of them if none is named. With a
/// `corruption` they are made worse before they are seen, and truth is turned with its picture; frames that are missing or
/// show something else are not scored. With `save`, writes the masks to `save/NAME/00000.png` and so on, the first frame's
/// annotation among them. All sequences are looked up before the first is run.
///
/// # Errors
/// When a sequence cannot be read, a mask not be written, or the tracker gives up.
pub fn evaluate(
    davis: &Davis,
    names: &[String],
    corruption: Option<Corruption>,
    tracker: &mut dyn VideoTracker,
    save: Option<&Path>,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Report, EvalError> {
    let mut sequences: Vec<Sequence> = Vec::new();
    for name in if names.is_empty() { davis.names() } else { names } {
        if !sequences.iter().any(|sequence| sequence.name() == name) {
            sequences.push(davis.sequence(name)?);
        }
    }
    let total = sequences.iter().map(Sequence::len).sum();
    let (mut report, mut done) = (Report::default(), 0);
    for sequence in &sequences {
        let mut tell = |frames: usize| progress(Progress { sequence: sequence.name(), done: done + frames, total });
        let (scored, times) = follow(sequence, corruption, tracker, save, &mut tell)?;
        report.sequences.push(scored);
        report.times += times;
        done += sequence.len();
    }
    Ok(report)
}

/// Runs one sequence.
fn follow(
    sequence: &Sequence,
    corruption: Option<Corruption>,
    tracker: &mut dyn VideoTracker,
    save: Option<&Path>,
    tell: &mut dyn FnMut(usize),
) -> Result<(SequenceReport, StageTimes), EvalError> {
    let first = sequence.first().masks(sequence.instances());
    let mut times = StageTimes::default();
    let (mut by_frame, mut seen, mut dropped) = (Vec::new(), 0, 0);
    let unspoilt = |index| Some(Shown { of: index, degradation: None, scored: true });
    for index in 0..sequence.len() {
        let shown = corruption.map_or_else(|| unspoilt(index), |how| how.shown(index, sequence.len()));
        let Some(shown) = shown else {
            dropped += 1;
            tell(index + 1);
            continue;
        };
        let start = Instant::now();
        let mut frame = sequence.frame(shown.of)?;
        times.decode += start.elapsed();
        frame.meta = FrameMeta { dropped: std::mem::take(&mut dropped), ..sequence.meta(index) };
        if let Some(how) = shown.degradation {
            frame.pixels = how.picture(&frame.pixels, index as u64);
        }
        seen += 1;
        let gave_up = |source| EvalError::Tracker { sequence: sequence.name().into(), frame: index, source };
        let tracked;
        let masks = if index == 0 {
            times += tracker.begin(&frame, &first).map_err(gave_up)?;
            &first
        } else {
            tracked = tracker.step(&frame).map_err(gave_up)?;
            times += tracked.times;
            check(sequence, index, &tracked.masks, &frame)?;
            &tracked.masks
        };
        if let Some(folder) = save {
            write_masks(&folder.join(sequence.name()).join(format!("{}.png", sequence.stem(index))), masks)?;
        }
        if shown.scored && index > 0 && index + 1 < sequence.len() {
            let truth = sequence.annotation(index)?;
            let truth = shown.degradation.map_or(Cow::Borrowed(&truth), |how| how.annotation(&truth));
            by_frame.push(FrameScores { frame: index, scores: score_frame(masks, &truth) });
        }
        tell(index + 1);
    }
    Ok((SequenceReport::new(sequence.name().into(), seen, by_frame), times))
}

/// Holds a tracker to the number and size of masks that its trait asks for.
fn check(sequence: &Sequence, frame: usize, masks: &[Mask], picture: &Frame) -> Result<(), EvalError> {
    let (width, height) = (picture.meta.width, picture.meta.height);
    let wrong = |got: String, need: String| EvalError::Masks { sequence: sequence.name().into(), frame, got, need };
    if masks.len() != sequence.instances() {
        return Err(wrong(format!("{} masks", masks.len()), sequence.instances().to_string()));
    }
    match masks.iter().find(|mask| (mask.width, mask.height) != (width, height)) {
        Some(mask) => {
            Err(wrong(format!("a mask of {}x{} pixels", mask.width, mask.height), format!("{width}x{height}")))
        }
        None => Ok(()),
    }
}
