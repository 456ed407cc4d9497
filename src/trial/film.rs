//! Films: frames, and what is exactly true of them.

use std::sync::Arc;

use super::TrialError;
use super::spliced::Spliced;
use crate::capture::synthetic::{Scene, SceneFrame, Truth};
use crate::types::report::Reason;
use crate::types::{Frame, FrameMeta, Mask, PixelBuf, PixelFormat, Timestamp};

/// Frames a second.
pub(super) const FPS: f32 = 30.0;

/// Where the frames of a case come from.
pub(super) enum Film {
    Staged(Staged),
    Spliced(Spliced),
}

/// What is true of an object in a frame.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct GroundTruth {
    /// Its pixels that are to be seen.
    pub mask: Mask,
    /// How many they would be if nothing hid it.
    pub whole: f64,
    /// What may rightly be told of it while it is out of sight; nothing where that is not certain.
    pub reasons: &'static [Reason],
}

/// A synthetic scene.
pub(super) struct Staged {
    pub scene: Scene,
    /// (objects); two of one look may be taken for each other
    looks: Vec<usize>,
    /// (objects), pixels that are to be seen of each in the first frame
    wholes: Vec<f64>,
}

impl Film {
    /// A frame, and what is true of each object in it, object 1 first.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn shot(&self, index: u64) -> Result<(Frame, Vec<GroundTruth>), TrialError> {
        let (pixels, truths) = match self {
            Film::Staged(staged) => staged.shot(index),
            Film::Spliced(spliced) => spliced.shot(index)?,
        };
        let ns = (index as f64 * 1e9 / f64::from(FPS)) as u64;
        let captured_at = Timestamp { mono_ns: ns, real_ns: ns };
        let (width, height) = (pixels.width, pixels.height);
        let meta = FrameMeta { camera: Arc::from("trial"), seq: index, captured_at, dropped: 0, width, height };
        Ok((Frame { meta, pixels }, truths))
    }
}

impl Staged {
    /// A scene whose objects have these looks.
    pub fn new(scene: Scene, looks: Vec<usize>) -> Staged {
        let wholes = scene.truth(0).objects.iter().map(|object| f64::from(object.visible_area)).collect();
        Staged { scene, looks, wholes }
    }

    fn shot(&self, index: u64) -> (PixelBuf, Vec<GroundTruth>) {
        let mut drawn = SceneFrame::default();
        self.scene.render(index, &mut drawn);
        let SceneFrame { rgb, truth, .. } = drawn;
        let of_object = |(object, whole): (usize, &f64)| GroundTruth {
            mask: truth.mask(object + 1),
            whole: *whole,
            reasons: self.reasons(&truth, object),
        };
        let truths = (0..).zip(&self.wholes).map(of_object).collect();
        let pixels = PixelBuf::packed(PixelFormat::Rgb3, truth.width, truth.height, rgb);
        (pixels.expect("a scene draws whole frames"), truths)
    }

    /// An object whose centre is in the picture is hidden there, and one whose centre is not has left by the edge, be it by its
    /// own way or by the camera's. A twin in sight may be either of the two. Objects count from 0.
    fn reasons(&self, truth: &Truth, object: usize) -> &'static [Reason] {
        let [x, y] = truth.objects[object].centre;
        let within = (0.0..truth.width as f32).contains(&x) && (0.0..truth.height as f32).contains(&y);
        let alike = |other: &usize| *other != object && self.looks[*other] == self.looks[object];
        let twin = (0..self.looks.len()).filter(alike).any(|other| truth.objects[other].visible_area > 0);
        match (within, twin) {
            (true, false) => &[Reason::Unseen],
            (true, true) => &[Reason::Unseen, Reason::Ambiguous],
            (false, false) => &[Reason::LeftView],
            (false, true) => &[Reason::LeftView, Reason::Ambiguous],
        }
    }
}
