//! A frame's embeddings laid out for matching: rounded to 7 bits for the integer products, and as they are.

use super::{BLOCK, TILE};
use crate::types::{Features, PatchGrid};

/// Dimensions that lie side by side, as the integer products of processors want them.
pub const QUAD: usize = 4;
/// Coordinates of keys are rounded to -63..=63 times a scale of their patch, and kept as bytes that are not negative,
/// [`OFFSET`] more than that. Two products of such a byte and one of a query's then fit into 16 bits, which is all that
/// `vpmaddubsw` has for them.
const KEY_LEVELS: f32 = 63.0;
pub const OFFSET: i32 = 64;
/// Coordinates of queries are rounded to -127..=127 times a scale.
const QUERY_LEVELS: f32 = 127.0;

/// The embeddings of a frame, for both sides of a comparison.
#[derive(Clone, Debug)]
pub struct Keys {
    features: Features,
    /// (rows, quads, cols, QUAD), each plus [`OFFSET`], and as much again as a block may read past the last row.
    rounded: Vec<u8>,
    /// (rows * cols) and a block more: what a patch's rounded coordinates are multiples of.
    scales: Vec<f32>,
    /// (rows * cols): how far a patch's rounded embedding lies from what it was.
    errors: Vec<f32>,
    /// (rows): the largest of a row's errors.
    row_errors: Vec<f32>,
}

impl Keys {
    pub fn new(features: &Features) -> Keys {
        let mut keys = Keys {
            features: features.without_picture(),
            rounded: Vec::new(),
            scales: Vec::new(),
            errors: Vec::new(),
            row_errors: Vec::new(),
        };
        keys.round();
        keys
    }

    /// Takes the embeddings of another frame, into the memory of the old ones.
    pub fn pack(&mut self, features: &Features) {
        (self.features.grid, self.features.view) = (features.grid, features.view);
        self.features.dim = features.dim;
        self.features.data.clone_from(&features.data);
        self.round();
    }

    /// The embeddings as they were packed.
    pub fn features(&self) -> &Features {
        &self.features
    }

    pub fn grid(&self) -> PatchGrid {
        self.features.grid
    }

    pub fn dim(&self) -> usize {
        self.features.dim
    }

    /// Only some patches, side by side in one row.
    pub fn gather(&self, patches: &[usize]) -> Keys {
        let grid = PatchGrid { rows: 1, cols: patches.len(), patch: self.grid().patch };
        let rows = patches.iter().flat_map(|patch| self.features.row(*patch));
        Keys::new(&Features::new(grid, self.dim(), rows.copied().collect()))
    }

    fn round(&mut self) {
        let PatchGrid { rows, cols, .. } = self.features.grid;
        let (n, quads) = (rows * cols, self.quads());
        self.rounded.clear();
        self.rounded.resize((n * quads + BLOCK) * QUAD, OFFSET as u8);
        self.scales.clear();
        self.scales.resize(n + BLOCK, 1.0);
        self.errors.clear();
        self.row_errors.clear();
        // (quads, QUAD)
        let mut bytes = vec![OFFSET as u8; quads * QUAD];
        for patch in 0..n {
            let (scale, error) = round::<OFFSET>(self.features.row(patch), KEY_LEVELS, &mut bytes);
            self.scales[patch] = scale;
            self.errors.push(error);
            let (row, col) = (patch / cols, patch % cols);
            let places = self.rounded[row * quads * cols * QUAD..].chunks_exact_mut(QUAD).skip(col).step_by(cols);
            places.zip(bytes.chunks_exact(QUAD)).for_each(|(place, quad)| place.copy_from_slice(quad));
        }
        let largest = |errors: &[f32]| errors.iter().copied().fold(0.0, f32::max);
        self.row_errors.extend(self.errors.chunks_exact(cols.max(1)).map(largest));
    }

    pub fn quads(&self) -> usize {
        self.features.dim.div_ceil(QUAD)
    }

    /// Row `row` of the grid from column `col` on, (quads, cols, QUAD): the lines of a block are as long as the grid
    /// is wide, and what is past the end of one is the beginning of the next.
    pub fn block(&self, row: usize, col: usize) -> &[u8] {
        &self.rounded[(row * self.quads() * self.grid().cols + col) * QUAD..]
    }

    /// Scales of the patches of such a block.
    pub fn scales(&self, row: usize, col: usize) -> &[f32; BLOCK] {
        let from = row * self.grid().cols + col;
        self.scales[from..].first_chunk().expect("there is a block more than patches")
    }

    /// What scales the product of a patch so that it is above the plain bar of a query wherever their cosine is at
    /// least `cosine`; the query was rounded by `error` at most. `None` where no scale does, for a cosine near zero or
    /// below.
    pub fn scale_over(&self, patch: usize, cosine: f32, error: f32) -> Option<f32> {
        let least = cosine - lost(error, self.errors[patch]);
        (least > 0.0).then(|| self.scales[patch] / least)
    }

    /// By how much a row's patches were rounded, at most.
    pub fn row_error(&self, row: usize) -> f32 {
        self.row_errors[row]
    }
}

/// Rounds an embedding to -levels..=levels times a scale, adds OFFSET, and returns the scale and the length of what was
/// rounded away.
fn round<const OFFSET: i32>(row: &[f32], levels: f32, bytes: &mut [u8]) -> (f32, f32) {
    const LANES: usize = 16;
    let (chunks, rest) = row.as_chunks::<LANES>();
    let mut largest = [0.0f32; LANES];
    for chunk in chunks {
        for j in 0..LANES {
            let size = chunk[j].abs();
            largest[j] = if size > largest[j] { size } else { largest[j] };
        }
    }
    let largest = largest.iter().copied().chain(rest.iter().map(|v| v.abs())).fold(0.0, f32::max);
    // A patch that is alike to nothing is all zeros.
    let scale = if largest > 0.0 { largest / levels } else { 1.0 };
    let inverse = 1.0 / scale;
    // Near this number floats are whole numbers: the sum is rounded, and its lowest byte is the number's own.
    const WHOLE: f32 = (3 << 22) as f32;
    let one = |v: f32, byte: &mut u8| {
        let shifted = v * inverse + WHOLE;
        *byte = (shifted.to_bits() as u8).wrapping_add(OFFSET as u8);
        let lost = v - (shifted - WHOLE) * scale;
        lost * lost
    };
    let mut squares = [0.0f32; LANES];
    let (whole, last) = bytes.split_at_mut(chunks.len() * LANES);
    for (chunk, place) in chunks.iter().zip(whole.as_chunks_mut::<LANES>().0) {
        for j in 0..LANES {
            squares[j] += one(chunk[j], &mut place[j]);
        }
    }
    let rest: f32 = rest.iter().zip(last).map(|(v, byte)| one(*v, byte)).sum();
    (scale, (squares.iter().sum::<f32>() + rest).sqrt())
}

/// Queries in tiles, each of which is compared with a block of keys at once.
#[derive(Clone, Debug, Default)]
pub struct Tiles {
    /// Which patch each query is; the tiles are chunks of [`TILE`] of them.
    pub patches: Vec<usize>,
    /// (tiles, quads, TILE, QUAD): coordinates without an offset; zeros where a tile is not full.
    rounded: Vec<i8>,
    /// (tiles, TILE): what a product is before anything is added, so that the keys' offset falls out.
    starts: Vec<[i32; TILE]>,
    /// (queries): one over the scale.
    inverses: Vec<f32>,
    /// (queries)
    errors: Vec<f32>,
}

impl Tiles {
    /// The patches of a frame that are `wanted`, or all. Those of a tile are near to one another, so that their
    /// windows cover much the same keys.
    pub fn pack(&mut self, keys: &Keys, wanted: Option<&[bool]>) {
        let PatchGrid { rows, cols, .. } = keys.grid();
        self.patches.clear();
        let is_wanted = |patch: usize| wanted.is_none_or(|wanted| wanted[patch]);
        let any_in = |col: usize| (0..rows).any(|row| is_wanted(row * cols + col));
        let mut end = 0;
        while let Some(strip) = (end..cols).find(|col| any_in(*col)) {
            end = (strip + TILE).min(cols);
            let patches = (0..rows).flat_map(|row| row * cols + strip..row * cols + end);
            self.patches.extend(patches.filter(|patch| is_wanted(*patch)));
        }
        self.fill(keys);
    }

    /// These patches of a frame, in this order.
    pub fn of(keys: &Keys, patches: &[usize]) -> Tiles {
        let mut tiles = Tiles { patches: patches.to_vec(), ..Tiles::default() };
        tiles.fill(keys);
        tiles
    }

    fn fill(&mut self, keys: &Keys) {
        let quads = keys.quads();
        self.rounded.clear();
        self.rounded.resize(self.patches.len().div_ceil(TILE) * quads * TILE * QUAD, 0);
        self.starts.clear();
        self.inverses.clear();
        self.errors.clear();
        // (quads, QUAD)
        let mut bytes = vec![0; quads * QUAD];
        let tiles = self.rounded.chunks_exact_mut((quads * TILE * QUAD).max(1));
        for (patches, tile) in self.patches.chunks(TILE).zip(tiles) {
            let mut starts = [0; TILE];
            for (i, patch) in patches.iter().enumerate() {
                let (scale, error) = round::<0>(keys.features.row(*patch), QUERY_LEVELS, &mut bytes);
                self.inverses.push(1.0 / scale);
                self.errors.push(error);
                starts[i] = -OFFSET * bytes.iter().map(|byte| i32::from(*byte as i8)).sum::<i32>();
                let places = tile.chunks_exact_mut(QUAD).skip(i).step_by(TILE);
                for (place, quad) in places.zip(bytes.as_chunks::<QUAD>().0) {
                    place.copy_from_slice(&quad.map(|byte| byte as i8));
                }
            }
            self.starts.push(starts);
        }
    }

    pub fn tile(&self, tile: usize) -> (&[i8], &[i32; TILE]) {
        let length = self.rounded.len() / self.starts.len();
        (&self.rounded[tile * length..(tile + 1) * length], &self.starts[tile])
    }

    /// What the integer product of query `query` with a key, times the key's scale, is above wherever their cosine is
    /// at least `cosine`. The key was rounded by `error` at most.
    pub fn bar(&self, query: usize, error: f32, cosine: f32) -> f32 {
        (cosine - lost(self.errors[query], error)) * self.inverses[query]
    }

    /// What the product of a tile's queries with a key is above, times a scale of [`Keys::scale_over`] for the key.
    pub fn plain_bars(&self, tile: usize) -> [f32; TILE] {
        let inverses = &self.inverses[tile * TILE..];
        std::array::from_fn(|i| inverses.get(i).copied().unwrap_or(f32::INFINITY))
    }

    /// By how much the queries were rounded, at most.
    pub fn error(&self) -> f32 {
        self.errors.iter().copied().fold(0.0, f32::max)
    }
}

/// How much less than the cosine of two unit vectors that of their roundings can be: with q + r and k + s, by at most
/// |r| + |s| + |r||s|.
fn lost(query: f32, key: f32) -> f32 {
    query + key + query * key + ROUNDING
}

/// More than 32-bit floats lose in a cosine, and lengths differ from 1.
const ROUNDING: f32 = 1e-5;
