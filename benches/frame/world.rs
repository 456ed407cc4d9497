//! A world of blocks: 64 objects of 3x2 patches on a textured ground, that go to and fro.

use tagalong::types::{Features, InputTensor, PatchGrid};

/// Frames after which it begins again.
const PERIOD: u64 = 24;
/// Objects in a row of them, and rows.
const SIDE: usize = 8;
/// Frames between two moves of an object.
const PACE: u64 = 4;

/// Embeddings of all its frames.
pub struct World {
    grid: PatchGrid,
    /// (PERIOD)
    frames: Vec<Features>,
}

impl World {
    pub fn new(grid: PatchGrid, dim: usize) -> World {
        World { grid, frames: (0..PERIOD).map(|seq| frame(grid, dim, seq)).collect() }
    }

    pub fn frame(&self, seq: u64) -> &Features {
        &self.frames[(seq % PERIOD) as usize]
    }

    /// The box round an object in a picture: x, y, width, height in pixels.
    pub fn bounds(&self, object: usize, seq: u64, width: usize, height: usize) -> [f32; 4] {
        let (row, col) = corner(self.grid, object, seq % PERIOD);
        let (w, h) = (width as f32 / self.grid.cols as f32, height as f32 / self.grid.rows as f32);
        [col as f32 * w, row as f32 * h, 3.0 * w, 2.0 * h]
    }
}

/// The row and column of an object's upper left patch.
fn corner(grid: PatchGrid, object: usize, seq: u64) -> (usize, usize) {
    let aside = (seq / PACE + object as u64) as usize % 2;
    (object / SIDE * (grid.rows / SIDE), object % SIDE * (grid.cols / SIDE) + aside)
}

fn frame(grid: PatchGrid, dim: usize, seq: u64) -> Features {
    // (rows * cols): what a patch shows, the ground or an object, and which part of it.
    let mut shown: Vec<(u64, u64)> = (0..grid.len() as u64).map(|patch| (0, patch)).collect();
    for object in 0..SIDE * SIDE {
        let (row, col) = corner(grid, object, seq);
        for part in 0..6 {
            shown[(row + part / 3) * grid.cols + col + part % 3] = (object as u64 + 1, part as u64);
        }
    }
    let mut features = Features::zeros(grid, dim);
    for (patch, (row, &(kind, part))) in features.data.chunks_exact_mut(dim).zip(&shown).enumerate() {
        for (d, value) in row.iter_mut().enumerate() {
            let noise = hash(d, 1 << 20 | seq << 12 | patch as u64);
            *value = hash(d, kind) + 0.4 * hash(d, 1000 + 97 * kind + part) + 0.15 * noise;
        }
    }
    features.normalise();
    features.picture = picture(grid, &shown);
    features
}

/// What patches show as a picture: each object in a colour of its own, the ground in one, both with texture.
fn picture(grid: PatchGrid, shown: &[(u64, u64)]) -> InputTensor {
    let (width, height) = (grid.input_width(), grid.input_height());
    let mut picture = InputTensor { width, height, data: Vec::with_capacity(3 * width * height) };
    for channel in 0..3 {
        for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
            let kind = shown[y / grid.patch * grid.cols + x / grid.patch].0;
            picture.data.push(hash(channel, kind) + 0.1 * hash(channel, 1 << 24 | (y * width + x) as u64));
        }
    }
    picture
}

/// In [-1, 1).
fn hash(dimension: usize, salt: u64) -> f32 {
    let mut x =
        (dimension as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (salt + 1).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 29)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((x ^ (x >> 32)) & 0xffff) as f32 / 32768.0 - 1.0
}
