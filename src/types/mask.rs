//! A hard mask, run-length coded in the order of the COCO tools.

use serde::{Deserialize, Serialize};

/// A binary mask. `runs` are the lengths of runs of 0 and 1 in turn, beginning with 0, down the columns
/// from left to right (COCO's order). They sum to `width * height`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mask {
    /// Pixels.
    pub width: usize,
    /// Pixels.
    pub height: usize,
    runs: Vec<u32>,
}

/// COCO's compressed run-length encoding, as its own tools read and write it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CocoRle {
    /// Height, width in pixels.
    pub size: [usize; 2],
    /// The runs, six bits a character, as `pycocotools` writes them.
    pub counts: String,
}

/// Why a run-length coded mask cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MaskError {
    #[error("a mask of {0}x{1} pixels is empty or too large (at most 65,535 a side)")]
    Size(usize, usize),
    #[error("the mask's counts end inside a number, or hold a character that is none of COCO's, at byte {0}")]
    Counts(usize),
    #[error("the mask's runs cover {got} pixels, but its size has {need}")]
    Length { need: u64, got: u64 },
}

impl Mask {
    /// An empty mask.
    pub fn empty(width: usize, height: usize) -> Mask {
        Mask { width, height, runs: vec![(width * height) as u32] }
    }

    /// The mask of the pixels for which `inside(x, y)` holds.
    pub fn from_fn(width: usize, height: usize, inside: impl Fn(usize, usize) -> bool) -> Mask {
        let mut builder = MaskBuilder::new(width, height);
        for x in 0..width {
            for y in 0..height {
                if inside(x, y) {
                    builder.run(x, y, y + 1);
                }
            }
        }
        builder.finish()
    }

    /// The mask of a row-major picture, (height, width): the pixels that equal `value`.
    pub fn from_pixels(width: usize, height: usize, pixels: &[u8], value: u8) -> Mask {
        Mask::from_fn(width, height, |x, y| pixels[y * width + x] == value)
    }

    /// Runs of set pixels, down the columns: (x, first y, one past the last y). No run crosses a column.
    pub fn spans(&self) -> impl Iterator<Item = (usize, usize, usize)> + '_ {
        let height = self.height;
        let mut at = 0usize;
        self.runs.iter().enumerate().flat_map(move |(i, &run)| {
            let (start, end) = (at, at + run as usize);
            at = end;
            let set = i % 2 == 1 && height > 0;
            let columns = if set && end > start { start / height..(end - 1) / height + 1 } else { 0..0 };
            columns.map(move |x| (x, start.max(x * height) - x * height, end.min((x + 1) * height) - x * height))
        })
    }

    /// Number of set pixels.
    pub fn area(&self) -> usize {
        self.runs.iter().skip(1).step_by(2).map(|r| *r as usize).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.area() == 0
    }

    /// The smallest box around the set pixels: x, y, width, height; `None` when there are none.
    pub fn bounds(&self) -> Option<[usize; 4]> {
        let mut bounds: Option<[usize; 4]> = None;
        for (x, y0, y1) in self.spans() {
            let b = bounds.get_or_insert([x, y0, x + 1, y1]);
            *b = [b[0], b[1].min(y0), x + 1, b[3].max(y1)];
        }
        bounds.map(|[x0, y0, x1, y1]| [x0, y0, x1 - x0, y1 - y0])
    }

    /// The mean of the set pixels' centres: x, y in pixels; `None` when there are none.
    pub fn centroid(&self) -> Option<[f64; 2]> {
        let (mut n, mut sx, mut sy) = (0.0, 0.0, 0.0);
        for (x, y0, y1) in self.spans() {
            let length = (y1 - y0) as f64;
            n += length;
            sx += length * (x as f64 + 0.5);
            sy += length * (y0 + y1) as f64 / 2.0;
        }
        (n > 0.0).then(|| [sx / n, sy / n])
    }

    /// What of it lies in a part of the picture, x, y, width, height in pixels, as a mask of that part.
    pub fn cut_out(&self, [x, y, width, height]: [usize; 4]) -> Mask {
        let mut builder = MaskBuilder::new(width, height);
        for (column, y0, y1) in self.spans().filter(|(column, ..)| (x..x + width).contains(column)) {
            builder.run(column - x, y0.clamp(y, y + height) - y, y1.clamp(y, y + height) - y);
        }
        builder.finish()
    }

    /// The same pixels in a picture of `width` x `height`, of which this mask's is the part that begins at x, y; what lies beyond its
    /// edges is cut off.
    pub fn set_into(&self, [x, y]: [usize; 2], width: usize, height: usize) -> Mask {
        let mut builder = MaskBuilder::new(width, height);
        for (column, y0, y1) in self.spans().filter(|(column, ..)| column + x < width) {
            builder.run(column + x, (y0 + y).min(height), (y1 + y).min(height));
        }
        builder.finish()
    }

    /// Writes `value` over the set pixels of a row-major picture, (height, width).
    pub fn paint(&self, pixels: &mut [u8], value: u8) {
        for (x, y0, y1) in self.spans() {
            for y in y0..y1 {
                pixels[y * self.width + x] = value;
            }
        }
    }

    /// The mask as a row-major picture, (height, width), of `false` and `true`.
    pub fn to_pixels(&self) -> Vec<bool> {
        let mut pixels = vec![false; self.width * self.height];
        for (x, y0, y1) in self.spans() {
            for y in y0..y1 {
                pixels[y * self.width + x] = true;
            }
        }
        pixels
    }

    /// Pixels set in both masks, which must be of one size.
    pub fn intersection_area(&self, other: &Mask) -> usize {
        debug_assert_eq!((self.width, self.height), (other.width, other.height));
        let ends = |mask: &Mask| -> Vec<u64> {
            mask.runs
                .iter()
                .scan(0u64, |at, r| {
                    *at += u64::from(*r);
                    Some(*at)
                })
                .collect()
        };
        let (a, b) = (ends(self), ends(other));
        let (mut i, mut j, mut at, mut area) = (0, 0, 0u64, 0u64);
        while i < a.len() && j < b.len() {
            let next = a[i].min(b[j]);
            if i % 2 == 1 && j % 2 == 1 {
                area += next - at;
            }
            at = next;
            i += usize::from(a[i] == next);
            j += usize::from(b[j] == next);
        }
        area as usize
    }

    /// Intersection over union; 1 when both are empty.
    pub fn iou(&self, other: &Mask) -> f64 {
        let intersection = self.intersection_area(other);
        let union = self.area() + other.area() - intersection;
        if union == 0 { 1.0 } else { intersection as f64 / union as f64 }
    }

    /// COCO's compressed form.
    pub fn to_coco(&self) -> CocoRle {
        let mut counts = String::new();
        for (i, &run) in self.runs.iter().enumerate() {
            // From the third run on, COCO stores the difference to the run two before.
            let mut x = i64::from(run) - if i > 2 { i64::from(self.runs[i - 2]) } else { 0 };
            loop {
                let mut c = (x & 0x1f) as u8;
                x >>= 5;
                let more = if c & 0x10 != 0 { x != -1 } else { x != 0 };
                if more {
                    c |= 0x20;
                }
                counts.push((c + 48) as char);
                if !more {
                    break;
                }
            }
        }
        CocoRle { size: [self.height, self.width], counts }
    }

    /// Reads COCO's compressed form.
    ///
    /// # Errors
    /// When the counts are not well formed or do not cover the size exactly.
    pub fn from_coco(rle: &CocoRle) -> Result<Mask, MaskError> {
        let [height, width] = rle.size;
        if width == 0 || height == 0 || width > 65_535 || height > 65_535 {
            return Err(MaskError::Size(width, height));
        }
        let bytes = rle.counts.as_bytes();
        let need = (width * height) as u64;
        let (mut runs, mut at, mut got) = (Vec::<u32>::new(), 0, 0u64);
        while at < bytes.len() {
            let (mut x, mut shift, mut more) = (0i64, 0u32, true);
            while more {
                let c = bytes
                    .get(at)
                    .map(|b| b.wrapping_sub(48))
                    .filter(|c| *c < 64 && shift < 35)
                    .ok_or(MaskError::Counts(at))?;
                x |= i64::from(c & 0x1f) << shift;
                shift += 5;
                at += 1;
                more = c & 0x20 != 0;
                if !more && c & 0x10 != 0 {
                    x |= -1i64 << shift;
                }
            }
            if runs.len() > 2 {
                x += i64::from(runs[runs.len() - 2]);
            }
            let run = u32::try_from(x).map_err(|_| MaskError::Counts(at))?;
            got += u64::from(run);
            if got > need {
                return Err(MaskError::Length { need, got });
            }
            runs.push(run);
        }
        if got != need {
            return Err(MaskError::Length { need, got });
        }
        Ok(Mask { width, height, runs })
    }
}

/// Builds a [`Mask`] from column runs given in COCO's order.
pub struct MaskBuilder {
    width: usize,
    height: usize,
    runs: Vec<u32>,
    at: usize,
}

impl MaskBuilder {
    pub fn new(width: usize, height: usize) -> MaskBuilder {
        MaskBuilder { width, height, runs: Vec::new(), at: 0 }
    }

    /// Sets pixels `y0..y1` of column `x`. Columns must come in order, and runs in order within a column.
    pub fn run(&mut self, x: usize, y0: usize, y1: usize) {
        let (start, end) = (x * self.height + y0, x * self.height + y1);
        debug_assert!(start >= self.at && y1 <= self.height && x < self.width);
        if end <= start {
            return;
        }
        match self.runs.last_mut() {
            Some(last) if start == self.at => *last += (end - start) as u32,
            _ => self.runs.extend([(start - self.at) as u32, (end - start) as u32]),
        }
        self.at = end;
    }

    pub fn finish(mut self) -> Mask {
        let rest = self.width * self.height - self.at;
        if rest > 0 || self.runs.is_empty() {
            self.runs.push(rest as u32);
        }
        Mask { width: self.width, height: self.height, runs: self.runs }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_part_is_cut_out_and_set_into_a_picture_pixel_by_pixel(
            (width, height) in (1usize..30, 1usize..30), part in [0usize..29, 0usize..29, 1usize..30, 1usize..30], bits: u64
        ) {
            let inside = |x: usize, y: usize| bits.rotate_left((7 * x + 13 * y) as u32 % 64) & 5 == 5;
            let mask = Mask::from_fn(width, height, inside);
            let [x, y, w, h] = part;
            let cut = mask.cut_out(part);
            let expected = |px: usize, py: usize| px + x < width && py + y < height && inside(px + x, py + y);
            prop_assert_eq!(&cut, &Mask::from_fn(w, h, expected));
            let whole = cut.set_into([x, y], width, height);
            let within = |px: usize, py: usize| (x..x + w).contains(&px) && (y..y + h).contains(&py);
            prop_assert_eq!(whole, Mask::from_fn(width, height, |px, py| within(px, py) && inside(px, py)));
        }
    }

    #[test]
    fn coco_strings_are_those_of_pycocotools() {
        // What `pycocotools.mask.encode` of pycocotools 2.0.11 gives for these arrays in Fortran order.
        let small = Mask::from_fn(5, 4, |x, y| (1..4).contains(&x) && (1..3).contains(&y));
        // Runs of several characters, runs shorter than the one two before, and one that crosses columns.
        let large = Mask::from_fn(300, 200, |x, y| match x {
            10 | 11 => (20..150).contains(&y),
            100..103 => (30..180).contains(&y),
            299 => y == 5 || y == 199,
            _ => x == 0 && y == 0,
        });
        for (mask, size, counts) in [
            (small, [4, 5], "5220003"),
            (Mask::from_fn(5, 4, |_, _| true), [4, 5], "0d0"),
            (Mask::empty(5, 4), [4, 5], "d0"),
            (Mask::from_fn(4, 3, |x, y| (x + y) % 2 == 1), [3, 4], "111000000000"),
            (large, [200, 300], "01So1Q4SSN0ZVa0d0Ri^O000WXV1[KXliN0"),
        ] {
            let rle = CocoRle { size, counts: counts.into() };
            assert_eq!(mask.to_coco(), rle);
            assert_eq!(Mask::from_coco(&rle), Ok(mask));
        }
    }

    #[test]
    fn measures_are_those_of_the_pixels() {
        let mask = Mask::from_fn(6, 5, |x, y| (x, y) == (1, 4) || (x, y) == (2, 0) || (x, y) == (5, 4));
        assert_eq!(mask.area(), 3);
        assert_eq!(mask.bounds(), Some([1, 0, 5, 5]));
        assert_eq!(mask.centroid(), Some([(1.5 + 2.5 + 5.5) / 3.0, (4.5 + 0.5 + 4.5) / 3.0]));
        assert_eq!(Mask::empty(6, 5).bounds(), None);
        assert_eq!(Mask::empty(6, 5).iou(&Mask::empty(6, 5)), 1.0);
    }

    #[test]
    fn bad_counts_are_refused() {
        let read = |size, counts: &str| Mask::from_coco(&CocoRle { size, counts: counts.into() });
        assert_eq!(read([0, 5], ""), Err(MaskError::Size(5, 0)));
        assert_eq!(read([4, 5], "d"), Err(MaskError::Counts(1)));
        assert_eq!(read([4, 5], "\u{1}"), Err(MaskError::Counts(0)));
        assert_eq!(read([4, 5], "5"), Err(MaskError::Length { need: 20, got: 5 }));
        assert_eq!(read([4, 5], "e0"), Err(MaskError::Length { need: 20, got: 21 }));
        assert_eq!(read([4, 5], "oooooooooooooooo"), Err(MaskError::Counts(7)));
    }

    proptest! {
        #[test]
        fn coco_round_trips_and_pixels_agree(width in 1usize..40, height in 1usize..40, bits in prop::collection::vec(any::<bool>(), 1600), other in prop::collection::vec(any::<bool>(), 1600)) {
            let mask = Mask::from_fn(width, height, |x, y| bits[y * width + x]);
            prop_assert_eq!(Mask::from_coco(&mask.to_coco()), Ok(mask.clone()));
            prop_assert_eq!(&mask.to_pixels()[..], &bits[..width * height]);
            let second = Mask::from_fn(width, height, |x, y| other[y * width + x]);
            let both = (0..width * height).filter(|i| bits[*i] && other[*i]).count();
            prop_assert_eq!(mask.intersection_area(&second), both);
        }

        #[test]
        fn no_counts_make_the_reader_panic(counts in "[ -~]{0,30}", height in 0usize..100, width in 0usize..100) {
            let _ = Mask::from_coco(&CocoRle { size: [height, width], counts });
        }
    }
}
