//! The part of a frame that is looked at.

/// A rectangle of a frame, in shares of its sides, so that it holds for any size of frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct View {
    pub left: f32,
    pub top: f32,
    pub width: f32,
    pub height: f32,
}

impl View {
    /// All of a frame.
    pub const WHOLE: View = View { left: 0.0, top: 0.0, width: 1.0, height: 1.0 };

    /// Its share of the frame's area.
    pub fn area(&self) -> f32 {
        self.width * self.height
    }

    /// What lies in both; of no area where nothing does.
    pub fn intersection(&self, other: &View) -> View {
        let side = |[a, a_length]: [f32; 2], [b, b_length]: [f32; 2]| {
            let from = a.max(b);
            (from, ((a + a_length).min(b + b_length) - from).max(0.0))
        };
        let (left, width) = side([self.left, self.width], [other.left, other.width]);
        let (top, height) = side([self.top, self.height], [other.top, other.height]);
        View { left, top, width, height }
    }

    /// x, y, width and height in pixels of a `width` x `height` frame, within it. Edges lie between pairs of pixels, or at the
    /// frame's own: camera formats share colours between two pixels.
    pub fn pixels(&self, width: usize, height: usize) -> [usize; 4] {
        let (x, right) = side(self.left, self.width, width);
        let (y, bottom) = side(self.top, self.height, height);
        [x, y, right - x, bottom - y]
    }
}

impl Default for View {
    fn default() -> View {
        View::WHOLE
    }
}

/// From which pixel on, and before which.
fn side(from: f32, length: f32, size: usize) -> (usize, usize) {
    let even = |share: f32| (share * size as f32 / 2.0).round().max(0.0) as usize * 2;
    let start = even(from).min(size.saturating_sub(1) / 2 * 2);
    let end = even(from + length).max(start + 2);
    (start, if end + 1 >= size { size } else { end })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_whole_is_all_pixels_whatever_the_size() {
        for (width, height) in [(1, 1), (2, 3), (854, 480), (855, 481), (65535, 7)] {
            assert_eq!(View::WHOLE.pixels(width, height), [0, 0, width, height]);
        }
    }

    #[test]
    fn a_part_is_where_it_is_said_to_be() {
        let middle = View { left: 0.25, top: 0.5, width: 0.5, height: 0.25 };
        assert_eq!(middle.pixels(640, 480), [160, 240, 320, 120]);
        assert_eq!(middle.pixels(854, 480), [214, 240, 426, 120]);
        assert_eq!(middle.area(), 0.125);
    }

    #[test]
    fn two_parts_share_what_lies_in_both() {
        let view = |left, top, width, height| View { left, top, width, height };
        let part = view(0.25, 0.5, 0.5, 0.25);
        assert_eq!(part.intersection(&View::WHOLE), part);
        assert_eq!(part.intersection(&view(0.5, 0.0, 0.5, 0.625)), view(0.5, 0.5, 0.25, 0.125));
        assert_eq!(part.intersection(&view(0.0, 0.0, 0.125, 1.0)).area(), 0.0);
    }

    proptest! {
        #[test]
        fn pixels_are_always_within_the_frame(
            rect in [-1.0f32..2.0, -1.0f32..2.0, -1.0f32..2.0, -1.0f32..2.0], width in 1usize..2000, height in 1usize..2000
        ) {
            let [left, top, w, h] = rect;
            let [x, y, w, h] = View { left, top, width: w, height: h }.pixels(width, height);
            prop_assert!(w > 0 && h > 0 && x + w <= width && y + h <= height, "{x} {y} {w} {h}");
            prop_assert!(x % 2 == 0 && y % 2 == 0);
            prop_assert!((w % 2 == 0 || x + w == width) && (h % 2 == 0 || y + h == height));
        }
    }
}
