//! Label fields to masks whose edges follow the picture's: a guided filter before the arg-max.
//!
//! Within a window a label is taken for a linear function of the colour, `a . colour + b`, the one that fits the labels best
//! ("Guided image filtering", He, Sun and Tang, 2013); a pixel's label is the mean of what all windows around it say of its
//! colour. The functions are found on a picture some times coarser, and interpolated ("Fast guided filter", He and Sun, arXiv
//! 1505.00996). What the windows' means alone would make of a label, were there no colours, is taken away again, and the label
//! itself put in its place: so where the picture has no edge, a label stays what bilinear upsampling makes of it.
//!
//! Each object is filtered in a region around its labels, as far as windows reach; beyond it is background. The background's label is what the
//! objects leave of 1.

mod guide;

use std::ops::Range;

use guide::{Area, Guide, Windows};

use super::upsample::nearest;
use crate::types::mask::MaskBuilder;
use crate::types::{InputTensor, LabelField, Mask, PatchGrid};

/// How labels are refined.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RefineRule {
    /// Half the side of a window, in patches, above 0.
    pub radius: f32,
    /// How much of the picture's variance an edge must have to count, above 0.
    pub epsilon: f32,
}

/// A label below this does not widen an object's region.
const LEAST_LABEL: f32 = 0.02;
/// Cells of the coarse picture along a patch, or as near to it as whole pixels go.
const CELLS_A_PATCH: usize = 4;

/// Refines the labels of one frame after the other; keeps its buffers.
#[derive(Default)]
pub struct Refiner {
    guide: Guide,
    windows: Windows,
    /// Of each pixel of the input, (height, width): the largest label so far, whose it is, and the sum of all.
    best: Vec<f32>,
    owner: Vec<u32>,
    sum: Vec<f32>,
    /// The coefficients of two rows of cells, at each column of pixels: (4, columns) each, and which rows they are.
    stretched: [(Option<usize>, Vec<f32>); 2],
}

impl Refiner {
    /// One mask for each instance of `field`, in their order, in `width` x `height` pixels. `picture` is what the backbone saw.
    ///
    /// # Panics
    /// When the picture is not of the size of the grid's input.
    pub fn masks(
        &mut self,
        field: &LabelField,
        picture: &InputTensor,
        [width, height]: [usize; 2],
        rule: RefineRule,
    ) -> Vec<Mask> {
        let PatchGrid { patch, .. } = field.grid;
        assert_eq!((picture.width, picture.height), (field.grid.input_width(), field.grid.input_height()));
        let cell = (patch / CELLS_A_PATCH).max(1);
        let radius = ((rule.radius * patch as f32 / cell as f32).round() as usize).max(1);
        let size = [picture.width, picture.height];
        let coarse = size.map(|side| side.div_ceil(cell));
        // Beyond a window's reach of labels nothing is fitted; what averages carry farther stays below the background.
        let regions: Vec<Option<Area>> = (1..=field.instances)
            .map(|k| labelled(field, k).map(|patches| region(patches, patch, cell, radius).within(coarse)))
            .collect();
        let painted = || regions.iter().flatten().map(|region| region.pixels(cell, size));
        if let Some(all) = regions.iter().flatten().copied().reduce(Area::around) {
            // Windows of a region's cells are whole, whatever else there is.
            self.guide.look(picture, cell, all.grown(radius).within(coarse), radius, rule.epsilon);
            self.best.resize(size[0] * size[1], 0.0);
            self.sum.resize(size[0] * size[1], 0.0);
            self.owner.resize(size[0] * size[1], 0);
            painted().for_each(|area| self.clear(size[0], area));
            for (k, region) in (1..).zip(&regions) {
                if let Some(region) = region {
                    self.windows.fit(&mut self.guide, field, k, *region);
                    self.paint(picture, cell, *region, k as u32);
                }
            }
            painted().for_each(|area| self.decide(size[0], area));
        }
        let mask = |(k, region): (u32, &Option<Area>)| match region {
            Some(region) => self.mask(picture, region.pixels(cell, size), k, width, height),
            None => Mask::empty(width, height),
        };
        (1..).zip(&regions).map(mask).collect()
    }

    fn clear(&mut self, width: usize, area: Area) {
        for y in area.rows() {
            let line = y * width + area.from[0]..y * width + area.to[0];
            self.best[line.clone()].fill(f32::NEG_INFINITY);
            self.sum[line.clone()].fill(0.0);
            self.owner[line].fill(0);
        }
    }

    /// Lets instance `k` compete for the pixels of its region.
    fn paint(&mut self, picture: &InputTensor, cell: usize, region: Area, k: u32) {
        let (width, height) = (picture.width, picture.height);
        let pixels = region.pixels(cell, [width, height]);
        let columns: Vec<_> = pixels.columns().map(|x| between(x, cell, region.columns())).collect();
        self.stretched.iter_mut().for_each(|(row, _)| *row = None);
        let n = columns.len();
        for y in pixels.rows() {
            let (above, below, down) = between(y, cell, region.rows());
            for row in [above, below] {
                let (held, stretched) = &mut self.stretched[row % 2];
                if *held != Some(row) {
                    *held = Some(row);
                    stretch(&self.windows.coefficients, region, row, &columns, stretched);
                }
            }
            let [above, below] = [above, below].map(|row| &self.stretched[row % 2].1[..4 * n]);
            let line = y * width + pixels.from[0]..y * width + pixels.to[0];
            let colours = [0, 1, 2].map(|c| &picture.data[c * height * width..][line.clone()][..n]);
            let (sums, best) = (&mut self.sum[line.clone()][..n], &mut self.best[line.clone()][..n]);
            let owners = &mut self.owner[line][..n];
            for x in 0..n {
                let at = |c: usize| above[c * n + x] + (below[c * n + x] - above[c * n + x]) * down;
                let label = at(0) * colours[0][x] + at(1) * colours[1][x] + at(2) * colours[2][x] + at(3);
                sums[x] += label;
                owners[x] = if label > best[x] { k } else { owners[x] };
                best[x] = if label > best[x] { label } else { best[x] };
            }
        }
    }

    /// Gives the background what no object has more of.
    fn decide(&mut self, width: usize, area: Area) {
        for y in area.rows() {
            for at in y * width + area.from[0]..y * width + area.to[0] {
                if self.best[at] <= 1.0 - self.sum[at] {
                    self.owner[at] = 0;
                }
            }
        }
    }

    fn mask(&self, picture: &InputTensor, pixels: Area, k: u32, width: usize, height: usize) -> Mask {
        let mut builder = MaskBuilder::new(width, height);
        let rows: Vec<usize> = (0..height).map(|y| nearest(y, height, picture.height)).collect();
        let (first, end) = (rows.partition_point(|y| *y < pixels.from[1]), rows.partition_point(|y| *y < pixels.to[1]));
        for x in 0..width {
            let column = nearest(x, width, picture.width);
            if !pixels.columns().contains(&column) {
                continue;
            }
            let mut since = None;
            for (y, row) in (first..end).zip(&rows[first..end]) {
                let inside = self.owner[row * picture.width + column] == k;
                match since {
                    None if inside => since = Some(y),
                    Some(start) if !inside => {
                        builder.run(x, start, y);
                        since = None;
                    }
                    _ => {}
                }
            }
            if let Some(start) = since {
                builder.run(x, start, end);
            }
        }
        builder.finish()
    }
}

/// A row of cells' coefficients at columns of pixels: (4, columns).
fn stretch(coefficients: &[f32], region: Area, row: usize, columns: &[(usize, usize, f32)], out: &mut Vec<f32>) {
    out.clear();
    for plane in coefficients.chunks_exact(region.len()) {
        let cells = &plane[row * region.width()..][..region.width()];
        out.extend(columns.iter().map(|(left, right, along)| cells[*left] + (cells[*right] - cells[*left]) * along));
    }
}

/// The patches around those where an instance has a label to speak of.
fn labelled(field: &LabelField, plane: usize) -> Option<Area> {
    let cols = field.grid.cols;
    let planes = field.instances + 1;
    let of_plane = field.data.iter().skip(plane).step_by(planes).enumerate();
    let patches = of_plane.filter(|(_, label)| **label > LEAST_LABEL);
    patches.map(|(at, _)| Area::one(at % cols, at / cols)).reduce(Area::around)
}

/// The cells that patches may have a say in: as far as bilinear interpolation carries their labels, and windows those.
fn region(patches: Area, patch: usize, cell: usize, reach: usize) -> Area {
    Area {
        from: patches.from.map(|i| (i.saturating_sub(1) * patch / cell).saturating_sub(reach)),
        to: patches.to.map(|i| ((i + 1) * patch).div_ceil(cell) + reach),
    }
}

/// The two of some cells, counted from the first, between whose middles a pixel lies, and how near it is to the second.
fn between(pixel: usize, cell: usize, cells: Range<usize>) -> (usize, usize, f32) {
    let position = (pixel as f32 + 0.5) / cell as f32 - 0.5 - cells.start as f32;
    let position = position.clamp(0.0, (cells.len() - 1) as f32);
    let low = position as usize;
    (low, (low + 1).min(cells.len() - 1), position - low as f32)
}

#[cfg(test)]
mod tests;
