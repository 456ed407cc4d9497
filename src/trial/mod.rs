//! What becomes of identities in hard cases: objects that are hidden, leave and return, look alike, or never come back.
//!
//! A [`Case`] is a short film whose every mask is known. A [`Subject`], the daemon's own session, is shown the objects
//! in the first frame and follows them from there; an [`Outcome`] counts what it lost, mistook and made up.

pub mod outcome;
pub mod report;
mod written;

use std::sync::Arc;

use crate::capture::synthetic::{Scene, SceneError, SceneFrame};
use crate::eval::run::TrackerError;
use crate::types::{Frame, FrameMeta, Mask, PixelBuf, PixelFormat, Timestamp, TrackId, TrackReport};
use outcome::Judge;
pub use outcome::Outcome;
pub use report::Report;
pub use written::{kinds, written};

/// What is put on trial: a camera's tracker, as the daemon runs it.
pub trait Subject {
    /// Forgets everything, and takes the first frame of another film.
    ///
    /// # Errors
    /// Whatever ends the trial.
    fn begin(&mut self, frame: &Frame) -> Result<(), TrackerError>;

    /// Gives an object of the newest frame an identity.
    ///
    /// # Errors
    /// Whatever ends the trial.
    fn tag(&mut self, id: TrackId, mask: &Mask) -> Result<(), TrackerError>;

    /// Follows the objects into the next frame. A track without a mask is said not to be seen.
    ///
    /// # Errors
    /// Whatever ends the trial.
    fn step(&mut self, frame: &Frame) -> Result<TrackReport, TrackerError>;
}

/// A film of one difficulty.
pub struct Case {
    /// What is hard about it.
    pub kind: String,
    /// Which of its kind.
    pub seed: u64,
    pub frames: u64,
    /// The objects that are tagged in the first frame, by their numbers, from 1.
    pub tagged: Vec<usize>,
    scene: Scene,
}

/// Why a trial ended early.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    #[error(transparent)]
    Scene(#[from] SceneError),
    #[error("{case}, frame {frame}: {source}")]
    Subject { case: String, frame: u64, source: TrackerError },
}

/// Frames a second of a film.
const FPS: f32 = 30.0;

/// Puts the subject through one case.
///
/// # Errors
/// When it gives up.
pub fn run(case: &Case, subject: &mut dyn Subject) -> Result<Outcome, TrialError> {
    let mut drawn = SceneFrame::default();
    let mut judge = Judge::new(&case.tagged);
    for index in 0..case.frames {
        let gave_up =
            |source| TrialError::Subject { case: format!("{} {}", case.kind, case.seed), frame: index, source };
        let frame = case.frame(index, &mut drawn);
        let truths: Vec<Mask> = (1..=drawn.truth.objects.len()).map(|number| drawn.truth.mask(number)).collect();
        if index == 0 {
            subject.begin(&frame).map_err(gave_up)?;
            for number in &case.tagged {
                subject.tag(TrackId(*number as u64), &truths[number - 1]).map_err(gave_up)?;
            }
            judge.begin(&truths);
        } else {
            let report = subject.step(&frame).map_err(gave_up)?;
            judge.frame(index, &truths, &report).map_err(gave_up)?;
        }
    }
    Ok(judge.conclude())
}

impl Case {
    fn frame(&self, index: u64, drawn: &mut SceneFrame) -> Frame {
        self.scene.render(index, drawn);
        let (width, height) = (self.scene.options().width, self.scene.options().height);
        let ns = (index as f64 * 1e9 / f64::from(FPS)) as u64;
        let captured_at = Timestamp { mono_ns: ns, real_ns: ns };
        let meta = FrameMeta { camera: Arc::from("trial"), seq: index, captured_at, dropped: 0, width, height };
        let pixels = PixelBuf::packed(PixelFormat::Rgb3, width, height, drawn.rgb.clone());
        Frame { meta, pixels: pixels.expect("a scene draws whole frames") }
    }
}
