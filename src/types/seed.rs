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

impl Seed {
    /// Whether all of it lies in a part of the frame, x, y, width, height.
    pub fn is_within(&self, [x, y, width, height]: [usize; 4]) -> bool {
        let [x0, y0, x1, y1] = [x, y, x + width, y + height].map(|v| v as f32);
        let [left, top, right, bottom] = match self {
            Seed::Mask(mask) => match mask.bounds().map(|bounds| bounds.map(|v| v as f32)) {
                Some([x, y, width, height]) => [x, y, x + width, y + height],
                None => return true,
            },
            Seed::Box([x, y, width, height]) => [*x, *y, x + width, y + height],
            Seed::Point([x, y]) => [*x, *y, *x, *y],
        };
        x0 <= left && y0 <= top && right <= x1 && bottom <= y1
    }

    /// The same in the pixels of a part of the frame, x, y, width, height; what of a mask lies outside of it is cut off.
    pub fn within(&self, part: [usize; 4]) -> Seed {
        let [x, y] = [part[0] as f32, part[1] as f32];
        match self {
            Seed::Mask(mask) => Seed::Mask(mask.cut_out(part)),
            Seed::Box([left, top, width, height]) => Seed::Box([left - x, top - y, *width, *height]),
            Seed::Point([left, top]) => Seed::Point([left - x, top - y]),
        }
    }
}
