//! The oracle: what a product is, one number after the other.

use super::{Kernel, LaneSet, Left, PANEL, Right, Set};

pub struct Scalar;

impl Kernel for Scalar {
    fn name(&self) -> &'static str {
        "scalar"
    }

    fn depth_step(&self) -> usize {
        4
    }

    fn lanes(&self) -> LaneSet {
        LaneSet(Set::Portable)
    }

    unsafe fn multiply(&self, left: Left, right: Right, out: &mut [i32], stride: usize) {
        for row in 0..left.rows {
            let bytes = &left.bytes[row * left.stride..][..right.depth];
            for (at, panel) in right.panels.chunks_exact(PANEL * right.depth).enumerate() {
                let mut sums = [0i32; PANEL];
                for (fours, bytes) in panel.as_chunks::<{ 4 * PANEL }>().0.iter().zip(bytes.as_chunks::<4>().0) {
                    let numbers = bytes.map(|byte| i32::from(byte.cast_signed()));
                    for (sum, column) in sums.iter_mut().zip(fours.as_chunks::<4>().0) {
                        *sum += (0..4).map(|k| numbers[k] * i32::from(column[k])).sum::<i32>();
                    }
                }
                out[row * stride + at * PANEL..][..PANEL].copy_from_slice(&sums);
            }
        }
    }
}
