//! Where in a layer's output the numbers of a value lie that reshapes, transpositions and selections made of it.

use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::array::{Gather, Slice};

use super::Reader;

/// Most operators between a value and what it is a window on.
const MOST_MOVES: usize = 32;

/// A value as a window on another: a number's place is `offset` plus the sum of its coordinates times the strides.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    pub source: OutletId,
    pub offset: usize,
    /// (length, stride) of each axis
    pub axes: Vec<(usize, usize)>,
}

impl View {
    fn whole(source: OutletId, shape: &[usize]) -> View {
        let mut stride = 1;
        let mut axes: Vec<(usize, usize)> = shape
            .iter()
            .rev()
            .map(|length| {
                let axis = (*length, stride);
                stride *= length;
                axis
            })
            .collect();
        axes.reverse();
        View { source, offset: 0, axes }
    }

    /// Axes `at` and those that follow, whose lengths are `from`, as axes of the lengths `to`.
    fn reshape(&mut self, at: usize, from: &[usize], to: &[usize]) -> Option<()> {
        let old: Vec<(usize, usize)> = self.axes[at..at + from.len()].iter().copied().filter(|a| a.0 != 1).collect();
        // They must lie in a row.
        if !old.windows(2).all(|pair| pair[0].1 == pair[1].0 * pair[1].1) {
            return None;
        }
        let mut stride = old.last().map_or(1, |axis| axis.1);
        let mut new = Vec::new();
        for length in to.iter().rev() {
            new.push((*length, stride));
            stride *= length;
        }
        new.reverse();
        self.axes.splice(at..at + from.len(), new);
        Some(())
    }
}

impl Reader<'_> {
    /// `outlet` as a window on the value that it is made of by operators that only move numbers.
    pub fn view(&self, outlet: OutletId) -> Option<View> {
        self.view_within(outlet, MOST_MOVES)
    }

    fn view_within(&self, outlet: OutletId, depth: usize) -> Option<View> {
        let depth = depth.checked_sub(1)?;
        let node = self.node(outlet);
        if let Some(op) = node.op_as::<AxisOp>() {
            let mut view = self.view_within(node.inputs[0], depth)?;
            match op {
                AxisOp::Add(at) => view.axes.insert(*at, (1, 0)),
                AxisOp::Rm(at) => drop(view.axes.remove(*at)),
                AxisOp::Move(from, to) => {
                    let axis = view.axes.remove(*from);
                    view.axes.insert(*to, axis);
                }
                AxisOp::Reshape(at, from, to) => {
                    let lengths =
                        |dims: &[TDim]| dims.iter().map(|dim| dim.to_usize().ok()).collect::<Option<Vec<usize>>>();
                    view.reshape(*at, &lengths(from)?, &lengths(to)?)?;
                }
            }
            return Some(view);
        }
        if let Some(slice) = node.op_as::<Slice>() {
            let mut view = self.view_within(node.inputs[0], depth)?;
            let (start, end) = (slice.start.to_usize().ok()?, slice.end.to_usize().ok()?);
            view.offset += start * view.axes[slice.axis].1;
            view.axes[slice.axis].0 = end - start;
            return Some(view);
        }
        if let Some(gather) = node.op_as::<Gather>() {
            let index = self.constant(node.inputs[1])?;
            // One index, without an axis of its own: a selection.
            if index.rank() != 0 {
                return None;
            }
            let mut view = self.view_within(node.inputs[0], depth)?;
            let (length, stride) = view.axes.remove(gather.axis);
            let index = index.cast_to_scalar::<i64>().ok()?;
            let index = if index < 0 { index + length as i64 } else { index };
            view.offset += usize::try_from(index).ok().filter(|index| *index < length)? * stride;
            return Some(view);
        }
        Some(View::whole(outlet, &self.shape(outlet)?))
    }
}
