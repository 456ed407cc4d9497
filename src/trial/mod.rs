//! What becomes of identities in hard cases: objects that are hidden, leave and return, look alike, or never come back.
//!
//! A [`Case`] is a short film whose every mask is known. A [`Subject`], the daemon's own session, is shown the objects
//! in the first frame and follows them from there; an [`Outcome`] counts what it lost, mistook and made up.

mod film;
pub mod outcome;
pub mod report;
pub mod written;

use crate::capture::synthetic::SceneError;
use crate::eval::run::TrackerError;
use crate::types::{Frame, Mask, TrackId, TrackReport};
use film::Film;
use outcome::Judge;
pub use outcome::Outcome;
pub use report::Report;

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
    pub name: String,
    pub frames: u64,
    /// The objects that are tagged in the first frame, by their numbers, from 1.
    pub tagged: Vec<usize>,
    film: Film,
}

/// Why a trial ended early.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    #[error(transparent)]
    Scene(#[from] SceneError),
    #[error("{case}, frame {frame}: {source}")]
    Subject { case: String, frame: u64, source: TrackerError },
}

/// Puts the subject through one case.
///
/// # Errors
/// When it gives up, or a frame cannot be had.
pub fn run(case: &Case, subject: &mut dyn Subject) -> Result<Outcome, TrialError> {
    let mut judge = Judge::new(&case.tagged);
    for index in 0..case.frames {
        let gave_up =
            |source| TrialError::Subject { case: format!("{} {}", case.kind, case.name), frame: index, source };
        let (frame, truths) = case.film.shot(index)?;
        if index == 0 {
            subject.begin(&frame).map_err(gave_up)?;
            for number in &case.tagged {
                subject.tag(TrackId(*number as u64), &truths[number - 1].mask).map_err(gave_up)?;
            }
        } else {
            let report = subject.step(&frame).map_err(gave_up)?;
            judge.frame(index, &truths, &report).map_err(gave_up)?;
        }
    }
    Ok(judge.conclude())
}
