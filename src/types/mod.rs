//! Values and nothing else: what the steps hand to one another. No I/O, no clock, no threads.

pub mod command;
pub mod exemplars;
pub mod features;
pub mod frame;
pub mod grid;
pub mod labels;
pub mod mask;
pub mod probe;
pub mod report;
pub mod seed;
pub mod view;

pub use command::{Answer, Command, CommandError};
pub use exemplars::Exemplars;
pub use features::Features;
pub use frame::{Frame, FrameMeta, InputTensor, PixelBuf, PixelFormat, Timestamp};
pub use grid::PatchGrid;
pub use labels::LabelField;
pub use mask::Mask;
pub use probe::{ProbeFeatures, probe_image};
pub use report::{TrackId, TrackReport, TrackState};
pub use seed::Seed;
pub use view::View;
