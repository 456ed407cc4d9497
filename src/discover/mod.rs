//! Finding objects that nobody showed: proposals out of the patch embeddings that a frame has anyway.
//!
//! A frame's patches are joined to ever larger regions (`regions.rs`), and an object is mostly one of them. What remains
//! is to say which: [`salient`] prefers a region that looks unlike what is around it, [`moving`] one that goes another
//! way than the camera. Both are pure, deterministic, and learn nothing. `docs/discovery.md` tells what they find, and
//! what published rules find on the same features.

mod camera;
mod centred;
mod matching;
mod rank;
mod regions;

use crate::types::{Features, Mask, PatchGrid};

use centred::Centred;
use rank::{Candidate, best, candidates};

/// Whether objects are looked for that nobody tagged, and what becomes of them. Defaults live in `config/default.toml` alone.
#[derive(Clone, Debug, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct DiscoverConfig {
    pub mode: Mode,
    /// Seconds between two looks, 0.1 to 3,600.
    pub every_s: f32,
    /// Proposals of one camera at once, 1 to 16.
    pub limit: usize,
    /// Objects that are tagged without being asked, of one camera at once, 0 to 64.
    pub tag: usize,
}

/// What makes something a proposal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    Off,
    /// It goes another way than the camera.
    Moving,
    /// It stands out from what is around it.
    Salient,
}

/// The least evidence, as a share of the picture's own contrast, for which a region is said to move. Noise of 5 in 255
/// levels gives a third of it at most.
const LEAST_MOTION: f32 = 0.05;

/// Something that may be an object.
#[derive(Clone, Debug, PartialEq)]
pub struct Proposal {
    pub grid: PatchGrid,
    /// (rows * cols): the patches that it covers; they are connected.
    pub patches: Vec<bool>,
    /// The box around them in patches: column, row, columns, rows.
    pub bounds: [usize; 4],
    /// In [0, 1], and above that of all that come after it. It orders; it is no probability.
    pub score: f32,
}

impl Proposal {
    /// The box in a `width` x `height` frame: x, y, width, height in pixels.
    pub fn area(&self, width: usize, height: usize) -> [f32; 4] {
        let [col, row, cols, rows] = self.bounds;
        let [x, y, w, h] = self.grid.patch_area(row, col, width, height);
        [x, y, w * cols as f32, h * rows as f32]
    }

    /// The patches as a mask of a `width` x `height` frame.
    pub fn mask(&self, width: usize, height: usize) -> Mask {
        Mask::from_fn(width, height, |x, y| {
            let (row, col) = self.grid.patch_at(x as f32 + 0.5, y as f32 + 0.5, width, height);
            self.patches[row * self.grid.cols + col]
        })
    }
}

/// Regions of one frame that stand out from what is around them, the best first, `limit` at most. No two boxes have an
/// intersection over union of a half or more.
///
/// With `d` the distance between the mean embedding of a region's patches and that of the patches up to three away from
/// it, `n` its patches among `N`, `e` those on the frame's edge, and `w` and `h` its box, it scores
/// `d / 2 * (n / N * min(1, h / w))^(1/4) * exp(-4 e^2 / n)`. That is contrast, in the measure of Ward's cost, which
/// grows with size; less for what lies across the picture as ground, hedges and horizons do; and the boundary
/// connectivity `e / sqrt(n)` of Zhu et al., *Saliency Optimization from Robust Background Detection* (CVPR 2014), which
/// says that what runs along the edge is background. They let it fall off with a sigma of 1; ours falls off in about a
/// third of that, since our regions are cut hard.
///
/// Frames of equal patches have none. A patch whose embedding is not finite is taken for a plain one.
pub fn salient(features: &Features, limit: usize) -> Vec<Proposal> {
    let score = |c: &Candidate| {
        let connectivity = c.at_edge as f32 / (c.patches.len() as f32).sqrt();
        c.contrast * (c.share * c.upright()).sqrt().sqrt() * (-4.0 * connectivity * connectivity).exp()
    };
    best(features.grid, candidates(&Centred::new(features)), score, limit)
}

/// Regions of `now` that move otherwise than the camera, seen against `before`: an earlier frame of that camera, best
/// the last one. The best first, `limit` at most, no two boxes as in [`salient`].
///
/// Each patch is looked for in the other picture, in the pictures alone: patch embeddings know too little of where
/// within a patch something is. The camera's motion is an affine map, fitted so that the patches that do not follow it
/// weigh little (Black and Anandan, 1996). What speaks for a patch's own motion is how much worse the picture agrees
/// where the camera's motion would have taken it than where it agrees best, so that sky, which agrees anywhere, does
/// not speak. With `m` the mean of that in a region, in terms of the picture's standard deviation, and `d`, `n` and `N`
/// as in [`salient`], it scores `sqrt(m / (1 + m) * (d / 2)^(1/2) * (n / N)^(1/3))`. There is no rule for the frame's
/// edge: things come in there.
///
/// None where a picture is missing, where the frames' grids differ, or where nothing moves.
pub fn moving(before: &Features, now: &Features, limit: usize) -> Vec<Proposal> {
    if now.grid != before.grid || now.grid.is_empty() {
        return Vec::new();
    }
    let Some(evidence) = camera::evidence(now.grid, &now.picture, &before.picture) else {
        return Vec::new();
    };
    let mean = |c: &Candidate| c.patches.iter().map(|p| evidence[*p as usize]).sum::<f32>() / c.patches.len() as f32;
    let mut found = candidates(&Centred::new(now));
    found.retain(|c| mean(c) >= LEAST_MOTION);
    let score = |c: &Candidate| {
        let mean = mean(c);
        (mean / (1.0 + mean) * c.contrast.sqrt() * c.share.cbrt()).sqrt()
    };
    best(now.grid, found, score, limit)
}

#[cfg(test)]
#[path = "discover_tests.rs"]
mod tests;
