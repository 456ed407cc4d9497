//! How well objects are followed: DAVIS sequences in, J and F out.
//!
//! A [`run::VideoTracker`] is begun with the first frame of a sequence and the masks of its objects, and gives
//! masks for every frame after it. [`measures`] holds them against the annotations, [`report`] tells the scores.
//! [`corruption`] makes videos worse, and [`robustness`] tells what is lost by it.
//! [`identity`] asks another question of a whole sequence: how well each object kept its identity.

pub mod corruption;
pub mod davis;
pub mod degrade;
pub mod identity;
pub mod measures;
pub mod report;
pub mod robustness;
pub mod run;

pub use corruption::Corruption;
pub use davis::{Davis, DavisError, Sequence};
pub use degrade::Degradation;
pub use identity::{Identities, IdentityCounts, IdentityScores};
pub use report::{Comparison, Report, Score};
pub use robustness::Robustness;
pub use run::{EvalError, StageTimes, Tracked, VideoTracker};
