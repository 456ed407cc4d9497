//! The picture made coarse, and the windows in which labels are functions of its colours.

use std::ops::Range;

use crate::types::{InputTensor, LabelField};

/// A rectangle of patches, cells or pixels, the first inside and the first behind it: x, y.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Area {
    pub from: [usize; 2],
    pub to: [usize; 2],
}

impl Area {
    pub fn one(x: usize, y: usize) -> Area {
        Area { from: [x, y], to: [x + 1, y + 1] }
    }

    /// The smallest that holds both.
    pub fn around(self, other: Area) -> Area {
        Area { from: [0, 1].map(|i| self.from[i].min(other.from[i])), to: [0, 1].map(|i| self.to[i].max(other.to[i])) }
    }

    /// So much wider on each side, but not beyond the first row and column.
    pub fn grown(self, by: usize) -> Area {
        Area { from: self.from.map(|i| i.saturating_sub(by)), to: self.to.map(|i| i + by) }
    }

    /// Cut to a picture of this size.
    pub fn within(self, size: [usize; 2]) -> Area {
        Area { from: self.from, to: [0, 1].map(|i| self.to[i].min(size[i])) }
    }

    pub fn columns(self) -> Range<usize> {
        self.from[0]..self.to[0]
    }

    pub fn rows(self) -> Range<usize> {
        self.from[1]..self.to[1]
    }

    pub fn width(self) -> usize {
        self.columns().len()
    }

    pub fn height(self) -> usize {
        self.rows().len()
    }

    pub fn len(self) -> usize {
        self.width() * self.height()
    }

    /// The pixels of cells of this side, in a picture of this size.
    pub fn pixels(self, cell: usize, size: [usize; 2]) -> Area {
        Area { from: self.from.map(|i| i * cell), to: self.to.map(|i| i * cell) }.within(size)
    }
}

/// What windows know of the picture alone. Planes are of `area`, row by row.
#[derive(Default)]
pub struct Guide {
    /// Pixels along a cell, and cells from a window's middle to its side.
    cell: usize,
    radius: usize,
    area: Option<Area>,
    /// Colours without the picture's mean, in its deviations: (3, cells)
    colours: Vec<f32>,
    /// The means of the picture's channels, and 1 by their deviations.
    mean: [f32; 3],
    scale: [f32; 3],
    /// Their means in each window: (3, cells)
    means: Vec<f32>,
    /// The inverse of their covariance and epsilon: (6, cells), the upper triangle row by row.
    inverse: Vec<f32>,
    boxes: Boxes,
}

/// The entries of a symmetric matrix of three by three.
const TRIANGLE: [(usize, usize); 6] = [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)];
/// A channel that deviates by less, in the units of the backbone's input, counts as flat: about a level of a camera's 256.
const FLAT: f32 = 0.02;

impl Guide {
    /// Takes in the cells of `area`; windows end where it does.
    pub fn look(&mut self, picture: &InputTensor, cell: usize, area: Area, radius: usize, epsilon: f32) {
        (self.cell, self.radius, self.area) = (cell, radius, Some(area));
        let cells = area.len();
        let pixels = picture.width * picture.height;
        self.colours.resize(3 * cells, 0.0);
        self.means.resize(3 * cells, 0.0);
        self.inverse.resize(6 * cells, 0.0);
        self.boxes.fit(area, radius);
        for (c, colours) in self.colours.chunks_exact_mut(cells).enumerate() {
            let plane = &picture.data[c * pixels..][..pixels];
            let (mean, deviation) = spread(plane, picture.width, cell);
            (self.mean[c], self.scale[c]) = (mean, 1.0 / deviation.max(FLAT));
            let pixels = area.pixels(cell, [picture.width, picture.height]).columns();
            for (y, out) in area.rows().zip(colours.chunks_exact_mut(area.width())) {
                out.fill(0.0);
                let lines = y * cell..((y + 1) * cell).min(picture.height);
                for line in lines.clone() {
                    let line = &plane[line * picture.width..][pixels.clone()];
                    out.iter_mut().zip(line.chunks(cell)).for_each(|(out, part)| *out += part.iter().sum::<f32>());
                }
                for (x, out) in area.columns().zip(out) {
                    let columns = cell.min(picture.width - x * cell);
                    *out = (*out / (lines.len() * columns) as f32 - mean) * self.scale[c];
                }
            }
        }
        for (colours, means) in self.colours.chunks_exact(cells).zip(self.means.chunks_exact_mut(cells)) {
            self.boxes.means(colours.iter().copied(), area, means);
        }
        for (at, (i, j)) in TRIANGLE.into_iter().enumerate() {
            let [a, b] = [i, j].map(|c| &self.colours[c * cells..][..cells]);
            let covariance = &mut self.inverse[at * cells..][..cells];
            self.boxes.means(a.iter().zip(b).map(|(a, b)| a * b), area, covariance);
            let [a, b] = [i, j].map(|c| &self.means[c * cells..][..cells]);
            covariance.iter_mut().zip(a.iter().zip(b)).for_each(|(v, (a, b))| *v -= a * b);
        }
        for cell in 0..cells {
            let entry = |at: usize| self.inverse[at * cells + cell];
            let inverse = inverse([0, 1, 2, 3, 4, 5].map(entry), epsilon);
            inverse.into_iter().enumerate().for_each(|(at, v)| self.inverse[at * cells + cell] = v);
        }
    }
}

/// The mean and the standard deviation of a plane, from one pixel of each cell.
fn spread(plane: &[f32], width: usize, cell: usize) -> (f32, f32) {
    let samples = || plane.chunks_exact(width).step_by(cell).flat_map(|line| line.iter().step_by(cell));
    let (count, sum) = samples().fold((0.0f64, 0.0f64), |(n, sum), v| (n + 1.0, sum + f64::from(*v)));
    let mean = sum / count.max(1.0);
    let squares: f64 = samples().map(|v| (f64::from(*v) - mean).powi(2)).sum();
    (mean as f32, (squares / count.max(1.0)).sqrt() as f32)
}

/// The inverse of a covariance with `epsilon` on its diagonal, by cofactors; in double precision, since the channels of a
/// picture without colours are one and the same, and nearly cancel out.
fn inverse(covariance: [f32; 6], epsilon: f32) -> [f32; 6] {
    let epsilon = f64::from(epsilon);
    let [a, b, c, d, e, f] = covariance.map(f64::from);
    // Rounding may leave a flat window a variance below 0, and one of few colours a determinant below its least.
    let [a, d, f] = [a, d, f].map(|v| v.max(0.0) + epsilon);
    let cofactors = [d * f - e * e, c * e - b * f, b * e - c * d, a * f - c * c, b * c - a * e, a * d - b * b];
    let determinant = a * cofactors[0] + b * cofactors[1] + c * cofactors[2];
    let by = 1.0 / determinant.max(epsilon.powi(3));
    cofactors.map(|v| (v * by) as f32)
}

/// The functions that fit one object's labels.
#[derive(Default)]
pub struct Windows {
    /// Of each cell of the region: what red, green and blue of the backbone's input are multiplied with, and what is added;
    /// means over the windows around it: (4, cells)
    pub coefficients: Vec<f32>,
    labels: Vec<f32>,
    /// Means of means of labels.
    smooth: Vec<f32>,
    fitted: Vec<f32>,
}

impl Windows {
    /// Fits instance `plane` of `field` in `region`, which lies in what the guide has looked at. Beyond it are no labels.
    pub fn fit(&mut self, guide: &mut Guide, field: &LabelField, plane: usize, region: Area) {
        let area = guide.area.expect("the guide has looked at a picture");
        let (all, cells) = (area.len(), region.len());
        self.labels.resize(cells, 0.0);
        self.coefficients.resize(4 * cells, 0.0);
        self.fitted.resize(4 * cells, 0.0);
        interpolate(field, plane, guide.cell, region, &mut self.labels);
        // (red, green, blue, nothing): means of labels times colours, then of labels
        for c in 0..3 {
            let colours = of_region(&guide.colours[c * all..][..all], area, region);
            let products = self.labels.iter().zip(colours).map(|(label, colour)| label * colour);
            guide.boxes.means(products, region, &mut self.fitted[c * cells..][..cells]);
        }
        guide.boxes.means(self.labels.iter().copied(), region, &mut self.fitted[3 * cells..]);
        self.smooth.resize(cells, 0.0);
        guide.boxes.means(self.fitted[3 * cells..].iter().copied(), region, &mut self.smooth);
        for (at, inside) in indices(area, region).enumerate() {
            let label = self.fitted[3 * cells + at];
            let means = [0, 1, 2].map(|c| guide.means[c * all + inside]);
            let covariance = [0, 1, 2].map(|c| self.fitted[c * cells + at] - means[c] * label);
            let m = [0, 1, 2, 3, 4, 5].map(|i| guide.inverse[i * all + inside]);
            let [x, y, z] = covariance;
            let slopes =
                [m[0] * x + m[1] * y + m[2] * z, m[1] * x + m[3] * y + m[4] * z, m[2] * x + m[4] * y + m[5] * z];
            // From colours in deviations to those of the backbone's input.
            let mut offset = label;
            for c in 0..3 {
                let slope = slopes[c] * guide.scale[c];
                offset -= slopes[c] * means[c] + slope * guide.mean[c];
                self.fitted[c * cells + at] = slope;
            }
            self.fitted[3 * cells + at] = offset;
        }
        for (fitted, means) in self.fitted.chunks_exact(cells).zip(self.coefficients.chunks_exact_mut(cells)) {
            guide.boxes.means(fitted.iter().copied(), region, means);
        }
        let offsets = self.coefficients[3 * cells..].iter_mut();
        for (offset, (label, smooth)) in offsets.zip(self.labels.iter().zip(&self.smooth)) {
            *offset += label - smooth;
        }
    }
}

/// Where the cells of a region lie in the area around it.
fn indices(area: Area, region: Area) -> impl Iterator<Item = usize> {
    let (left, width) = (region.from[0] - area.from[0], area.width());
    region.rows().flat_map(move |y| {
        let row = (y - area.from[1]) * width + left;
        row..row + region.width()
    })
}

fn of_region(plane: &[f32], area: Area, region: Area) -> impl Iterator<Item = f32> {
    indices(area, region).map(|at| plane[at])
}

/// An instance's labels at the middles of cells, bilinear between those of patches.
fn interpolate(field: &LabelField, plane: usize, cell: usize, region: Area, out: &mut [f32]) {
    let grid = field.grid;
    let place = |at: usize, patches: usize| {
        let position = (at as f32 + 0.5) * cell as f32 / grid.patch as f32 - 0.5;
        let position = position.clamp(0.0, (patches - 1) as f32);
        let low = position as usize;
        (low, (low + 1).min(patches - 1), position - low as f32)
    };
    let columns: Vec<(usize, usize, f32)> = region.columns().map(|x| place(x, grid.cols)).collect();
    for (y, out) in region.rows().zip(out.chunks_exact_mut(region.width())) {
        let (above, below, down) = place(y, grid.rows);
        let label = |row: usize, col: usize| field.row(row * grid.cols + col)[plane];
        for ((left, right, along), out) in columns.iter().zip(out) {
            let row = |row: usize| label(row, *left) * (1.0 - along) + label(row, *right) * along;
            *out = row(above) * (1.0 - down) + row(below) * down;
        }
    }
}

/// Means over square windows, whose cells beyond the guide's area do not count.
#[derive(Default)]
struct Boxes {
    area: Option<Area>,
    radius: usize,
    /// 1 by the cells of a window of each column, and of each row.
    across: Vec<f32>,
    down: Vec<f32>,
    /// Sums along rows.
    rows: Vec<f32>,
    /// Those of a window's rows, for each column.
    sum: Vec<f64>,
    values: Vec<f32>,
}

impl Boxes {
    fn fit(&mut self, area: Area, radius: usize) {
        let counts = |cells: usize| {
            let count = move |at: usize| (at + radius + 1).min(cells) - at.saturating_sub(radius);
            (0..cells).map(move |at| 1.0 / count(at) as f32)
        };
        (self.area, self.radius) = (Some(area), radius);
        self.across = counts(area.width()).collect();
        self.down = counts(area.height()).collect();
    }

    /// The means around each cell of `region`, row by row; what lies in the area but not in the region is 0.
    fn means(&mut self, values: impl Iterator<Item = f32>, region: Area, out: &mut [f32]) {
        let area = self.area.expect("boxes are fitted to an area");
        let (width, radius) = (region.width(), self.radius);
        let [left, top] = [0, 1].map(|i| region.from[i] - area.from[i]);
        self.values.clear();
        self.values.extend(values);
        self.rows.resize(self.values.len(), 0.0);
        let across = &self.across[left..left + width];
        for (values, sums) in self.values.chunks_exact(width).zip(self.rows.chunks_exact_mut(width)) {
            // In double precision, or what a bright spot leaves behind by rounding would drown what is dark beside it.
            let mut sum: f64 = values[..radius.min(width)].iter().map(|v| f64::from(*v)).sum();
            for (x, (out, by)) in sums.iter_mut().zip(across).enumerate() {
                sum += values.get(x + radius).map_or(0.0, |v| f64::from(*v));
                *out = sum as f32 * by;
                sum -= if x >= radius { f64::from(values[x - radius]) } else { 0.0 };
            }
        }
        let height = region.height();
        let line = |y: usize| y * width..(y + 1) * width;
        self.sum.clear();
        self.sum.resize(width, 0.0);
        let sum = &mut self.sum;
        for y in 0..radius.min(height) {
            add(sum, &self.rows[line(y)], 1.0);
        }
        for y in 0..height {
            if y + radius < height {
                add(sum, &self.rows[line(y + radius)], 1.0);
            }
            let by = self.down[top + y];
            out[line(y)].iter_mut().zip(&*sum).for_each(|(out, sum)| *out = *sum as f32 * by);
            if y >= radius {
                add(sum, &self.rows[line(y - radius)], -1.0);
            }
        }
    }
}

fn add(sums: &mut [f64], values: &[f32], times: f64) {
    sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += times * f64::from(*value));
}
