//! Attention as one, from the residual stream back to it: queries, keys and values are quantized where they are made,
//! scores live in blocks, and the weights of all tokens on all tokens are never in memory.
//!
//! The softmax is kept up from block to block of keys ("Online normalizer calculation for softmax", arXiv 1805.02867).

use std::f32::consts::LOG2_E;

use super::linear::{Linear, ROWS};
use super::workers::{Scratch, Workers};
use crate::embed::kernels::passes::{
    Before, Divide, Finish, Gather, LEAST, MAX_KEYS, QuantizeColumns, QuantizeRows, RowState, Softmax, Then,
};
use crate::embed::kernels::{Aligned, DEPTH_STEP, Engaged, Left, PANEL, Right, Sign};

/// From so many tokens on, blocks are larger: they cost less for each key, but keep fewer threads busy.
const MANY_TOKENS: usize = 512;
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
    blocks: Vec<Block>,
    /// (heads, tokens, width), tokens rounded up to [`QUERIES`]
    attended: Aligned<f32>,
}

/// Some tokens' queries, keys and values of all heads as bytes; `keys` is their number rounded up to [`DEPTH_STEP`].
#[derive(Default)]
struct Block {
    /// (heads, keys, depth), encoded for the kernel
    queries: Aligned<u8>,
    /// (heads, keys), with what makes of scores exponents of 2
    query_scales: Aligned<f32>,
    /// (heads, panels of keys, depth / 4, 16, 4)
    keys: Aligned<i8>,
    /// (heads, keys)
    key_scales: Aligned<f32>,
    key_sums: Aligned<i32>,
    /// (heads, panels of width, keys / 4, 16, 4)
    values: Aligned<i8>,
    /// (heads, width)
    value_scales: Aligned<f32>,
    value_sums: Aligned<i32>,
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

impl Attention {
    /// Adds to `residual`, (tokens, inputs) of one frame, what attention makes of it.
    pub fn run_on_residual(&self, workers: &Workers, tokens: &mut Tokens, residual: &mut [f32]) {
        let inputs = self.qkv.inputs;
        let count = residual.len() / inputs;
        let layout = Layout {
            tokens: count,
            block: if count < MANY_TOKENS { DEPTH_STEP } else { MAX_KEYS },
            sizes: self.sizes,
            depth: self.sizes.width.next_multiple_of(DEPTH_STEP),
        };
        let Tokens { blocks, attended } = tokens;
        let blocks_used = count.div_ceil(layout.block);
        if blocks.len() < blocks_used {
            blocks.resize_with(blocks_used, Block::default);
        }
        let blocks = &mut blocks[..blocks_used];
        workers.share(blocks, 1, |index, block, engaged, scratch| {
            let input = &residual[index * layout.block * inputs..][..layout.valid(index) * inputs];
            self.quantize(engaged, scratch, layout, input, &mut block[0]);
        });
        let AttentionSizes { heads, width, used } = self.sizes;
        let parts = count.div_ceil(QUERIES);
        let attended = attended.at_least(heads * parts * QUERIES * width);
        let blocks = &*blocks;
        workers.share(attended, QUERIES * width, |index, out, engaged, scratch| {
            let (head, from) = (index / parts, index % parts * QUERIES);
            attend(engaged, scratch, layout, blocks, (head, from), out);
        });
        let attended = &*attended;
        let outputs = self.proj.outputs();
        let each = workers.rows_a_part(count, ROWS);
        workers.share(residual, each * outputs, |index, residual, engaged, scratch| {
            let Scratch { left, scales, sums, floats, row, .. } = scratch;
            let rows = residual.len() / outputs;
            let together = floats.at_least(rows * heads * used);
            for (r, to) in together.chunks_exact_mut(heads * used).enumerate() {
                for (head, to) in to.chunks_exact_mut(used).enumerate() {
                    to.copy_from_slice(&attended[(head * parts * QUERIES + index * each + r) * width..][..used]);
                }
            }
            let left = self.proj.quantize(engaged, (together, heads * used), rows, left, scales, row);
            self.proj.multiply(engaged, left, scales, sums, Then::Add, residual);
        });
    }

    /// Queries, keys and values of a block's tokens, from their rows of the residual stream.
    fn quantize(&self, engaged: &Engaged, scratch: &mut Scratch, layout: Layout, input: &[f32], block: &mut Block) {
        let Scratch { left, second, scales, sums, floats, row, .. } = scratch;
        let AttentionSizes { heads, width, .. } = self.sizes;
        let depth = layout.depth;
        let (inputs, rows) = (self.qkv.inputs, input.len() / self.qkv.inputs);
        let keys = rows.next_multiple_of(DEPTH_STEP);
        let left = self.qkv.quantize(engaged, (input, inputs), rows, left, scales, row);
        let queries = block.queries.at_least(heads * keys * depth);
        let query_scales = block.query_scales.at_least(heads * keys);
        let key_panels = block.keys.at_least(heads * keys * depth);
        let key_scales = block.key_scales.at_least(heads * keys);
        let key_sums = block.key_sums.at_least(heads * keys);
        let value_panels = block.values.at_least(heads * keys * width);
        let value_scales = block.value_scales.at_least(heads * width);
        let value_sums = block.value_sums.at_least(heads * width);
        let floats = floats.at_least(keys * width);
        let bytes = second.at_least(keys * depth);
        let row = row.at_least(depth);
        for head in 0..heads {
            self.product(engaged, left, scales, sums, head * width, floats);
            engaged.run(QuantizeRows {
                input: floats,
                input_stride: width,
                width,
                rows,
                before: Before::Nothing,
                out: &mut queries[head * keys * depth..],
                stride: depth,
                encoding: engaged.encoding(Sign::Signed),
                scales: &mut query_scales[head * keys..],
                row,
            });
            query_scales[head * keys..][..rows].iter_mut().for_each(|scale| *scale *= self.scale * LOG2_E);

            self.product(engaged, left, scales, sums, (heads + head) * width, floats);
            bytes[rows * depth..].fill(0);
            let key_scales = &mut key_scales[head * keys..][..keys];
            key_scales[rows..].fill(0.0);
            engaged.run(QuantizeRows {
                input: floats,
                input_stride: width,
                width,
                rows,
                before: Before::Nothing,
                out: bytes,
                stride: depth,
                encoding: 0,
                scales: key_scales,
                row,
            });
            pack_keys(bytes, depth, &mut key_panels[head * keys * depth..], &mut key_sums[head * keys..][..keys]);

            self.product(engaged, left, scales, sums, (2 * heads + head) * width, floats);
            let bytes = &mut bytes[..keys * width];
            bytes[rows * width..].fill(0);
            engaged.run(QuantizeColumns {
                input: floats,
                width,
                rows,
                out: bytes,
                scales: &mut value_scales[head * width..],
            });
            let panels = &mut value_panels[head * keys * width..][..keys * width];
            pack_values(bytes, width, panels, &mut value_sums[head * width..][..width]);
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
            let sums = sums.at_least(rows.next_multiple_of(16) * width);
            let left = Left { bytes: &left.bytes[row * left.stride..], rows, ..left };
            engaged.multiply(left, right, sums, width);
            engaged.run(Finish {
                sums,
                columns: width,
                rows,
                row_scales: &row_scales[row..],
                column_scales: &self.qkv.scales[from..from + width],
                bias: &self.qkv.bias[from..from + width],
                then: Then::Store,
                out: &mut out[row * width..],
                stride: width,
            });
        }
    }
}

/// What [`QUERIES`] queries of a head, from token `from` on, gather of all tokens' values: (queries, width).
fn attend(
    engaged: &Engaged,
    scratch: &mut Scratch,
    layout: Layout,
    blocks: &[Block],
    (head, from): (usize, usize),
    out: &mut [f32],
) {
    let Layout { tokens, block, sizes: AttentionSizes { width, .. }, depth } = layout;
    let Scratch { second, sums, state, .. } = scratch;
    let rows = QUERIES.min(tokens - from);
    let (own, at) = (&blocks[from / block], head * layout.keys(from / block) + from % block);
    let queries =
        Left { bytes: &own.queries[at * depth..][..QUERIES * depth], stride: depth, rows, sign: Sign::Signed };
    let query_scales = &own.query_scales[at..][..QUERIES];
    let (largest, rest) = state.at_least(4 * QUERIES).split_at_mut(QUERIES);
    let (total, rest) = rest.split_at_mut(QUERIES);
    let (keep, gain) = rest.split_at_mut(QUERIES);
    largest.fill(LEAST);
    total.fill(0.0);
    out.fill(0.0);
    let weights = second.at_least(QUERIES * block);
    let encoding = engaged.encoding(Sign::Unsigned);
    for (index, block) in blocks.iter().enumerate() {
        let (valid, keys) = (layout.valid(index), layout.keys(index));
        let right = Right {
            panels: &block.keys[head * keys * depth..][..keys * depth],
            sums: &block.key_sums[head * keys..][..keys],
            depth,
        };
        let scores = sums.at_least(QUERIES * keys);
        engaged.multiply(queries, right, scores, keys);
        engaged.run(Softmax {
            scores,
            keys,
            valid,
            rows,
            query_scales,
            key_scales: &block.key_scales[head * keys..][..keys],
            weights,
            encoding,
            state: RowState { largest, total, keep, gain },
        });
        let left = Left { bytes: weights, stride: keys, rows, sign: Sign::Unsigned };
        let right = Right {
            panels: &block.values[head * keys * width..][..keys * width],
            sums: &block.value_sums[head * width..][..width],
            depth: keys,
        };
        let gathered = sums.at_least(QUERIES * width);
        engaged.multiply(left, right, gathered, width);
        engaged.run(Gather {
            sums: gathered,
            width,
            rows,
            keep,
            gain,
            column_scales: &block.value_scales[head * width..][..width],
            out,
        });
    }
    engaged.run(Divide { values: out, width, rows, totals: total });
}

/// Keys as the columns of a right matrix, (keys, depth) bytes to panels; their sums.
fn pack_keys(bytes: &[u8], depth: usize, panels: &mut [i8], sums: &mut [i32]) {
    for (panel, (rows, sums)) in
        panels.chunks_exact_mut(PANEL * depth).zip(bytes.chunks_exact(PANEL * depth).zip(sums.chunks_exact_mut(PANEL)))
    {
        for (column, (row, sum)) in rows.chunks_exact(depth).zip(sums).enumerate() {
            *sum = row.iter().map(|byte| i32::from(byte.cast_signed())).sum();
            for (four, to) in row.as_chunks::<4>().0.iter().zip(panel.as_chunks_mut::<{ 4 * PANEL }>().0) {
                to[4 * column..][..4].copy_from_slice(&four.map(u8::cast_signed));
            }
        }
    }
}

/// Values as the rows of a right matrix, (keys, width) bytes to panels; the sums of its columns.
fn pack_values(bytes: &[u8], width: usize, panels: &mut [i8], sums: &mut [i32]) {
    let keys = bytes.len() / width;
    sums.fill(0);
    for (k, four) in bytes.chunks_exact(4 * width).enumerate() {
        let (a, rest) = four.split_at(width);
        let (b, rest) = rest.split_at(width);
        let (c, d) = rest.split_at(width);
        for at in (0..width).step_by(PANEL) {
            let to = &mut panels[at * keys + k * 4 * PANEL..][..4 * PANEL];
            for (column, to) in to.as_chunks_mut::<4>().0.iter_mut().enumerate() {
                let numbers = [a, b, c, d].map(|row| row[at + column].cast_signed());
                *to = numbers;
                sums[at + column] += numbers.map(i32::from).iter().sum::<i32>();
            }
        }
    }
}
