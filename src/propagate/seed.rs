//! From what a user points at to labels of patches: how much of each patch is the object.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::SeedRule;
use super::upsample::nearest;
use crate::types::{Features, Mask, PatchGrid, Seed};

/// A seed must cover at least this fraction of one patch: what is smaller drowns in its surroundings.
pub const LEAST_FRACTION: f32 = 0.05;

/// Why a seed gives no object.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SeedError {
    #[error(
        "the mask has {mask_width}x{mask_height} pixels, but the frame {frame_width}x{frame_height}: they must agree"
    )]
    Size { mask_width: usize, mask_height: usize, frame_width: usize, frame_height: usize },
    #[error("the box {0:?} must be x, y, width, height in pixels, with a width and height above 0")]
    Box([f32; 4]),
    #[error("the seed lies outside the frame of {frame_width}x{frame_height} pixels")]
    Outside { frame_width: usize, frame_height: usize },
    #[error(
        "the seed is too small: it marks less than {least}% of every patch of {patch_width:.1}x{patch_height:.1} \
         pixels; point at something larger, or use a model with a finer grid",
        least = LEAST_FRACTION * 100.0
    )]
    Empty { patch_width: f32, patch_height: f32 },
}

/// The fraction of each patch that is the object, (rows * cols), in [0, 1]; at least one of them is
/// [`LEAST_FRACTION`] or more. The frame, or the part of it that is looked at, was resized to the grid of `features`, its sides
/// independently.
///
/// A point needs the frame's `features`; masks and boxes only their grid.
///
/// # Errors
/// When the seed is malformed, has another size than the frame, lies outside it, or outside of what is looked at, or marks next to
/// nothing.
pub fn seed(
    seed: &Seed,
    frame_width: usize,
    frame_height: usize,
    features: &Features,
    rule: SeedRule,
) -> Result<Vec<f32>, SeedError> {
    let grid = features.grid;
    if let Seed::Mask(mask) = seed
        && (mask.width, mask.height) != (frame_width, frame_height)
    {
        let (mask_width, mask_height) = (mask.width, mask.height);
        return Err(SeedError::Size { mask_width, mask_height, frame_width, frame_height });
    }
    let part @ [_, _, width, height] = features.view.pixels(frame_width, frame_height);
    let seed = seed.within(part);
    let fractions = match &seed {
        Seed::Mask(mask) => seed_mask(mask, grid, rule),
        Seed::Box(bounds) => seed_box(*bounds, width, height, grid, rule)?,
        Seed::Point(point) => seed_point(*point, width, height, features)?,
    };
    if fractions.iter().all(|fraction| *fraction < LEAST_FRACTION) {
        let [_, _, patch_width, patch_height] = grid.patch_area(0, 0, width, height);
        return Err(SeedError::Empty { patch_width, patch_height });
    }
    Ok(fractions)
}

/// The fraction of each patch that a mask of the whole frame covers, (rows * cols).
///
/// [`SeedRule::Nearest`] is 0 or 1: the mask's pixel at `floor(i * width / cols)`, as OpenCV's `INTER_NEAREST`
/// picks it. [`SeedRule::Area`] is the exact fraction of the area, pixels that straddle two patches shared out,
/// as `INTER_AREA`.
pub fn seed_mask(mask: &Mask, grid: PatchGrid, rule: SeedRule) -> Vec<f32> {
    if mask.width == 0 || mask.height == 0 || grid.is_empty() {
        return vec![0.0; grid.len()];
    }
    match rule {
        SeedRule::Nearest => {
            let pixels = mask.to_pixels();
            let covered = |row: usize, col: usize| {
                let (x, y) = (nearest(col, grid.cols, mask.width), nearest(row, grid.rows, mask.height));
                pixels[y * mask.width + x]
            };
            each_patch(grid, |row, col| f32::from(covered(row, col)))
        }
        SeedRule::Area => {
            let mut areas = Areas::new(grid, mask.width, mask.height);
            for (x, y0, y1) in mask.spans() {
                areas.add(x as f64, y0 as f64, (x + 1) as f64, y1 as f64);
            }
            areas.fractions()
        }
    }
}

/// The fraction of each patch that lies inside a box (x, y, width, height in pixels), (rows * cols). What lies
/// outside the frame is cut off.
///
/// [`SeedRule::Area`]: a patch at the edge counts by the fraction of its area that is inside.
/// [`SeedRule::Nearest`]: a patch counts in full if its centre is inside (on the left and upper edge too), else
/// not at all; if no centre is, the patch under the box's own centre counts.
///
/// # Errors
/// When the box has no area, is not finite, or lies outside the frame.
pub fn seed_box(
    bounds: [f32; 4],
    frame_width: usize,
    frame_height: usize,
    grid: PatchGrid,
    rule: SeedRule,
) -> Result<Vec<f32>, SeedError> {
    let [x, y, width, height] = bounds;
    if bounds.iter().any(|v| !v.is_finite()) || width <= 0.0 || height <= 0.0 {
        return Err(SeedError::Box(bounds));
    }
    let clip = |from: f32, length: f32, size: usize| {
        let size = size as f64;
        (f64::from(from).clamp(0.0, size), (f64::from(from) + f64::from(length)).clamp(0.0, size))
    };
    let ((x0, x1), (y0, y1)) = (clip(x, width, frame_width), clip(y, height, frame_height));
    if x1 <= x0 || y1 <= y0 {
        return Err(SeedError::Outside { frame_width, frame_height });
    }
    if rule == SeedRule::Area {
        let mut areas = Areas::new(grid, frame_width, frame_height);
        areas.add(x0, y0, x1, y1);
        return Ok(areas.fractions());
    }
    let mut fractions = each_patch(grid, |row, col| {
        let centre = |cell: usize, size: usize, cells: usize| (cell as f64 + 0.5) * size as f64 / cells as f64;
        let (cx, cy) = (centre(col, frame_width, grid.cols), centre(row, frame_height, grid.rows));
        f32::from((x0..x1).contains(&cx) && (y0..y1).contains(&cy))
    });
    if fractions.iter().all(|fraction| *fraction == 0.0) {
        let (middle_x, middle_y) = ((x0 + x1) / 2.0, (y0 + y1) / 2.0);
        let (row, col) = grid.patch_at(middle_x as f32, middle_y as f32, frame_width, frame_height);
        fractions[row * grid.cols + col] = 1.0;
    }
    Ok(fractions)
}

/// The object at a point (x, y in pixels), (rows * cols), each patch 0 or 1: the patch under the point, and what
/// grows from it over patches that touch by a side.
///
/// First grow those that are like the patch itself: whose cosine to it is above the picture's median by
/// `LIKENESS` of the way to 1. Then, `ROUNDS` times over, those that are more like the mean of what has grown
/// than like the mean of everything else, by `CONTRAST` of the difference that what has grown has on average.
/// Both thresholds follow the picture, since the scale of cosines differs from model to model. The most alike
/// grow first, and growth ends at `LARGEST` of the grid.
///
/// # Errors
/// When the point is not in the frame.
pub fn seed_point(
    point: [f32; 2],
    frame_width: usize,
    frame_height: usize,
    features: &Features,
) -> Result<Vec<f32>, SeedError> {
    let [x, y] = point;
    if !(x >= 0.0 && y >= 0.0 && x < frame_width as f32 && y < frame_height as f32) {
        return Err(SeedError::Outside { frame_width, frame_height });
    }
    let grid = features.grid;
    let (row, col) = grid.patch_at(x, y, frame_width, frame_height);
    let start = row * grid.cols + col;
    let likeness = likeness(features, features.row(start));
    let mut sorted = likeness.clone();
    let median = *sorted.select_nth_unstable_by(grid.len() / 2, f32::total_cmp).1;
    let mut grown = grow(grid, start, &likeness, median + LIKENESS * (1.0 - median));
    for _ in 0..ROUNDS {
        let inside = self::likeness(features, &mean(features, &grown, true));
        let outside = self::likeness(features, &mean(features, &grown, false));
        let contrast: Vec<f32> = inside.iter().zip(outside).map(|(inside, outside)| inside - outside).collect();
        let members = grown.iter().filter(|grown| **grown).count();
        let total: f32 = contrast.iter().zip(&grown).filter(|(_, grown)| **grown).map(|(contrast, _)| contrast).sum();
        if total <= 0.0 {
            // What has grown is no more like itself than like the rest: there is nothing to go by.
            break;
        }
        grown = grow(grid, start, &contrast, CONTRAST * total / members as f32);
    }
    Ok(grown.into_iter().map(f32::from).collect())
}

// The constants of `seed_point` were chosen on the first and middle frames of the 16 DAVIS sequences at hand,
// ViT-Tiny, from three points on each object: mean IoU of grown patches and object 0.60, against 0.53 to 0.55 for
// growth by one fixed or adaptive threshold on the cosine to the mean.

/// Of the way from the median cosine to 1.
const LIKENESS: f32 = 0.4;
/// Of the mean contrast of what has grown.
const CONTRAST: f32 = 0.5;
/// How often the means are taken anew.
const ROUNDS: usize = 4;
/// Of the grid.
const LARGEST: f32 = 0.25;

/// Cosine of every patch to `model`, a unit vector or zeros: (rows * cols).
fn likeness(features: &Features, model: &[f32]) -> Vec<f32> {
    (0..features.grid.len()).map(|patch| features.row(patch).iter().zip(model).map(|(a, b)| a * b).sum()).collect()
}

/// The mean of the patches for which `grown` is `value`, at unit length; zeros if there are none.
fn mean(features: &Features, grown: &[bool], value: bool) -> Vec<f32> {
    let mut sum = vec![0.0; features.dim];
    for (patch, _) in grown.iter().enumerate().filter(|(_, grown)| **grown == value) {
        sum.iter_mut().zip(features.row(patch)).for_each(|(sum, v)| *sum += v);
    }
    let norm = sum.iter().map(|v| v * v).sum::<f32>().sqrt();
    if norm > 0.0 {
        sum.iter_mut().for_each(|v| *v /= norm);
    }
    sum
}

/// Grows from `start` over side by side patches whose value is at least `threshold`, the largest first.
fn grow(grid: PatchGrid, start: usize, values: &[f32], threshold: f32) -> Vec<bool> {
    let mut grown = vec![false; grid.len()];
    let mut seen = vec![false; grid.len()];
    let mut edge = BinaryHeap::from([Growth { value: f32::INFINITY, patch: start }]);
    let mut room = ((grid.len() as f32 * LARGEST) as usize).max(1);
    seen[start] = true;
    while let Some(Growth { value, patch }) = edge.pop() {
        if value < threshold || value.is_nan() || room == 0 {
            break;
        }
        grown[patch] = true;
        room -= 1;
        let (row, col) = (patch / grid.cols, patch % grid.cols);
        let sides = [
            (row > 0).then(|| patch - grid.cols),
            (col > 0).then(|| patch - 1),
            (col + 1 < grid.cols).then_some(patch + 1),
            (row + 1 < grid.rows).then_some(patch + grid.cols),
        ];
        for side in sides.into_iter().flatten() {
            if !std::mem::replace(&mut seen[side], true) {
                edge.push(Growth { value: values[side], patch: side });
            }
        }
    }
    grown
}

/// A patch that may grow next: the most alike first, and of equals the first in the grid.
struct Growth {
    value: f32,
    patch: usize,
}

impl Ord for Growth {
    fn cmp(&self, other: &Growth) -> Ordering {
        self.value.total_cmp(&other.value).then(other.patch.cmp(&self.patch))
    }
}

impl PartialOrd for Growth {
    fn partial_cmp(&self, other: &Growth) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Growth {
    fn eq(&self, other: &Growth) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Growth {}

fn each_patch(grid: PatchGrid, value: impl Fn(usize, usize) -> f32) -> Vec<f32> {
    (0..grid.len()).map(|patch| value(patch / grid.cols, patch % grid.cols)).collect()
}

/// Adds up areas of the frame by patch.
struct Areas {
    grid: PatchGrid,
    /// A patch's sides in pixels of the frame.
    patch: [f64; 2],
    /// (rows * cols), square pixels
    areas: Vec<f64>,
}

impl Areas {
    fn new(grid: PatchGrid, width: usize, height: usize) -> Areas {
        let patch = [width as f64 / grid.cols as f64, height as f64 / grid.rows as f64];
        Areas { grid, patch, areas: vec![0.0; grid.len()] }
    }

    /// Adds the rectangle between two corners, which lies inside the frame.
    fn add(&mut self, x0: f64, y0: f64, x1: f64, y1: f64) {
        let cells = |from: f64, to: f64, side: f64, cells: usize| {
            (from / side) as usize..((to / side).ceil() as usize).min(cells)
        };
        let length = |from: f64, to: f64, side: f64, cell: usize| {
            (to.min((cell + 1) as f64 * side) - from.max(cell as f64 * side)).max(0.0)
        };
        let [width, height] = self.patch;
        for col in cells(x0, x1, width, self.grid.cols) {
            let across = length(x0, x1, width, col);
            for row in cells(y0, y1, height, self.grid.rows) {
                self.areas[row * self.grid.cols + col] += across * length(y0, y1, height, row);
            }
        }
    }

    fn fractions(self) -> Vec<f32> {
        let patch = self.patch[0] * self.patch[1];
        self.areas.into_iter().map(|area| ((area / patch) as f32).clamp(0.0, 1.0)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GRID: PatchGrid = PatchGrid { rows: 3, cols: 4, patch: 16 };

    fn near(a: &[f32], b: &[f32]) -> bool {
        a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5)
    }

    /// Area fractions of `inside` by counting the centres of a grid of `fine` x `fine` points in each patch.
    fn sampled(
        grid: PatchGrid,
        width: usize,
        height: usize,
        fine: usize,
        inside: impl Fn(f64, f64) -> bool,
    ) -> Vec<f32> {
        each_patch(grid, |row, col| {
            let place = |cell: usize, i: usize, size: usize, cells: usize| {
                (cell as f64 + (i as f64 + 0.5) / fine as f64) * size as f64 / cells as f64
            };
            let hits = (0..fine * fine)
                .filter(|i| inside(place(col, i % fine, width, grid.cols), place(row, i / fine, height, grid.rows)))
                .count();
            hits as f32 / (fine * fine) as f32
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]
        #[test]
        fn areas_are_those_of_a_fine_sampling(
            rows in 1usize..6, cols in 1usize..6, width in 1usize..24, height in 1usize..24,
            bits in prop::collection::vec(any::<bool>(), 24 * 24),
        ) {
            let grid = PatchGrid { rows, cols, patch: 8 };
            let mask = Mask::from_fn(width, height, |x, y| bits[y * 24 + x]);
            // As many samples a patch as pixels a frame: no sample lies on a pixel's edge, and each pixel's share
            // of a patch is a whole number of them, so the sampling is exact.
            let fine = |v: usize, cells: usize| if v.is_multiple_of(cells) { v / cells } else { v };
            let (fine_x, fine_y) = (fine(width, cols), fine(height, rows));
            let expected = sampled(grid, width, height, fine_x * fine_y, |x, y| bits[y as usize * 24 + x as usize]);
            prop_assert!(near(&seed_mask(&mask, grid, SeedRule::Area), &expected));
        }

        #[test]
        fn no_seed_makes_it_panic(
            bounds: [f32; 4], point: [f32; 2], width in 1usize..40, height in 1usize..40, near_by: bool,
        ) {
            let tame = |v: f32| if near_by && v.is_finite() { v % 50.0 } else { v };
            let features = Features::zeros(GRID, 2);
            for rule in [SeedRule::Nearest, SeedRule::Area] {
                for given in [Seed::Box(bounds.map(tame)), Seed::Point(point.map(tame))] {
                    if let Ok(fractions) = seed(&given, width, height, &features, rule) {
                        prop_assert!(fractions.iter().all(|fraction| (0.0..=1.0).contains(fraction)));
                        prop_assert!(fractions.iter().any(|fraction| *fraction >= LEAST_FRACTION));
                    }
                }
            }
        }
    }

    #[test]
    fn nearest_takes_the_pixels_that_opencv_takes() {
        // cv2.resize(arange(854), (53, 1), interpolation=INTER_NEAREST), its first and last values.
        let chosen: Vec<usize> = (0..53).map(|i| nearest(i, 53, 854)).collect();
        assert_eq!(chosen[..6], [0, 16, 32, 48, 64, 80]);
        assert_eq!(chosen[49..], [789, 805, 821, 837]);
        // Where a pixel falls on the edge of two, the rounding of the ratio decides, as it does in OpenCV.
        for (index, target, source, expected) in [(17, 34, 6, 2), (47, 94, 6, 3), (49, 98, 2, 0), (49, 98, 4, 1)] {
            assert_eq!(nearest(index, target, source), expected, "{index} of {target} from {source}");
        }
        let mask = Mask::from_fn(40, 30, |x, y| x == 20 && y == 10);
        let mut expected = vec![0.0; 12];
        expected[6] = 1.0;
        assert_eq!(seed_mask(&mask, GRID, SeedRule::Nearest), expected);
    }

    #[test]
    fn a_box_counts_by_area_or_by_centres() {
        // Patches of 10x10 pixels: half of column 0, all of column 1, a tenth of column 2; rows 0 (a fifth) and 1.
        let area = seed_box([5.0, 8.0, 16.0, 12.0], 40, 30, GRID, SeedRule::Area).unwrap();
        assert!(near(&area, &[0.1, 0.2, 0.02, 0.0, 0.5, 1.0, 0.1, 0.0, 0.0, 0.0, 0.0, 0.0]), "{area:?}");
        let centres = seed_box([5.0, 8.0, 16.0, 12.0], 40, 30, GRID, SeedRule::Nearest).unwrap();
        assert_eq!(centres, [0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
        // No centre inside: the patch under the middle of what is inside the frame.
        let small = seed_box([36.0, 27.0, 99.0, 99.0], 40, 30, GRID, SeedRule::Nearest).unwrap();
        assert_eq!(small.iter().position(|f| *f == 1.0), Some(11));
        assert_eq!(small.iter().sum::<f32>(), 1.0);
    }

    #[test]
    fn bad_seeds_are_refused_with_their_reason() {
        let features = Features::zeros(GRID, 2);
        let check = |given: Seed, rule| seed(&given, 40, 30, &features, rule).unwrap_err().to_string();
        struct Case {
            seed: Seed,
            rule: SeedRule,
            says: &'static str,
        }
        let outside = "the seed lies outside the frame of 40x30 pixels";
        let cases = [
            Case {
                seed: Seed::Mask(Mask::empty(40, 31)),
                rule: SeedRule::Area,
                says: "40x31 pixels, but the frame 40x30",
            },
            Case { seed: Seed::Mask(Mask::empty(40, 30)), rule: SeedRule::Area, says: "too small" },
            Case {
                seed: Seed::Box([1.0, 1.0, 2.0, 2.0]),
                rule: SeedRule::Area,
                says: "5% of every patch of 10.0x10.0",
            },
            Case { seed: Seed::Box([1.0, 1.0, 0.0, 2.0]), rule: SeedRule::Area, says: "above 0" },
            Case { seed: Seed::Box([1.0, 1.0, 5.0, f32::NAN]), rule: SeedRule::Area, says: "above 0" },
            Case { seed: Seed::Box([40.0, 1.0, 5.0, 5.0]), rule: SeedRule::Nearest, says: outside },
            Case { seed: Seed::Point([40.0, 1.0]), rule: SeedRule::Nearest, says: outside },
            Case { seed: Seed::Point([-0.1, 1.0]), rule: SeedRule::Nearest, says: outside },
            Case { seed: Seed::Point([f32::NAN, 1.0]), rule: SeedRule::Nearest, says: outside },
        ];
        for Case { seed, rule, says } in cases {
            let message = check(seed.clone(), rule);
            assert!(message.contains(says), "{seed:?}: {message}");
        }
    }

    #[test]
    fn a_point_grows_over_its_object_and_no_further() {
        // Two squares of one look on a background of another, with a little of a third mixed in at each patch.
        let grid = PatchGrid { rows: 12, cols: 16, patch: 8 };
        let square = |row: usize, col: usize, top: usize, left: usize| {
            (top..top + 4).contains(&row) && (left..left + 5).contains(&col)
        };
        let mut features = Features::zeros(grid, 3);
        for patch in 0..grid.len() {
            let (row, col) = (patch / grid.cols, patch % grid.cols);
            let object = square(row, col, 2, 3) || square(row, col, 7, 10);
            let noise = ((patch * 7919) % 13) as f32 / 13.0 - 0.5;
            let look = if object { [1.0, 0.2, noise] } else { [0.2, 1.0, noise] };
            features.data[patch * 3..patch * 3 + 3].copy_from_slice(&look);
        }
        features.normalise();
        let grown = seed_point([44.0, 28.0], 128, 96, &features).unwrap();
        let expected = each_patch(grid, |row, col| f32::from(square(row, col, 2, 3)));
        assert_eq!(grown, expected);
    }

    #[test]
    fn growth_is_bounded_where_everything_is_alike() {
        let grid = PatchGrid { rows: 8, cols: 10, patch: 8 };
        let mut features = Features::zeros(grid, 2);
        features.data.chunks_exact_mut(2).for_each(|row| row.copy_from_slice(&[0.6, 0.8]));
        let grown = seed_point([79.0, 63.0], 80, 64, &features).unwrap();
        assert!(grown[79] == 1.0 && grown.iter().sum::<f32>() <= 20.0, "{grown:?}");
    }
}
