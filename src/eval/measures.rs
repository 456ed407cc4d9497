//! The measures of DAVIS: J, the overlap of two regions, and F, that of their outlines.
//!
//! Perazzi et al., "A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation", CVPR 2016.
//! Regions are bit pictures, 64 pixels a word, so that a frame is scored in a fraction of a millisecond.

use super::davis::{Annotation, VOID};
use super::report::Score;
use crate::types::Mask;

/// Scores predicted masks against the annotation of their frame: mask `k` against instance `k + 1`. Pixels that
/// are annotated void count neither for nor against.
pub fn score_frame(masks: &[Mask], truth: &Annotation) -> Vec<Score> {
    let valid = Region::of(truth, |v| v != VOID);
    let scores = masks.iter().enumerate().map(|(k, mask)| {
        let (mut predicted, truth) = (Region::from(mask), Region::of(truth, |v| usize::from(v) == k + 1));
        predicted.keep(&valid);
        Score { j: region_similarity(&predicted, &truth), f: boundary_accuracy(&predicted, &truth) }
    });
    scores.collect()
}

/// J: intersection over union, 1 where both regions are empty.
pub fn region_similarity(predicted: &Region, truth: &Region) -> f64 {
    let both = predicted.common(truth);
    let union = predicted.area() + truth.area() - both;
    if union == 0 { 1.0 } else { both as f64 / union as f64 }
}

/// F: the harmonic mean of precision and recall of the outline, where a pixel of one outline is met when one of
/// the other lies within 0.8% of the picture's diagonal, rounded up; 1 where both regions have no outline, and 0
/// where one has none.
pub fn boundary_accuracy(predicted: &Region, truth: &Region) -> f64 {
    let reach = reach(truth.width, truth.height);
    let (predicted, truth) = (predicted.outline(), truth.outline());
    let (of_predicted, of_truth) = (predicted.area(), truth.area());
    if of_predicted == 0 || of_truth == 0 {
        return if of_predicted == of_truth { 1.0 } else { 0.0 };
    }
    let precision = predicted.common(&truth.dilate(reach)) as f64 / of_predicted as f64;
    let recall = truth.common(&predicted.dilate(reach)) as f64 / of_truth as f64;
    if precision + recall == 0.0 { 0.0 } else { 2.0 * precision * recall / (precision + recall) }
}

/// How far apart two outlines may lie, in pixels.
fn reach(width: usize, height: usize) -> usize {
    (0.008 * ((width * width + height * height) as f64).sqrt()).ceil() as usize
}

/// A set of pixels. Bits beyond the width are 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    width: usize,
    height: usize,
    /// Words in a row.
    words: usize,
    /// (height, words), the leftmost pixel in the lowest bit
    bits: Vec<u64>,
}

impl From<&Mask> for Region {
    fn from(mask: &Mask) -> Region {
        let mut region = Region::empty(mask.width, mask.height);
        for (x, y0, y1) in mask.spans() {
            for y in y0..y1 {
                region.bits[y * region.words + x / 64] |= 1 << (x % 64);
            }
        }
        region
    }
}

impl Region {
    pub fn empty(width: usize, height: usize) -> Region {
        let words = width.div_ceil(64);
        Region { width, height, words, bits: vec![0; words * height] }
    }

    /// The pixels of an annotation whose value `belongs`.
    pub fn of(annotation: &Annotation, belongs: impl Fn(u8) -> bool) -> Region {
        let mut region = Region::empty(annotation.width, annotation.height);
        if region.words > 0 {
            let rows = annotation.pixels.chunks_exact(annotation.width);
            for (bits, pixels) in region.bits.chunks_exact_mut(region.words).zip(rows) {
                for (word, pixels) in bits.iter_mut().zip(pixels.chunks(64)) {
                    *word = pixels.iter().enumerate().fold(0, |word, (i, v)| word | u64::from(belongs(*v)) << i);
                }
            }
        }
        region
    }

    /// Number of pixels.
    pub fn area(&self) -> usize {
        self.bits.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Number of pixels in both regions, which are of one size.
    pub fn common(&self, other: &Region) -> usize {
        debug_assert_eq!((self.width, self.height), (other.width, other.height));
        self.bits.iter().zip(&other.bits).map(|(a, b)| (a & b).count_ones() as usize).sum()
    }

    /// Drops the pixels that are not in `other`.
    pub fn keep(&mut self, other: &Region) {
        debug_assert_eq!((self.width, self.height), (other.width, other.height));
        self.bits.iter_mut().zip(&other.bits).for_each(|(a, b)| *a &= b);
    }

    /// The pixels that differ from their neighbour to the right, below, or right below. The last row and column
    /// count as going on for ever.
    pub fn outline(&self) -> Region {
        let mut outline = Region::empty(self.width, self.height);
        let words = self.words;
        // Above the last pixel of a row, a copy of it.
        let last = self.width.wrapping_sub(1) % 64;
        let shifted = |row: &[u64], i: usize| match row.get(i + 1) {
            Some(next) => row[i] >> 1 | next << 63,
            None => row[i] >> 1 | row[i] & 1 << last,
        };
        for y in 0..self.height {
            let row = self.row(y);
            let below = self.row((y + 1).min(self.height - 1));
            for i in 0..words {
                let differs = (row[i] ^ shifted(row, i)) | (row[i] ^ below[i]) | (row[i] ^ shifted(below, i));
                outline.bits[y * words + i] = differs;
            }
        }
        outline
    }

    /// The pixels at most `reach` pixels away from one of the region, centre to centre.
    pub fn dilate(&self, reach: usize) -> Region {
        let mut wide = Region::empty(self.width, self.height);
        let words = self.words;
        let mut grown = vec![0; words];
        for y in 0..self.height {
            let row = self.row(y);
            if row.iter().all(|word| *word == 0) {
                continue;
            }
            // From the disk's narrow ends to its middle, the row grows by what each of its rows is wider.
            grown.copy_from_slice(row);
            let mut half = 0;
            for away in (0..=reach).rev() {
                let wanted = (reach * reach - away * away).isqrt();
                while half < wanted {
                    half += 1;
                    add_shifted(&mut grown, row, half);
                }
                let targets = [y.checked_sub(away), (away > 0 && y + away < self.height).then_some(y + away)];
                for target in targets.into_iter().flatten() {
                    let target = &mut wide.bits[target * words..(target + 1) * words];
                    target.iter_mut().zip(&grown).for_each(|(target, grown)| *target |= grown);
                }
            }
        }
        wide.trim();
        wide
    }

    fn row(&self, y: usize) -> &[u64] {
        &self.bits[y * self.words..(y + 1) * self.words]
    }

    /// Clears the bits beyond the width.
    fn trim(&mut self) {
        let tail = self.width % 64;
        if tail > 0 {
            self.bits.chunks_exact_mut(self.words).for_each(|row| row[self.words - 1] &= (1 << tail) - 1);
        }
    }
}

/// Adds a row, moved by `by` pixels to the left and to the right.
fn add_shifted(out: &mut [u64], row: &[u64], by: usize) {
    let (words, bits) = (by / 64, by % 64);
    for i in words..row.len() {
        let (here, to_left, to_right) = (row[i], i - words, row.len() - 1 - i + words);
        let mirrored = row[row.len() - 1 - i];
        out[to_left] |= here >> bits;
        out[to_right] |= mirrored << bits;
        if bits > 0 && to_left > 0 {
            out[to_left - 1] |= here << (64 - bits);
        }
        if bits > 0 && to_right + 1 < row.len() {
            out[to_right + 1] |= mirrored >> (64 - bits);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// F as the paper defines it, pixel by pixel, on rows of booleans.
    mod definition {
        type Picture = Vec<Vec<bool>>;

        pub fn outline(picture: &Picture) -> Picture {
            let at = |y: usize, x: usize| picture[y.min(picture.len() - 1)][x.min(picture[0].len() - 1)];
            let differs = |y, x| [at(y, x + 1), at(y + 1, x), at(y + 1, x + 1)].iter().any(|v| *v != at(y, x));
            (0..picture.len()).map(|y| (0..picture[0].len()).map(|x| differs(y, x)).collect()).collect()
        }

        pub fn within(picture: &Picture, y: usize, x: usize, reach: usize) -> bool {
            let mut pixels =
                picture.iter().enumerate().flat_map(|(v, row)| row.iter().enumerate().map(move |p| (v, p)));
            pixels.any(|(v, (u, set))| *set && v.abs_diff(y).pow(2) + u.abs_diff(x).pow(2) <= reach * reach)
        }

        pub fn met(of: &Picture, by: &Picture, reach: usize) -> (usize, usize) {
            let (mut met, mut all) = (0, 0);
            for (y, row) in of.iter().enumerate() {
                for x in (0..row.len()).filter(|x| row[*x]) {
                    all += 1;
                    met += usize::from(within(by, y, x, reach));
                }
            }
            (met, all)
        }
    }

    fn rows(region: &Region) -> Vec<Vec<bool>> {
        let set = |x: usize, y: usize| region.bits[y * region.words + x / 64] >> (x % 64) & 1 == 1;
        (0..region.height).map(|y| (0..region.width).map(|x| set(x, y)).collect()).collect()
    }

    /// A few random rectangles and single pixels.
    fn region(width: usize, height: usize, seed: u64) -> Mask {
        let mut state = seed;
        let mut random = move |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % below
        };
        let boxes: Vec<[usize; 4]> =
            (0..random(4)).map(|_| [random(width), random(height), random(width) + 1, random(height) + 1]).collect();
        let dots: Vec<[usize; 2]> = (0..random(5)).map(|_| [random(width), random(height)]).collect();
        Mask::from_fn(width, height, |x, y| {
            boxes.iter().any(|[u, v, w, h]| (*u..u + w).contains(&x) && (*v..v + h).contains(&y))
                || dots.contains(&[x, y])
        })
    }

    proptest! {
        #[test]
        fn outlines_and_dilation_are_those_of_the_definition(
            width in 1usize..150, height in 1usize..24, seed: u64, reach in 0usize..20,
        ) {
            let region = Region::from(&region(width, height, seed));
            let outline = region.outline();
            prop_assert_eq!(rows(&outline), definition::outline(&rows(&region)));
            let wide = rows(&outline.dilate(reach));
            let pixels = rows(&outline);
            for (y, row) in wide.iter().enumerate() {
                for (x, set) in row.iter().enumerate() {
                    prop_assert_eq!(*set, definition::within(&pixels, y, x, reach), "{} {}", x, y);
                }
            }
        }

        #[test]
        fn f_is_that_of_the_definition(width in 1usize..150, height in 1usize..40, seed: u64) {
            let (predicted, truth) = (region(width, height, seed), region(width, height, !seed));
            let f = boundary_accuracy(&Region::from(&predicted), &Region::from(&truth));
            let [predicted, truth] = [predicted, truth].map(|mask| definition::outline(&rows(&Region::from(&mask))));
            // In whole numbers: a pixel is within reach when it is nearer than the next whole number above.
            let reach = (0..).find(|r| r * r * 1_000_000 >= 64 * (width * width + height * height)).unwrap();
            let (precise, of_predicted) = definition::met(&predicted, &truth, reach);
            let (recalled, of_truth) = definition::met(&truth, &predicted, reach);
            let expected = match (of_predicted, of_truth) {
                (0, 0) => 1.0,
                (0, _) | (_, 0) => 0.0,
                _ if precise + recalled == 0 => 0.0,
                _ => {
                    let (p, r) = (precise as f64 / of_predicted as f64, recalled as f64 / of_truth as f64);
                    2.0 * p * r / (p + r)
                }
            };
            prop_assert!((f - expected).abs() < 1e-12, "{} {}", f, expected);
        }

        #[test]
        fn a_row_wider_than_a_word_is_dilated_beyond_a_word(x in 0usize..400, reach in 60usize..140) {
            let region = Region::from(&Mask::from_fn(400, 1, |u, _| u == x));
            let expected: Vec<bool> = (0..400).map(|u: usize| u.abs_diff(x) <= reach).collect();
            prop_assert_eq!(&rows(&region.dilate(reach))[0], &expected);
        }
    }

    #[test]
    fn the_reach_at_480p_is_8_pixels() {
        // 0.008 * sqrt(854^2 + 480^2) = 7.84
        assert_eq!(reach(854, 480), 8);
        assert_eq!(reach(1920, 1080), 18);
    }

    #[test]
    fn void_counts_neither_for_nor_against() {
        // 20x4: columns 0 to 9 are instance 1, 10 to 14 void, the rest background.
        let pixels = (0..80).map(|i| [1, 1, VOID, 0][i % 20 / 5]).collect();
        let truth = Annotation { width: 20, height: 4, pixels };
        let perfect = Mask::from_fn(20, 4, |x, _| x < 10);
        let into_void = Mask::from_fn(20, 4, |x, _| x < 13);
        let beyond = Mask::from_fn(20, 4, |x, _| x < 20);
        let score = |mask: &Mask| score_frame(std::slice::from_ref(mask), &truth)[0];
        assert_eq!(score(&perfect), Score { j: 1.0, f: 1.0 });
        assert_eq!(score(&into_void), Score { j: 1.0, f: 1.0 });
        assert_eq!(score(&beyond).j, 40.0 / 60.0);
    }

    #[test]
    fn empty_regions_agree_with_each_other_and_with_nothing_else() {
        let truth = |value| Annotation {
            width: 9,
            height: 9,
            pixels: (0..81).map(|i| if i == 40 { value } else { 0 }).collect(),
        };
        let (none, dot) = (Mask::empty(9, 9), Mask::from_fn(9, 9, |x, y| (x, y) == (4, 4)));
        assert_eq!(score_frame(std::slice::from_ref(&none), &truth(0)), [Score { j: 1.0, f: 1.0 }]);
        assert_eq!(score_frame(&[none], &truth(1)), [Score { j: 0.0, f: 0.0 }]);
        assert_eq!(score_frame(&[dot], &truth(0)), [Score { j: 0.0, f: 0.0 }]);
    }
}
