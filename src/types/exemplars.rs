//! What an object is known by wherever it is.

use super::Features;

/// Patches of an object, and of what is not it: of no place, and out of frames of any time.
#[derive(Clone, Debug, PartialEq)]
pub struct Exemplars {
    /// In one row: a grid of 1 by as many as there are.
    pub patches: Features,
    /// How much of each patch is the object, in [0, 1]: none of it where it is 0.
    pub labels: Vec<f32>,
    /// The first so many are of the frame in which the object was tagged.
    pub given: usize,
    /// The patches that the object had in that frame, as a share of the frame's, in (0, 1].
    pub share: f32,
}

impl Exemplars {
    /// How many there are of the object, and of what is not it.
    pub fn counts(&self) -> [usize; 2] {
        let of_object = self.labels.iter().filter(|label| **label > 0.0).count();
        [of_object, self.labels.len() - of_object]
    }
}
