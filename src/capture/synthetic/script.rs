//! A scene of a few seconds that is written out: who is where in which frame, where the camera looks, how bright and how
//! sharp it is. What a tracker is tried on is written so, to the frame.

use super::screenplay::Pose;
use super::{MAX_OBJECTS, SceneError};

/// What happens in a scene.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Script {
    /// The objects, from back to front.
    pub actors: Vec<Actor>,
    /// Pixels to the right and down that the camera has moved since it looked at the middle of the ground.
    pub camera: Keyframes<2>,
    /// Gain; 1 is the light that colours are drawn for.
    pub light: Keyframes<1>,
    /// Pixels to either side that a pixel is blurred over.
    pub blur: Keyframes<1>,
}

/// An object and its way.
#[derive(Clone, Debug, PartialEq)]
pub struct Actor {
    /// Which of the seed's looks it has. Two of the same look are the same to the last pixel.
    pub look: usize,
    /// Pixels from its centre to the farthest of its outline, at scale 1.
    pub radius: f64,
    /// x and y in pixels of the picture before the camera moved; scale; turns.
    pub path: Keyframes<4>,
}

/// Values at some frames, from one to the next in a straight line; before the first and after the last they stay.
#[derive(Clone, Debug, PartialEq)]
pub struct Keyframes<const N: usize>(Vec<(u64, [f64; N])>);

impl<const N: usize> Default for Keyframes<N> {
    fn default() -> Self {
        Keyframes(Vec::new())
    }
}

impl<const N: usize> Keyframes<N> {
    /// The same value throughout.
    pub fn still(value: [f64; N]) -> Keyframes<N> {
        Keyframes(vec![(0, value)])
    }

    /// Goes on to `value` at `frame`, which must not be before the last one. Two values at one frame are a jump.
    pub fn then(mut self, frame: u64, value: [f64; N]) -> Keyframes<N> {
        debug_assert!(self.0.last().is_none_or(|(last, _)| *last <= frame), "keyframes are in order of time");
        self.0.push((frame, value));
        self
    }

    /// The value at a frame; `None` where there is none at all.
    pub fn at(&self, frame: u64) -> Option<[f64; N]> {
        let next = self.0.partition_point(|(at, _)| *at <= frame);
        let (before, after) = (next.checked_sub(1).map(|i| &self.0[i]), self.0.get(next));
        match (before, after) {
            (Some((from, a)), Some((to, b))) => {
                let part = (frame - from) as f64 / (to - from) as f64;
                Some(std::array::from_fn(|i| a[i] + (b[i] - a[i]) * part))
            }
            (Some((_, value)), None) | (None, Some((_, value))) => Some(*value),
            (None, None) => None,
        }
    }

    fn values(&self) -> impl Iterator<Item = &[f64; N]> {
        self.0.iter().map(|(_, value)| value)
    }
}

impl Script {
    /// Pixels of ground that must lie around the picture for the camera to move over.
    pub(super) fn margin(&self) -> usize {
        let farthest = self.camera.values().flatten().fold(0.0, |most: f64, at| most.max(at.abs()));
        farthest.ceil() as usize + 3
    }

    /// What cannot be shown.
    pub(super) fn check(&self) -> Result<(), SceneError> {
        if !(1..=MAX_OBJECTS).contains(&self.actors.len()) {
            return Err(SceneError::Objects(self.actors.len()));
        }
        let numbers = |actor: &Actor| actor.path.values().flatten().copied().chain([actor.radius]).collect::<Vec<_>>();
        let finite = |actor: &Actor| numbers(actor).iter().all(|v| v.abs() <= MAX_DISTANCE);
        let sized = |actor: &Actor| actor.radius >= 2.5 && actor.path.values().all(|[_, _, scale, _]| *scale >= 0.01);
        match self.actors.iter().position(|actor| !finite(actor) || !sized(actor) || actor.path.0.is_empty()) {
            Some(actor) => Err(SceneError::Actor(actor)),
            None if !self.camera.values().flatten().all(|v| v.abs() <= MAX_PAN) => Err(SceneError::Camera),
            None => Ok(()),
        }
    }

    /// Where an object is in the picture; objects count from 0.
    pub(super) fn pose(&self, object: usize, frame: u64) -> Pose {
        let [x, y, scale, turns] = self.actors[object].path.at(frame).unwrap_or_default();
        let [right, down] = self.camera.at(frame).unwrap_or_default();
        Pose { x: x - right, y: y - down, scale, turns }
    }
}

/// Pixels.
const MAX_DISTANCE: f64 = 1e5;
/// Pixels that the camera may move to either side: the ground is painted all at once.
const MAX_PAN: f64 = 4096.0;
