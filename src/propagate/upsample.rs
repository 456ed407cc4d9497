//! Label fields to masks: bilinear upsampling, arg-max, and the picture's own size.
//!
//! The rule is the published one for DAVIS. Every plane of the field, the background's too, is upsampled
//! bilinearly (half-pixel centres, edges clamped) to the model's input; where asked, each plane is stretched to
//! [0, 1]; the arg-max decides, the first plane winning ties; and the picture of winners is brought to the
//! frame's size by taking the nearest pixel, `floor(i * input / frame)`, as OpenCV's `INTER_NEAREST` does.
//!
//! [`masks_by_definition`] says so in as many words. [`Upsampler`] gives the same masks, bit for bit, and looks
//! at few pixels: bilinear values lie between those of the four patches around, so where one plane leads at all
//! four by more than rounding can make up, it owns all pixels between them.

mod axis;
mod stretch;

use std::ops::Range;

pub(super) use axis::nearest;
use axis::{Axis, bilinear};
use stretch::{Extremes, Stretch};

use crate::types::mask::MaskBuilder;
use crate::types::{LabelField, Mask, PatchGrid};

/// One mask for each instance of a label field, in their order, in `width` x `height` pixels.
///
/// Keeps its tables and buffers from frame to frame. Labels must be finite and at least 0.
#[derive(Default)]
pub struct Upsampler {
    key: Option<(PatchGrid, usize, usize)>,
    across: Axis,
    down: Axis,
    /// (instances + 1)
    stretch: Vec<Stretch>,
    /// (rows * cols + 1): where each patch's planes begin in `present`.
    starts: Vec<usize>,
    /// The instances' planes that have a label at a patch, in ascending order, one patch after the other.
    present: Vec<u32>,
    /// Planes with a label at a corner of the cell that is looked at.
    near: Vec<u32>,
    /// (rows + 1): who may own the pixels of each cell of one column of cells.
    cells: Vec<Cell>,
    /// Planes that compete in the cells of one column, in ascending order within a cell.
    candidates: Vec<u32>,
    /// Largest value so far, and whose it is, for the pixels of a cell in one column of pixels.
    best: Vec<f32>,
    owner: Vec<u32>,
    extremes: Extremes,
}

impl Upsampler {
    /// The masks of `field`; with `min_max`, each plane is first stretched to [0, 1].
    pub fn masks(&mut self, field: &LabelField, width: usize, height: usize, min_max: bool) -> Vec<Mask> {
        let mut builders: Vec<_> = (0..field.instances).map(|_| MaskBuilder::new(width, height)).collect();
        if field.instances > 0 && !field.grid.is_empty() && width > 0 && height > 0 {
            self.fit(field.grid, width, height);
            self.survey(field, min_max);
            for column in 0..=field.grid.cols {
                self.column(field, column, &mut builders);
            }
        }
        builders.into_iter().map(MaskBuilder::finish).collect()
    }

    /// Makes the tables for a grid and a picture size, unless they are there.
    fn fit(&mut self, grid: PatchGrid, width: usize, height: usize) {
        let key = Some((grid, width, height));
        if self.key != key {
            self.across = Axis::new(grid.cols, grid.patch, width);
            self.down = Axis::new(grid.rows, grid.patch, height);
            let longest = (0..=grid.rows).map(|cell| self.down.pixels(cell).len()).max().unwrap_or(0);
            self.best = vec![0.0; longest];
            self.owner = vec![0; longest];
            self.key = key;
        }
    }

    /// Finds the patches that matter and how the planes are stretched.
    fn survey(&mut self, field: &LabelField, min_max: bool) {
        let planes = field.instances + 1;
        self.starts.clear();
        self.present.clear();
        for labels in field.data.chunks_exact(planes) {
            self.starts.push(self.present.len());
            self.present.extend((1..planes).filter(|plane| labels[*plane] > 0.0).map(|plane| plane as u32));
        }
        self.starts.push(self.present.len());
        self.stretch.clear();
        if min_max {
            self.extremes.stretch(field, &mut self.stretch);
        } else {
            self.stretch.resize(planes, Stretch::NONE);
        }
    }

    /// Adds the pixels of one column of cells to the masks.
    fn column(&mut self, field: &LabelField, column: usize, builders: &mut [MaskBuilder]) {
        let (left, right) = self.across.patches(column);
        let xs = self.across.pixels(column);
        let rows = field.grid.rows;
        self.cells.clear();
        self.candidates.clear();
        let (mut first, mut last) = (rows + 1, 0);
        for cell in 0..=rows {
            let (top, bottom) = self.down.patches(cell);
            let corners = [(top, left), (top, right), (bottom, left), (bottom, right)];
            let corners = corners.map(|(row, col)| row * field.grid.cols + col);
            self.near.clear();
            if !xs.is_empty() {
                let present = corners.map(|patch| &self.present[self.starts[patch]..self.starts[patch + 1]]);
                present.into_iter().for_each(|planes| self.near.extend_from_slice(planes));
            }
            let kind = if self.near.is_empty() {
                Cell::Owned(0)
            } else {
                // The background, which has no label to show, competes everywhere.
                self.near.push(0);
                self.near.sort_unstable();
                self.near.dedup();
                contest(corners.map(|patch| field.row(patch)), &self.stretch, &self.near, &mut self.candidates)
            };
            if !matches!(kind, Cell::Owned(0)) {
                first = first.min(cell);
                last = cell + 1;
            }
            self.cells.push(kind);
        }
        if first >= last {
            return;
        }
        for x in xs {
            self.pixels(field, x, (left, right), first..last, builders);
        }
    }

    /// Adds column `x` of the picture, which lies between two columns of patches, to the masks.
    fn pixels(
        &mut self,
        field: &LabelField,
        x: usize,
        (left, right): (usize, usize),
        cells: Range<usize>,
        builders: &mut [MaskBuilder],
    ) {
        let (toward_left, toward_right) = (self.across.low[x], self.across.high[x]);
        let (mut owner, mut since) = (0, 0);
        let mut change = |y: usize, next: u32| {
            if next != owner {
                if owner > 0 {
                    builders[owner as usize - 1].run(x, since, y);
                }
                (owner, since) = (next, y);
            }
        };
        let end = self.down.pixels(cells.end - 1).end;
        for cell in cells {
            let ys = self.down.pixels(cell);
            let candidates = match &self.cells[cell] {
                Cell::Owned(plane) => {
                    if !ys.is_empty() {
                        change(ys.start, *plane);
                    }
                    continue;
                }
                Cell::Contested(range) => &self.candidates[range.clone()],
            };
            let (top, bottom) = self.down.patches(cell);
            let row = |row: usize, col: usize| field.row(row * field.grid.cols + col);
            let corners = [row(top, left), row(top, right), row(bottom, left), row(bottom, right)];
            let (low, high) = (&self.down.low[ys.clone()], &self.down.high[ys.clone()]);
            let (best, winner) = (&mut self.best[..ys.len()], &mut self.owner[..ys.len()]);
            best.fill(f32::NEG_INFINITY);
            winner.fill(0);
            for &plane in candidates {
                let k = plane as usize;
                let above = corners[0][k] * toward_left + corners[1][k] * toward_right;
                let below = corners[2][k] * toward_left + corners[3][k] * toward_right;
                let Stretch { min, range, .. } = self.stretch[k];
                // Without a stretch this is (v - 0) / 1, which changes no bit: the division is saved.
                if min == 0.0 && range == 1.0 {
                    compete(best, winner, low, high, plane, |low, high| above * low + below * high);
                } else {
                    compete(best, winner, low, high, plane, |low, high| (above * low + below * high - min) / range);
                }
            }
            for (y, winner) in ys.zip(winner) {
                change(y, *winner);
            }
        }
        change(end, 0);
    }
}

/// The definition, pixel by pixel: slow, and what [`Upsampler::masks`] is held to.
pub fn masks_by_definition(field: &LabelField, width: usize, height: usize, min_max: bool) -> Vec<Mask> {
    let PatchGrid { rows, cols, patch } = field.grid;
    let (input_width, input_height) = (cols * patch, rows * patch);
    // (instances + 1), each (rows * patch, cols * patch)
    let planes: Vec<Vec<f32>> = (0..=field.instances)
        .map(|k| {
            let label = |row: usize, col: usize| field.row(row * cols + col)[k];
            let mut plane = Vec::with_capacity(input_width * input_height);
            for y in 0..input_height {
                let (top, bottom, up, down) = bilinear(y, rows, patch);
                for x in 0..input_width {
                    let (left, right, toward_left, toward_right) = bilinear(x, cols, patch);
                    let above = label(top, left) * toward_left + label(top, right) * toward_right;
                    let below = label(bottom, left) * toward_left + label(bottom, right) * toward_right;
                    plane.push(above * up + below * down);
                }
            }
            let min = plane.iter().copied().fold(f32::INFINITY, f32::min);
            let max = plane.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            if min_max && max > 0.0 && max > min {
                plane.iter_mut().for_each(|v| *v = (*v - min) / (max - min));
            }
            plane
        })
        .collect();
    let winner = |x: usize, y: usize| {
        let at = nearest(y, height, input_height) * input_width + nearest(x, width, input_width);
        (1..planes.len()).fold(0, |best, k| if planes[k][at] > planes[best][at] { k } else { best })
    };
    // (height, width)
    let winners: Vec<usize> = (0..width * height).map(|i| winner(i % width, i / width)).collect();
    (1..=field.instances).map(|k| Mask::from_fn(width, height, |x, y| winners[y * width + x] == k)).collect()
}

/// Who owns the pixels between four patches.
enum Cell {
    /// This plane owns them all.
    Owned(u32),
    /// One of these candidates, pixel by pixel.
    Contested(Range<usize>),
}

/// Decides a cell from the labels of the four patches around it, each (instances + 1). Only the planes `near`, in
/// ascending order, have labels there; any other is 0, and the background, never below 0, wins that tie.
fn contest(corners: [&[f32]; 4], stretch: &[Stretch], near: &[u32], candidates: &mut Vec<u32>) -> Cell {
    let at = |plane: u32| corners.map(|labels| stretch[plane as usize].apply(labels[plane as usize]));
    let (mut leader, mut most) = (0, f32::NEG_INFINITY);
    for &plane in near {
        let sum: f32 = at(plane).iter().sum();
        if sum > most {
            (leader, most) = (plane, sum);
        }
    }
    let lead = at(leader);
    let start = candidates.len();
    for &plane in near {
        let slack = stretch[plane as usize].rounding + stretch[leader as usize].rounding;
        let beaten = at(plane).iter().zip(lead).all(|(v, lead)| v + slack <= lead);
        if plane == leader || !beaten {
            candidates.push(plane);
        }
    }
    if candidates.len() == start + 1 {
        candidates.truncate(start);
        return Cell::Owned(leader);
    }
    Cell::Contested(start..candidates.len())
}

/// Gives `plane` the pixels at which its value is larger than the best so far.
fn compete(
    best: &mut [f32],
    winner: &mut [u32],
    low: &[f32],
    high: &[f32],
    plane: u32,
    value: impl Fn(f32, f32) -> f32,
) {
    for (((best, winner), low), high) in best.iter_mut().zip(winner).zip(low).zip(high) {
        let v = value(*low, *high);
        *winner = if v > *best { plane } else { *winner };
        *best = if v > *best { v } else { *best };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Labels of blobs that fade out, of lone patches, or of few values so that ties are common.
    fn field(grid: PatchGrid, instances: usize, kind: u8, seed: u64) -> LabelField {
        let mut state = seed;
        let mut random = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1u64 << 24) as f32
        };
        let mut field = LabelField::background(grid, instances);
        let centres: Vec<_> = (0..instances)
            .map(|_| [random() * grid.cols as f32, random() * grid.rows as f32, 1.0 + random()])
            .collect();
        for patch in 0..grid.len() {
            let (row, col) = (patch / grid.cols, patch % grid.cols);
            let labels = &mut field.data[patch * (instances + 1)..(patch + 1) * (instances + 1)];
            for (label, [x, y, size]) in labels[1..].iter_mut().zip(&centres) {
                let distance = (col as f32 - x).hypot(row as f32 - y) / size;
                *label = match kind {
                    0 => (1.3 - 0.5 * distance).clamp(0.0, 1.0),
                    1 => f32::from(random() > 0.8) * random(),
                    2 => (random() * 3.0).floor() / 2.0,
                    _ => random(),
                };
            }
            let sum: f32 = labels[1..].iter().sum();
            if sum > 1.0 && kind != 2 {
                labels[1..].iter_mut().for_each(|v| *v /= sum);
            }
            labels[0] = (1.0 - sum).max(0.0);
        }
        field
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]
        #[test]
        fn masks_are_those_of_the_definition(
            rows in 1usize..9, cols in 1usize..9, patch in 1usize..18, instances in 0usize..6,
            width in 1usize..90, height in 1usize..90, kind in 0u8..4, seed: u64, min_max: bool,
        ) {
            let mut upsampler = Upsampler::default();
            // The second field meets the buffers that the first one left.
            for seed in [seed, !seed] {
                let field = field(PatchGrid { rows, cols, patch }, instances, kind, seed);
                let expected = masks_by_definition(&field, width, height, min_max);
                prop_assert_eq!(upsampler.masks(&field, width, height, min_max), expected);
            }
        }
    }

    #[test]
    fn real_sizes_agree_with_the_definition() {
        let mut upsampler = Upsampler::default();
        for (rows, cols, patch, width, height) in
            [(30, 53, 16, 854, 480), (30, 40, 16, 640, 480), (20, 35, 14, 1280, 720)]
        {
            for (instances, kind, min_max) in [(3, 0, false), (3, 0, true), (64, 0, false), (2, 1, true), (9, 3, false)]
            {
                let field = field(PatchGrid { rows, cols, patch }, instances, kind, 7);
                let masks = upsampler.masks(&field, width, height, min_max);
                assert_eq!(
                    masks,
                    masks_by_definition(&field, width, height, min_max),
                    "{rows} {cols} {instances} {kind}"
                );
                assert!(masks.iter().any(|mask| !mask.is_empty()));
            }
        }
    }

    #[test]
    fn the_border_lies_where_two_labels_cross() {
        // Between the centres of two patches 8 pixels apart, at 4 and 12, the label rises from 0 to 1: it passes
        // 0.5 at 8. With labels 0.25 and 1 it passes 0.5 a third of the way, at 6.67.
        let grid = PatchGrid { rows: 1, cols: 2, patch: 8 };
        for (first, border) in [(0.0, 8), (0.25, 7)] {
            let field = LabelField { grid, instances: 1, data: vec![1.0 - first, first, 0.0, 1.0] };
            let expected = Mask::from_fn(16, 8, |x, _| x >= border);
            assert_eq!(Upsampler::default().masks(&field, 16, 8, false), [expected], "{first}");
        }
    }

    #[test]
    fn the_first_plane_wins_ties() {
        let grid = PatchGrid { rows: 1, cols: 1, patch: 4 };
        let (none, all) = (Mask::empty(4, 4), Mask::from_fn(4, 4, |_, _| true));
        let masks = |labels: [f32; 3]| {
            Upsampler::default().masks(&LabelField { grid, instances: 2, data: labels.to_vec() }, 4, 4, false)
        };
        assert_eq!(masks([0.5, 0.5, 0.0]), [none.clone(), none.clone()]);
        assert_eq!(masks([0.0, 0.5, 0.5]), [all.clone(), none.clone()]);
        assert_eq!(masks([0.2, 0.3, 0.5]), [none, all]);
    }

    #[test]
    fn the_stretch_lifts_a_faint_object() {
        // Nowhere above the background, but above it once both are stretched.
        let grid = PatchGrid { rows: 1, cols: 2, patch: 4 };
        let field = LabelField { grid, instances: 1, data: vec![1.0, 0.0, 0.6, 0.4] };
        assert!(Upsampler::default().masks(&field, 8, 4, false)[0].is_empty());
        let expected = Mask::from_fn(8, 4, |x, _| x >= 4);
        assert_eq!(Upsampler::default().masks(&field, 8, 4, true), [expected]);
    }
}
