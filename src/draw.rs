//! Masks, boxes and names drawn over a picture, for people to look at.

use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};

use crate::types::Mask;

/// Red, green, blue.
pub type Colour = [u8; 3];

/// How much of a mask's colour covers the picture, of 256: enough to see it, little enough to see through.
const TINT: u32 = 96;

/// Pixels around a label's text.
const PADDING: usize = 3;

/// A track's colour: of one id always the same, and of ids that follow each other far apart.
pub fn colour(id: u64) -> Colour {
    // Hues a golden section apart never come close to one another soon.
    let hue = (id as f64 * 0.618_033_988_749_895).fract() * 6.0;
    // Full saturation and value: hexagonal HSV to RGB, after Smith (1978).
    let channel = |offset: f64| {
        let k = (offset + hue) % 6.0;
        let value = 1.0 - k.min(4.0 - k).clamp(0.0, 1.0);
        (55.0 + 200.0 * value) as u8
    };
    [channel(5.0), channel(3.0), channel(1.0)]
}

/// Draws tracks over a picture: each mask tinted, with its outline, the box around it, and above the box its label.
/// Masks of another size than the picture are left out. Text is of ASCII characters; others are drawn as `?`.
///
/// `rgb`: (height, width, 3).
///
/// # Panics
/// When `rgb` is not of that length.
pub fn draw_tracks(rgb: &mut [u8], width: usize, height: usize, tracks: &[(Mask, Colour, String)]) {
    let mut canvas = Canvas::new(rgb, width, height);
    let fitting = || tracks.iter().filter(|(mask, ..)| (mask.width, mask.height) == (width, height));
    for (mask, colour, _) in fitting() {
        canvas.tint(mask, *colour);
    }
    // Above every tint, so that no object hides another's outline.
    for (mask, colour, _) in fitting() {
        canvas.outline(mask, *colour);
        if let Some(bounds) = mask.bounds() {
            canvas.frame(bounds, *colour);
        }
    }
    for (mask, colour, label) in fitting() {
        if let Some([x, y, w, h]) = mask.bounds() {
            canvas.label([x, y, w, h], label, *colour);
        }
    }
}

/// A picture that can be drawn on; what lies outside is not drawn.
struct Canvas<'a> {
    /// (height, width, 3)
    rgb: &'a mut [u8],
    width: usize,
    height: usize,
    /// Places of labels: x, y, width, height.
    labels: Vec<[usize; 4]>,
}

impl<'a> Canvas<'a> {
    fn new(rgb: &'a mut [u8], width: usize, height: usize) -> Canvas<'a> {
        assert_eq!(rgb.len(), width * height * 3, "a picture of {width}x{height} pixels");
        Canvas { rgb, width, height, labels: Vec::new() }
    }

    /// Mixes `colour` into a pixel, as much as `share` of 256.
    fn blend(&mut self, x: usize, y: usize, colour: Colour, share: u32) {
        if x >= self.width || y >= self.height {
            return;
        }
        let pixel = &mut self.rgb[(y * self.width + x) * 3..][..3];
        for (value, colour) in pixel.iter_mut().zip(colour) {
            *value = ((u32::from(*value) * (256 - share) + u32::from(colour) * share) >> 8) as u8;
        }
    }

    fn fill(&mut self, [x, y, w, h]: [usize; 4], colour: Colour) {
        for row in y..y + h {
            for column in x..x + w {
                self.blend(column, row, colour, 256);
            }
        }
    }

    fn tint(&mut self, mask: &Mask, colour: Colour) {
        for (x, y0, y1) in mask.spans() {
            for y in y0..y1 {
                self.blend(x, y, colour, TINT);
            }
        }
    }

    /// Draws the mask's pixels that touch what is not of the mask, as wide as lines are.
    fn outline(&mut self, mask: &Mask, colour: Colour) {
        let inside = mask.to_pixels();
        let (width, height, reach) = (self.width as isize, self.height as isize, self.line_width() as isize);
        let outside = |x: isize, y: isize| {
            let within = (0..width).contains(&x) && (0..height).contains(&y);
            within && !inside[(y * width + x) as usize]
        };
        for (x, y0, y1) in mask.spans() {
            for y in y0..y1 {
                let (px, py) = (x as isize, y as isize);
                let at_edge = (1..=reach)
                    .any(|d| outside(px - d, py) || outside(px + d, py) || outside(px, py - d) || outside(px, py + d));
                if at_edge {
                    self.blend(x, y, colour, 256);
                }
            }
        }
    }

    /// Draws the four sides of a box.
    fn frame(&mut self, [x, y, w, h]: [usize; 4], colour: Colour) {
        let line = self.line_width();
        self.fill([x, y, w, line.min(h)], colour);
        self.fill([x, (y + h).saturating_sub(line), w, line.min(h)], colour);
        self.fill([x, y, line.min(w), h], colour);
        self.fill([(x + w).saturating_sub(line), y, line.min(w), h], colour);
    }

    /// Writes a label above a box, or in its top where there is no room, clear of the other labels.
    fn label(&mut self, [x, y, ..]: [usize; 4], text: &str, colour: Colour) {
        if text.is_empty() {
            return;
        }
        let size = self.text_size();
        let advance = get_raster_width(FontWeight::Bold, size);
        let (w, h) = (text.chars().count() * advance + 2 * PADDING, size.val() + 2);
        let x = x.min(self.width.saturating_sub(w));
        let mut top = y.saturating_sub(h);
        while self.labels.iter().any(|other| overlap([x, top, w, h], *other)) && top + h < self.height {
            top += h;
        }
        self.labels.push([x, top, w, h]);
        self.fill([x, top, w, h], colour);
        let ink = if luminance(colour) > 120 { [0; 3] } else { [255; 3] };
        for (i, character) in text.chars().enumerate() {
            let glyph =
                get_raster(character, FontWeight::Bold, size).or_else(|| get_raster('?', FontWeight::Bold, size));
            let left = x + PADDING + i * advance;
            for (row, line) in glyph.iter().flat_map(|glyph| glyph.rows().enumerate()) {
                for (column, shade) in line.iter().enumerate() {
                    self.blend(left + column, top + 1 + row, ink, u32::from(*shade) * 256 / 255);
                }
            }
        }
    }

    /// Pixels; thicker in large pictures, which are looked at from further away.
    fn line_width(&self) -> usize {
        if self.is_large() { 2 } else { 1 }
    }

    fn text_size(&self) -> RasterHeight {
        if self.is_large() { RasterHeight::Size24 } else { RasterHeight::Size16 }
    }

    fn is_large(&self) -> bool {
        self.width.max(self.height) >= 1000
    }
}

fn overlap(a: [usize; 4], b: [usize; 4]) -> bool {
    (0..2).all(|axis| a[axis] < b[axis] + b[axis + 2] && b[axis] < a[axis] + a[axis + 2])
}

/// In [0, 255], after ITU-R BT.601.
fn luminance([r, g, b]: Colour) -> u32 {
    (299 * u32::from(r) + 587 * u32::from(g) + 114 * u32::from(b)) / 1000
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn square(width: usize, height: usize) -> Mask {
        Mask::from_fn(width, height, |x, y| (20..40).contains(&x) && (30..44).contains(&y))
    }

    fn pixel(rgb: &[u8], width: usize, x: usize, y: usize) -> &[u8] {
        &rgb[(y * width + x) * 3..][..3]
    }

    #[test]
    fn a_mask_is_tinted_within_its_outline_and_nothing_else_is_touched() {
        let mut rgb = vec![100; 80 * 60 * 3];
        draw_tracks(&mut rgb, 80, 60, &[(square(80, 60), [255, 0, 0], String::new())]);
        assert_eq!(pixel(&rgb, 80, 20, 30), [255, 0, 0], "outline");
        assert_eq!(pixel(&rgb, 80, 39, 43), [255, 0, 0], "outline");
        // 100 * 160 / 256 + 255 * 96 / 256, and without the red.
        assert_eq!(pixel(&rgb, 80, 30, 36), [158, 62, 62], "inside");
        for (x, y) in [(19, 30), (40, 36), (30, 29), (30, 44)] {
            assert_eq!(pixel(&rgb, 80, x, y), [100; 3], "outside, at {x},{y}");
        }
    }

    #[test]
    fn a_label_stands_above_its_box_and_stays_within_the_picture() {
        let mut rgb = vec![0; 80 * 60 * 3];
        draw_tracks(&mut rgb, 80, 60, &[(square(80, 60), [255, 255, 0], "abc".into())]);
        assert_eq!(pixel(&rgb, 80, 21, 14), [255, 255, 0], "the label's ground");
        let ink =
            (12..30).flat_map(|y| (20..60).map(move |x| (x, y))).filter(|(x, y)| pixel(&rgb, 80, *x, *y) == [0; 3]);
        assert!(ink.count() > 20, "the letters are dark on light");
    }

    #[test]
    fn labels_do_not_hide_each_other() {
        let mut rgb = vec![0; 200 * 100 * 3];
        let mut canvas = Canvas::new(&mut rgb, 200, 100);
        for text in ["first", "second", "third"] {
            canvas.label([20, 40, 10, 10], text, [255; 3]);
        }
        let [a, b, c] = canvas.labels[..] else { panic!("three labels") };
        assert!(!overlap(a, b) && !overlap(b, c) && !overlap(a, c), "{a:?} {b:?} {c:?}");
    }

    #[test]
    fn neighbouring_ids_have_colours_far_apart() {
        for id in 0..200u64 {
            for other in id + 1..id + 5 {
                let difference: u32 = colour(id).iter().zip(colour(other)).map(|(a, b)| u32::from(a.abs_diff(b))).sum();
                assert!(difference > 60, "{id} {:?} and {other} {:?}", colour(id), colour(other));
            }
        }
    }

    proptest! {
        #[test]
        fn nothing_is_drawn_outside(
            width in 1usize..70,
            height in 1usize..50,
            bits in prop::collection::vec(any::<bool>(), 3500),
            label in ".{0,12}",
            id in any::<u64>(),
        ) {
            let mut rgb = vec![7; width * height * 3];
            let mask = Mask::from_fn(width, height, |x, y| bits[y * width + x]);
            let other = Mask::from_fn(width + 1, height, |_, _| true);
            draw_tracks(&mut rgb, width, height, &[(other, [255; 3], "no".into()), (mask.clone(), colour(id), label)]);
            if mask.is_empty() {
                prop_assert!(rgb.iter().all(|value| *value == 7));
            }
        }
    }
}
