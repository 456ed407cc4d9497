//! Tokens of an earlier frame used again: of a camera that stands still, most patches look as they did.
//!
//! A patch is computed anew where its picture differs from the one that it was last computed from, which need not be the
//! frame before: what creeps is noticed as well. Its queries then look at all tokens, of which those that were left alone are as
//! they were. What they saw of the others is old by as much as those changed since, and so everything is computed anew after
//! a number of frames, or when much has changed.

use super::attention::{Blocks, Rows};
use super::network::{Network, Picture};
use super::workers::Workers;

/// Cells along a side of a patch whose means are compared: they even out the noise of a sensor, and a change of few pixels
/// still moves one of them.
const CELLS: usize = 3;

/// When a patch is computed anew.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gate {
    /// A cell's mean changed by more than this, in the picture's own numbers: one for each channel.
    pub change: [f32; 3],
    /// Everything is computed anew after so many frames,
    pub refresh: usize,
    /// or where more than this share of the patches is.
    pub most: f32,
}

/// What is kept of one camera's frames.
#[derive(Default)]
pub struct Memory {
    /// The means of what each patch was last computed from: (patches, channels, [`CELLS`], [`CELLS`])
    cells: Vec<f32>,
    /// Of the frame that is looked at.
    new_cells: Vec<f32>,
    attentions: Vec<Kept>,
    /// (tokens, dim)
    output: Vec<f32>,
    /// Of the tokens that changed: (tokens, dim)
    changed: Vec<f32>,
    /// Frames since everything was computed; none before the first.
    age: Option<usize>,
}

/// What is kept of one attention.
#[derive(Default)]
pub(super) struct Kept {
    /// The residual stream: (tokens, width)
    pub input: Vec<f32>,
    pub blocks: Blocks,
}

impl Memory {
    pub(super) fn attention(&mut self, index: usize, length: usize) -> &mut Kept {
        if self.attentions.len() <= index {
            self.attentions.resize_with(index + 1, Kept::default);
        }
        let kept = &mut self.attentions[index];
        kept.input.resize(length, 0.0);
        kept
    }

    /// Has the next frame computed whole.
    pub fn forget(&mut self) {
        self.age = None;
    }
}

impl Network {
    /// One frame to its tokens, (tokens, dim), with what `memory` kept of those before; and how many tokens were computed.
    pub fn run_reusing<'m>(
        &self,
        workers: &Workers,
        picture: Picture,
        gate: Gate,
        memory: &'m mut Memory,
    ) -> (&'m [f32], usize) {
        let (count, dim) = (self.tokens(), self.dim());
        let mut cells = std::mem::take(&mut memory.new_cells);
        self.cells(picture, &mut cells);
        let rows = self.changed(&cells, gate, memory);
        // Spoilt until it is whole again: a panic leaves nothing half done to be used.
        let age = memory.age.take();
        let each = cells.len() / (count - self.patches.prefix);
        let computed = match rows {
            None => {
                let mut output = std::mem::take(&mut memory.output);
                self.run_some(workers, picture, Rows::All(count), memory, &mut output);
                memory.output = output;
                std::mem::swap(&mut memory.cells, &mut cells);
                memory.age = Some(0);
                count
            }
            Some(tokens) => {
                let mut changed = std::mem::take(&mut memory.changed);
                self.run_some(workers, picture, Rows::Some(&tokens), memory, &mut changed);
                for (row, token) in changed.chunks_exact(dim).zip(&tokens) {
                    memory.output[token * dim..][..dim].copy_from_slice(row);
                }
                for patch in tokens.iter().filter_map(|token| token.checked_sub(self.patches.prefix)) {
                    memory.cells[patch * each..][..each].copy_from_slice(&cells[patch * each..][..each]);
                }
                memory.changed = changed;
                memory.age = age.map(|age| age + 1);
                tokens.len()
            }
        };
        memory.new_cells = cells;
        (&memory.output, computed)
    }

    /// The tokens that are to be computed, those before the patches among them; none for all.
    fn changed(&self, cells: &[f32], gate: Gate, memory: &Memory) -> Option<Vec<usize>> {
        let prefix = self.patches.prefix;
        let (patches, dim) = (self.tokens() - prefix, self.dim());
        let age = memory.age?;
        if age + 1 >= gate.refresh || memory.cells.len() != cells.len() || memory.output.len() != self.tokens() * dim {
            return None;
        }
        let each = cells.len() / patches;
        let differs = |(old, new): (&[f32], &[f32])| {
            // What is no number differs from everything.
            let most = gate.change.iter().flat_map(|change| [*change; CELLS * CELLS]);
            !old.iter().zip(new).zip(most).all(|((a, b), most)| (a - b).abs() <= most)
        };
        let differing = memory.cells.chunks_exact(each).zip(cells.chunks_exact(each)).map(differs);
        let mut tokens: Vec<usize> = (0..prefix).collect();
        tokens.extend(differing.enumerate().filter(|(_, differs)| *differs).map(|(patch, _)| prefix + patch));
        ((tokens.len() - prefix) as f32 <= gate.most * patches as f32).then_some(tokens)
    }

    /// Means of the cells of all patches.
    fn cells(&self, picture: Picture, cells: &mut Vec<f32>) {
        let (patch, channels) = (self.patches.patch, self.patches.channels);
        let [height, width] = picture.size;
        let (down, across) = (height / patch, width / patch);
        cells.clear();
        cells.resize(down * across * channels * CELLS * CELLS, 0.0);
        // Which cell a line or column of a patch belongs to, and its share of the cell's mean.
        let cell: Vec<usize> = (0..patch).map(|at| at * CELLS / patch).collect();
        let share: Vec<f32> =
            cell.iter().map(|own| 1.0 / cell.iter().filter(|other| *other == own).count() as f32).collect();
        for (index, line) in picture.data.chunks_exact(width).enumerate() {
            let (channel, y) = (index / height, index % height);
            for (x, pixels) in line.chunks_exact(patch).enumerate() {
                let at = ((y / patch * across + x) * channels + channel) * CELLS + cell[y % patch];
                let to = &mut cells[at * CELLS..][..CELLS];
                for ((value, cell), share_of_column) in pixels.iter().zip(&cell).zip(&share) {
                    to[*cell] += value * share_of_column * share[y % patch];
                }
            }
        }
    }
}
