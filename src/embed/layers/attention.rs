//! Attention as one, from the residual stream back to it: queries, keys and values are quantized where they are made,
//! scores live in blocks, and the weights of all tokens on all tokens are never in memory.
//!
//! The softmax is kept up from block to block of keys ("Online normalizer calculation for softmax", arXiv 1805.02867).

use std::f32::consts::LOG2_E;

use super::linear::{Linear, ROWS};
use super::workers::{Scratch, Workers};
use crate::embed::blocks;
use crate::embed::kernels::epilogues::{Floats, Gathered, Scores, Then, To};
use crate::embed::kernels::packing::{PackColumns, QuantizeValues};
use crate::embed::kernels::passes::{Before, Divide, LEAST, MAX_KEYS, QuantizeRows, QueryState, Softmax, Span};
use crate::embed::kernels::{Aligned, DEPTH_STEP, Engaged, Left, PANEL, Right};

/// Tokens of a block, in frames of so many tokens or more: larger ones cost less for each key, but keep fewer threads busy.
const BLOCKS: [(usize, usize); 3] = [(512, MAX_KEYS), (200, 2 * DEPTH_STEP), (0, DEPTH_STEP)];
/// Queries that are worked on together.
const QUERIES: usize = 32;

/// Sides of attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttentionSizes {
    pub heads: usize,
    /// Numbers of a head's query, key or value, filled up to a multiple of 16 with zeros.
    pub width: usize,
    /// Numbers of a head that are no filling: the projection takes these.
    pub used: usize,
}

/// Attention of a block: `residual + proj(attention(qkv(norm(residual))))`.
pub struct Attention {
    pub sizes: AttentionSizes,
    /// Queries of all heads, then keys, then values, each head filled up: (inputs, 3 * heads * width).
    pub qkv: Linear,
    /// What a query's product with a key is multiplied with.
    pub scale: f32,
    pub proj: Linear,
}

/// Buffers that a layer's threads share, used again by the next layer.
#[derive(Default)]
pub struct Tokens {
    pub blocks: Blocks,
    /// What queries gather: (heads, rows, width), rows rounded up to [`QUERIES`].
    pub attended: Aligned<f32>,
}

/// Queries, keys and values of a frame's tokens, block by block.
#[derive(Default)]
pub struct Blocks(Vec<Block>);

/// Which of a frame's tokens the rows of a matrix are.
#[derive(Clone, Copy, Debug)]
pub enum Rows<'a> {
    /// All so many, in order.
    All(usize),
    /// These, in rising order.
    Some(&'a [usize]),
}

impl Rows<'_> {
    pub fn count(self) -> usize {
        match self {
            Rows::All(count) => count,
            Rows::Some(tokens) => tokens.len(),
        }
    }

    /// The token of a row.
    pub fn token(self, row: usize) -> usize {
        match self {
            Rows::All(_) => row,
            Rows::Some(tokens) => tokens[row],
        }
    }
}

/// Some tokens' queries, keys and values of all heads as bytes; `keys` is their number rounded up to [`DEPTH_STEP`].
///
/// Keys and values are left matrices, encoded for the kernel; queries become a right one when it is known which are asked.
#[derive(Default)]
struct Block {
    /// (heads, keys, depth)
    queries: Aligned<u8>,
    /// (heads, keys), with what makes of scores exponents of 2
    query_scales: Aligned<f32>,
    /// (heads, keys, depth)
    keys: Aligned<u8>,
    /// (heads, keys)
    key_scales: Aligned<f32>,
    /// (heads, width, keys)
    values: Aligned<u8>,
    /// (heads, width)
    value_scales: Aligned<f32>,
    /// (heads, width): what comes back of the 128 that weights are stored less
    value_offsets: Aligned<f32>,
}

/// Where things lie in the blocks of one frame.
#[derive(Clone, Copy)]
struct Layout {
    tokens: usize,
    /// Tokens of a block, a multiple of [`DEPTH_STEP`].
    block: usize,
    sizes: AttentionSizes,
    /// Of a product of a query with a key: the width, rounded up.
    depth: usize,
}

impl Layout {
    /// Tokens of block `index`.
    fn valid(&self, index: usize) -> usize {
        self.block.min(self.tokens - index * self.block)
    }

    fn keys(&self, index: usize) -> usize {
        self.valid(index).next_multiple_of(DEPTH_STEP)
    }
}

impl Layout {
    fn new(tokens: usize, sizes: AttentionSizes) -> Layout {
        Layout {
            tokens,
            block: BLOCKS.iter().find(|(from, _)| tokens >= *from).map_or(DEPTH_STEP, |(_, block)| *block),
            sizes,
            depth: sizes.width.next_multiple_of(DEPTH_STEP),
        }
    }
}

impl Attention {
    /// Each head filled up to whole panels. `None` as of [`Linear::pack`].
    pub fn pack(block: blocks::Attention) -> Option<Attention> {
        let blocks::Attention { norm, heads, width: used, qkv, scale, factors, proj } = block;
        let sizes = AttentionSizes { heads, width: used.next_multiple_of(PANEL), used };
        let qkv = Linear::pack(blocks::Before::Norm(norm), qkv.filled(used, sizes.width))?;
        let proj = Linear::pack(factors.map_or(blocks::Before::Nothing, blocks::Before::Factors), proj)?;
        Some(Attention { sizes, qkv, scale, proj })
    }

    /// Whether its parts fit one another, and a residual stream of so many numbers a token.
    pub fn fits(&self, inputs: usize) -> bool {
        let AttentionSizes { heads, width, used } = self.sizes;
        self.qkv.fits()
            && self.proj.fits()
            && heads > 0
            && (1..=width).contains(&used)
            && width.is_multiple_of(PANEL)
            && heads.checked_mul(width).and_then(|all| all.checked_mul(3)) == Some(self.qkv.outputs())
            && heads * used == self.proj.inputs
            && (self.qkv.inputs, self.proj.outputs()) == (inputs, inputs)
    }

    /// Adds to `residual`, (tokens, inputs) of one frame, what attention makes of it.
    pub fn run_on_residual(&self, workers: &Workers, tokens: &mut Tokens, residual: &mut [f32]) {
        let rows = Rows::All(residual.len() / self.qkv.inputs);
        let Tokens { blocks, attended } = tokens;
        self.prepare(workers, blocks, rows, residual);
        self.attend(workers, blocks, attended, rows, rows.count(), residual);
    }

    /// Makes queries, keys and values of all blocks that hold a token of `changed`, from the residual stream of all tokens,
    /// (tokens, inputs). The other blocks stay as they are.
    pub fn prepare(&self, workers: &Workers, blocks: &mut Blocks, changed: Rows, residual: &[f32]) {
        let inputs = self.qkv.inputs;
        let layout = Layout::new(residual.len() / inputs, self.sizes);
        let used = layout.tokens.div_ceil(layout.block);
        if blocks.0.len() < used {
            blocks.0.resize_with(used, Block::default);
        }
        let mut touched: Vec<(usize, &mut Block)> = blocks.0[..used].iter_mut().enumerate().collect();
        if let Rows::Some(tokens) = changed {
            touched.retain(|(index, _)| {
                let next = tokens.partition_point(|token| *token < index * layout.block);
                tokens.get(next).is_some_and(|token| *token < (index + 1) * layout.block)
            });
        }
        workers.share(&mut touched, 1, |_, block, engaged, scratch| {
            let (index, block) = &mut block[0];
            let input = &residual[*index * layout.block * inputs..][..layout.valid(*index) * inputs];
            self.quantize(engaged, scratch, layout, input, block);
        });
    }

    /// Adds to `residual`, (rows, inputs), what the queries of these rows gather among all `count` tokens.
    pub fn attend(
        &self,
        workers: &Workers,
        blocks: &Blocks,
        attended: &mut Aligned<f32>,
        rows: Rows,
        count: usize,
        residual: &mut [f32],
    ) {
        let layout = Layout::new(count, self.sizes);
        let AttentionSizes { heads, width, used } = self.sizes;
        let blocks = &blocks.0[..count.div_ceil(layout.block)];
        let parts = rows.count().div_ceil(QUERIES);
        let attended = attended.at_least(heads * parts * QUERIES * width);
        workers.share(attended, QUERIES * width, |index, out, engaged, scratch| {
            let (head, from) = (index / parts, index % parts * QUERIES);
            attend(engaged, scratch, layout, blocks, head, (rows, from), out);
        });
        let attended = &*attended;
        let outputs = self.proj.outputs();
        let each = workers.rows_a_part(rows.count(), ROWS);
        workers.share(residual, each * outputs, |index, residual, engaged, scratch| {
            let Scratch { left, scales, sums, floats, row, .. } = scratch;
            let rows = residual.len() / outputs;
            let gathered = |r: usize, row: &mut [f32]| {
                for (head, to) in row.chunks_exact_mut(used).enumerate() {
                    to.copy_from_slice(&attended[(head * parts * QUERIES + index * each + r) * width..][..used]);
                }
            };
            let left = self.proj.quantize_each(engaged, rows, gathered, left, scales, [floats, row]);
            self.proj.multiply(engaged, left, scales, sums, Then::Add, residual);
        });
    }

    /// Queries, keys and values of a block's tokens, from their rows of the residual stream.
    fn quantize(&self, engaged: &Engaged, scratch: &mut Scratch, layout: Layout, input: &[f32], block: &mut Block) {
        let Scratch { left, scales, sums, floats, row, .. } = scratch;
        let AttentionSizes { heads, width, .. } = self.sizes;
        let depth = layout.depth;
        let rows = input.len() / self.qkv.inputs;
        let keys = rows.next_multiple_of(DEPTH_STEP);
        let left = self.qkv.quantize(engaged, input, Span::Even, left, scales, row);
        let encoding = engaged.encoding();
        let queries = block.queries.at_least(heads * keys * depth);
        let query_scales = block.query_scales.at_least(heads * keys);
        let own_keys = block.keys.at_least(heads * keys * depth);
        let key_scales = block.key_scales.at_least(heads * keys);
        let values = block.values.at_least(heads * keys * width);
        let value_scales = block.value_scales.at_least(heads * width);
        let value_offsets = block.value_offsets.at_least(heads * width);
        let floats = floats.at_least(keys * width);
        let row = row.at_least(depth);
        for head in 0..heads {
            let of_queries = (&mut *queries, &mut *query_scales, 0);
            let of_keys = (&mut *own_keys, &mut *key_scales, encoding);
            for (part, (bytes, scales_out, encoding)) in [of_queries, of_keys].into_iter().enumerate() {
                self.product(engaged, left, scales, sums, (part * heads + head) * width, floats);
                engaged.run(QuantizeRows {
                    input: floats,
                    width,
                    before: Before::Nothing,
                    span: Span::Even,
                    out: &mut bytes[head * keys * depth..],
                    stride: depth,
                    encoding,
                    scales: &mut scales_out[head * keys..][..rows],
                    row,
                });
            }
            query_scales[head * keys..][..rows].iter_mut().for_each(|scale| *scale *= self.scale * LOG2_E);

            self.product(engaged, left, scales, sums, (2 * heads + head) * width, floats);
            engaged.run(QuantizeValues {
                input: floats,
                width,
                rows,
                out: &mut values[head * keys * width..][..keys * width],
                keys,
                encoding,
                scales: &mut value_scales[head * width..][..width],
                offsets: &mut value_offsets[head * width..][..width],
            });
        }
    }

    /// `width` columns of the product from `from` on, as floats: (rows, width).
    fn product(
        &self,
        engaged: &Engaged,
        left: Left,
        row_scales: &[f32],
        sums: &mut Aligned<i32>,
        from: usize,
        out: &mut [f32],
    ) {
        let width = self.sizes.width;
        let right = self.qkv.weights.part(from / PANEL, (from + width) / PANEL);
        for row in (0..left.rows).step_by(ROWS) {
            let rows = ROWS.min(left.rows - row);
            let left = Left { bytes: &left.bytes[row * left.stride..], rows, ..left };
            let floats = Floats {
                row_scales: &row_scales[row..],
                column_scales: &self.qkv.scales[from..from + width],
                bias: &self.qkv.bias[from..from + width],
                lift: None,
                then: Then::Store,
                out: &mut out[row * width..],
                stride: width,
            };
            engaged.multiply_to(left, right, sums, To::Floats(floats));
        }
    }
}

/// What [`QUERIES`] queries of a head, those of row `from` and after, gather of all tokens' values: (queries, width).
fn attend(
    engaged: &Engaged,
    scratch: &mut Scratch,
    layout: Layout,
    blocks: &[Block],
    head: usize,
    (tokens, from): (Rows, usize),
    out: &mut [f32],
) {
    let Layout { block, sizes: AttentionSizes { width, .. }, depth, .. } = layout;
    let Scratch { left, panels, scales, sums, floats, state, .. } = scratch;
    let rows = QUERIES.min(tokens.count() - from);
    let padded = rows.next_multiple_of(PANEL);
    let (bytes, query_scales) = (left.at_least(padded * depth), scales.at_least(padded));
    bytes[rows * depth..].fill(0);
    query_scales[rows..].fill(1.0);
    for (row, (bytes, scale)) in bytes.chunks_exact_mut(depth).zip(&mut *query_scales).take(rows).enumerate() {
        let token = tokens.token(from + row);
        let (own, at) = (&blocks[token / block], head * layout.keys(token / block) + token % block);
        bytes.copy_from_slice(&own.queries[at * depth..][..depth]);
        *scale = own.query_scales[at];
    }
    let (queries, weights) = panels.at_least(padded * (depth + block)).split_at_mut(padded * depth);
    let mut of_columns = [0; 2 * QUERIES];
    let (query_sums, weight_sums) = of_columns[..2 * padded].split_at_mut(padded);
    let scores = floats.at_least(block * padded);
    engaged.run(PackColumns { bytes, depth, panels: queries, sums: query_sums });
    let queries = Right { panels: queries, sums: query_sums, depth };
    let (largest, rest) = state.at_least((5 + width) * padded).split_at_mut(padded);
    let (total, rest) = rest.split_at_mut(padded);
    let (keep, rest) = rest.split_at_mut(padded);
    let (gain, rest) = rest.split_at_mut(padded);
    let (most, gathered) = rest.split_at_mut(padded);
    largest.fill(LEAST);
    total.fill(0.0);
    gathered.fill(0.0);
    for (index, block) in blocks.iter().enumerate() {
        let (valid, keys) = (layout.valid(index), layout.keys(index));
        let own = Left { bytes: &block.keys[head * keys * depth..][..keys * depth], stride: depth, rows: valid };
        most.fill(LEAST);
        let scores = &mut scores[..valid * padded];
        let key_scales = &block.key_scales[head * keys..][..valid];
        engaged.multiply_to(own, queries, sums, To::Scores(Scores { key_scales, out: scores, most }));
        let depth = valid.next_multiple_of(engaged.depth_step());
        let weights = &mut weights[..padded * depth];
        engaged.run(Softmax {
            scores,
            most,
            query_scales,
            weights,
            sums: weight_sums,
            state: QueryState { largest, total, keep, gain },
        });
        let values = Left { bytes: &block.values[head * keys * width..][..keys * width], stride: keys, rows: width };
        let weights = Right { panels: weights, sums: weight_sums, depth };
        let gathered = Gathered {
            keep,
            gain,
            scales: &block.value_scales[head * width..][..width],
            offsets: &block.value_offsets[head * width..][..width],
            out: gathered,
        };
        engaged.multiply_to(values, weights, sums, To::Gathered(gathered));
    }
    let out = &mut out[..padded * width];
    engaged.run(Divide { gathered, totals: total, out, width });
}
