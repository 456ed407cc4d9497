//! How a user points at an object.

use super::Mask;

/// An object, pointed at in the pixels of one frame.
#[derive(Clone, Debug, PartialEq)]
pub enum Seed {
    /// The object's own pixels.
    Mask(Mask),
    /// A rectangle around the object: x, y, width, height in pixels.
    Box([f32; 4]),
    /// A point on the object: x, y in pixels.
    Point([f32; 2]),
}
