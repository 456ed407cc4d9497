//! What becomes of identities in hard cases: objects that are hidden, leave and return, look alike, or never come back.
//!
//! A [`Case`] is a short film whose every mask is known: a scene that is [`written`], or real video that is [`spliced`]. A [`Subject`],
//! the daemon's own session, is shown the objects in the first frame and follows them from there; an [`Outcome`] counts what it
//! lost, mistook and made up.

mod film;
pub mod outcome;
pub mod report;
pub mod spliced;
pub mod written;

use crate::capture::synthetic::SceneError;
use crate::eval::DavisError;
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

    /// Begins anew, as a daemon does after a restart: of what is followed now nothing is left but what the gallery keeps of it.
    ///
    /// # Errors
    /// Whatever ends the trial.
    fn restart(&mut self) -> Result<(), TrackerError>;

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
    /// The frame before which the tracker is begun anew, with a gallery of what was tagged.
    restart: Option<u64>,
    film: Film,
}

/// Why a trial ended early.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    #[error(transparent)]
    Scene(#[from] SceneError),
    #[error(transparent)]
    Davis(#[from] DavisError),
    #[error("{sequence} is the only sequence of its data set, and what interrupts it must be another: add one")]
    Alone { sequence: String },
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
        if case.restart == Some(index) {
            subject.restart().map_err(gave_up)?;
            judge.restart();
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::report::{Latency, Reason, Track, TrackState};

    /// Sees object 1 where it last was for as long as it is not restarted, and from `recognises` frames after that on.
    #[derive(Default)]
    struct Stub {
        /// As they are true.
        masks: Vec<Option<Mask>>,
        recognises: usize,
        tagged: Vec<TrackId>,
        steps: usize,
        restarted: Option<usize>,
    }

    impl Subject for Stub {
        fn begin(&mut self, _: &Frame) -> Result<(), TrackerError> {
            (self.steps, self.restarted) = (0, None);
            self.tagged.clear();
            Ok(())
        }

        fn tag(&mut self, id: TrackId, _: &Mask) -> Result<(), TrackerError> {
            self.tagged.push(id);
            Ok(())
        }

        fn restart(&mut self) -> Result<(), TrackerError> {
            self.restarted = Some(self.steps);
            Ok(())
        }

        fn step(&mut self, frame: &Frame) -> Result<TrackReport, TrackerError> {
            self.steps += 1;
            let blind = self.restarted.is_some_and(|at| self.steps <= at + self.recognises);
            let mask = self.masks[self.steps].as_ref().filter(|_| !blind);
            let track = |mask: &Mask| Track {
                id: TrackId(1),
                name: "1".into(),
                state: TrackState::Tracked,
                reason: Reason::Recognised,
                score: 1.0,
                bounds: None,
                centroid: None,
                area: 0,
                velocity: [0.0; 2],
                age: 0,
                since_seen: 0,
                mask: Some(mask.to_coco()),
            };
            Ok(TrackReport {
                camera: "trial".into(),
                seq: frame.meta.seq,
                dropped: 0,
                t_mono_ns: 0,
                t_real_ns: 0,
                size: [frame.meta.width, frame.meta.height],
                latency_ms: Latency::default(),
                tracks: mask.map(track).into_iter().collect(),
            })
        }
    }

    fn case(kind: &str) -> Case {
        written::cases(0, &[kind.into()]).next().unwrap().unwrap()
    }

    #[test]
    fn what_is_kept_over_a_restart_is_due_within_5_frames() {
        let case = case("restart");
        let truth = |index: u64| Some(case.film.shot(index).unwrap().1.swap_remove(0).mask);
        let masks: Vec<Option<Mask>> = (0..case.frames).map(truth).collect();
        for (recognises, reacquired) in [(0, 1), (5, 1), (6, 0)] {
            let mut stub = Stub { masks: masks.clone(), recognises, ..Stub::default() };
            let outcome = run(&case, &mut stub).unwrap();
            assert_eq!(stub.tagged, [TrackId(1)]);
            assert_eq!(stub.restarted, Some(case.restart.unwrap() as usize - 1), "it follows until then");
            assert_eq!((outcome.returns, outcome.reacquired, outcome.absent), (1, reacquired, 0), "{recognises}");
        }
    }

    #[test]
    fn what_is_recognised_where_it_is_not_is_made_up() {
        let case = case("restart absent");
        let first = case.film.shot(0).unwrap().1.swap_remove(0).mask;
        let absent = case.frames - case.restart.unwrap();
        for (recognises, ghosts) in [(absent, 0), (absent - 1, 1), (0, absent)] {
            let masks = vec![Some(first.clone()); case.frames as usize];
            let mut stub = Stub { masks, recognises: recognises as usize, ..Stub::default() };
            let outcome = run(&case, &mut stub).unwrap();
            assert_eq!((outcome.absent, outcome.ghosts), (absent, ghosts), "{recognises}");
            assert_eq!((outcome.returns, outcome.gone, outcome.made_up), (0, 1, u64::from(ghosts > 0)));
        }
    }
}
