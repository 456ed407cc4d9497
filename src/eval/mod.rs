//! How well objects are followed: DAVIS sequences in, J and F out.
//!
//! A [`run::VideoTracker`] is begun with the first frame of a sequence and the masks of its objects, and gives
//! masks for every frame after it. [`measures`] holds them against the annotations, [`report`] tells the scores.

pub mod davis;
pub mod measures;
pub mod report;
pub mod run;

pub use davis::{Davis, DavisError, Sequence};
pub use report::{Comparison, Report, Score};
pub use run::{EvalError, StageTimes, Tracked, VideoTracker};
