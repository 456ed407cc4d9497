//! What the camera did between two frames, and what did not go along with it.

use nalgebra::{Matrix3, Vector3};

use super::matching::{Match, Pictures, REACH};
use crate::types::{InputTensor, PatchGrid};

/// Rounds of the fit. The scale shrinks by three tenths in each, from 4 cells to half a cell, where it stays.
const ROUNDS: i32 = 20;

/// The motion that most patches share: an affine map of a patch's place to its shift.
pub(super) struct Camera {
    grid: PatchGrid,
    /// x and y in cells: each from (1, column, row), the latter from the middle on and as shares of the frame.
    shift: [Vector3<f64>; 2],
}

impl Camera {
    /// Fits by least squares, reweighted by Geman and McClure's function of what is left, at a scale that shrinks
    /// (Black and Anandan, *The Robust Estimation of Multiple Motions*, 1996). A patch weighs by its certainty.
    pub(super) fn fit(grid: PatchGrid, matches: &[Match]) -> Camera {
        let mut certainties: Vec<f32> = matches.iter().map(|m| m.certainty).collect();
        certainties.sort_unstable_by(f32::total_cmp);
        let median = certainties[certainties.len() / 2];
        // A half for the median patch, and less than 1 for the most certain, so that no few decide.
        let certain: Vec<f64> =
            matches.iter().map(|m| f64::from(m.certainty / (m.certainty + median + f32::MIN_POSITIVE))).collect();
        let mut camera = Camera { grid, shift: [Vector3::zeros(); 2] };
        let mut weights = certain.clone();
        for round in 0..ROUNDS {
            // As much as a patch of a plain weighs holds the system away from one that cannot be solved.
            let mut system = Matrix3::identity() * 1e-9;
            let mut sides = [Vector3::zeros(); 2];
            for (patch, (found, weight)) in matches.iter().zip(&weights).enumerate() {
                let place = camera.place(patch);
                system += place * place.transpose() * *weight;
                sides[0] += place * (weight * f64::from(found.shift[0]));
                sides[1] += place * (weight * f64::from(found.shift[1]));
            }
            let Some(inverse) = system.try_inverse() else { break };
            camera.shift = sides.map(|side| inverse * side);
            let scale = (4.0 * 0.7f64.powi(round)).max(0.5).powi(2);
            for (patch, (found, weight)) in matches.iter().zip(&mut weights).enumerate() {
                let [x, y] = camera.at(patch);
                let left = (f64::from(found.shift[0]) - x).powi(2) + (f64::from(found.shift[1]) - y).powi(2);
                *weight = certain[patch] * (scale / (scale + left)).powi(2);
            }
        }
        camera
    }

    fn place(&self, patch: usize) -> Vector3<f64> {
        let (rows, cols) = (self.grid.rows as f64, self.grid.cols as f64);
        let (row, col) = ((patch / self.grid.cols) as f64, (patch % self.grid.cols) as f64);
        Vector3::new(1.0, col / cols - 0.5, row / rows - 0.5)
    }

    /// Where it takes `patch`: x, y in cells.
    pub(super) fn at(&self, patch: usize) -> [f64; 2] {
        self.shift.map(|shift| shift.dot(&self.place(patch)))
    }
}

/// How much speaks for each patch of `one` moving otherwise than the camera: (rows * cols), 0 and more, in terms of the
/// standard deviation of the picture; 0 for what the camera's motion takes across the picture's edge. `None` unless
/// both pictures have the size of the grid.
pub(super) fn evidence(grid: PatchGrid, one: &InputTensor, other: &InputTensor) -> Option<Vec<f32>> {
    let pictures = Pictures::new(grid, one, other)?;
    let variance = pictures.variance();
    if variance <= 0.0 {
        return Some(vec![0.0; grid.len()]);
    }
    let matches: Vec<Match> = (0..grid.len()).map(|patch| pictures.best(patch)).collect();
    let camera = Camera::fit(grid, &matches);
    let worse = |(patch, found): (usize, &Match)| {
        if !pictures.seen_in_both(patch, camera.at(patch)) {
            return 0.0;
        }
        ((around(&pictures, patch, camera.at(patch)) - found.difference).max(0.0) / variance).sqrt()
    };
    Some(matches.iter().enumerate().map(worse).collect())
}

/// The least difference of `patch` at the four whole cells around `shift`. Any one of them may be half a cell off, and
/// half a cell in a fine texture looks like a motion.
fn around(pictures: &Pictures, patch: usize, shift: [f64; 2]) -> f32 {
    let reach = REACH as f64;
    let [xs, ys] = shift.map(|v| [v.floor(), v.ceil()].map(|v| v.clamp(-reach, reach) as isize));
    let differences = ys.iter().flat_map(|y| xs.iter().map(|x| pictures.difference(patch, [*x, *y])));
    differences.fold(f32::INFINITY, f32::min)
}

#[cfg(test)]
#[path = "camera_tests.rs"]
mod tests;
