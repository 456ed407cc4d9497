//! 64-bit Arm with the dot product: four 8-bit products a lane and instruction. Inline assembly, since the intrinsics
//! are not stable.

use std::arch::aarch64::*;
use std::arch::{asm, is_aarch64_feature_detected};
use std::array::from_fn;

use super::neon::store;
use super::{Kernel, LaneSet, Left, PANEL, Right, Set};

pub struct DotProd(());

impl DotProd {
    pub fn new() -> Option<DotProd> {
        is_aarch64_feature_detected!("dotprod").then_some(DotProd(()))
    }
}

impl Kernel for DotProd {
    fn name(&self) -> &'static str {
        "dotprod"
    }

    fn lanes(&self) -> LaneSet {
        LaneSet(Set::Neon)
    }

    unsafe fn multiply(&self, left: Left, right: Right, out: &mut [i32], stride: usize) {
        // SAFETY: `new` found the instruction.
        unsafe { multiply(left, right, out, stride) }
    }
}

#[target_feature(enable = "neon,dotprod")]
fn multiply(left: Left, right: Right, out: &mut [i32], stride: usize) {
    for panel in 0..right.panel_count() {
        let numbers = &right.panels[panel * PANEL * right.depth..][..PANEL * right.depth];
        let mut row = 0;
        while row < left.rows {
            // Tiles have an even number of rows and are chosen so that the last one lacks one row at most, or is the
            // only one: there is room for what it writes.
            let out = &mut out[row * stride + panel * PANEL..];
            row += match left.rows - row {
                5 | 6 | 9.. => six_rows(left, row, numbers, out, stride),
                _ => four_rows(left, row, numbers, out, stride),
            };
        }
    }
}

/// Rows times a panel, four columns a register: rows from `row` on to `out`; how many they were.
///
/// Each row's next 16 numbers are in a register of its own, v0 to v5, of which the instruction takes four to multiply
/// them with four numbers of each column. Columns come in pairs, in v6 and v7, by one load, which a processor that
/// renames registers starts while the pair before it is multiplied. What is left of 32 registers are the sums of six
/// rows, the most: 96 products among 112 instructions.
macro_rules! tile {
    ($name:ident, $rows:literal: $($row:literal $end:ident [$a:tt $b:tt $c:tt $d:tt],)*) => {
        #[target_feature(enable = "neon,dotprod")]
        fn $name(
            left: Left,
            row: usize,
            panel: &[i8],
            out: &mut [i32],
            stride: usize,
        ) -> usize {
            let depth = panel.len() / PANEL;
            let bytes = &left.bytes[row * left.stride..][..($rows - 1) * left.stride + depth];
            let out = &mut out[..($rows - 1) * stride + PANEL];
            // SAFETY: they lie in the slice just cut, or at its end.
            let ends: [*const u8; $rows] = from_fn(|r| unsafe { bytes.as_ptr().add(r * left.stride + depth) });
            let mut sums = [[vdupq_n_s32(0); 4]; $rows];
            // SAFETY: the rows are as deep as the panel, a multiple of 64, and nothing beyond that depth is loaded.
            unsafe {
                asm!(
                    "2:",
                    $(concat!("ldr q", $row, ", [{", stringify!($end), "}, {k}]"),)*
                    ".irp four, 0, 1, 2, 3",
                    "ldp q6, q7, [{panel}], #32",
                    $(concat!("sdot ", $a, ".4s, v6.16b, v", $row, ".4b[\\four]"),)*
                    $(concat!("sdot ", $b, ".4s, v7.16b, v", $row, ".4b[\\four]"),)*
                    "ldp q6, q7, [{panel}], #32",
                    $(concat!("sdot ", $c, ".4s, v6.16b, v", $row, ".4b[\\four]"),)*
                    $(concat!("sdot ", $d, ".4s, v7.16b, v", $row, ".4b[\\four]"),)*
                    ".endr",
                    "adds {k}, {k}, #16",
                    "b.ne 2b",
                    $($end = in(reg) ends[$row],)*
                    panel = inout(reg) panel.as_ptr() => _,
                    k = inout(reg) -(depth as isize) => _,
                    $(
                        inout($a) sums[$row][0], inout($b) sums[$row][1],
                        inout($c) sums[$row][2], inout($d) sums[$row][3],
                    )*
                    out("v0") _, out("v1") _, out("v2") _, out("v3") _,
                    out("v4") _, out("v5") _, out("v6") _, out("v7") _,
                    options(nostack, readonly),
                );
            }
            for (r, sums) in sums.into_iter().enumerate() {
                // SAFETY: the last 16 of these are the last of the slice cut above.
                unsafe { store(sums, out.as_mut_ptr().add(r * stride)) }
            }
            $rows
        }
    };
}

tile!(
    six_rows, 6:
    0 end0 ["v8" "v9" "v10" "v11"],
    1 end1 ["v12" "v13" "v14" "v15"],
    2 end2 ["v16" "v17" "v18" "v19"],
    3 end3 ["v20" "v21" "v22" "v23"],
    4 end4 ["v24" "v25" "v26" "v27"],
    5 end5 ["v28" "v29" "v30" "v31"],
);

// Without v8 to v15, of which a function must leave the lower halves as they were.
tile!(
    four_rows, 4:
    0 end0 ["v16" "v17" "v18" "v19"],
    1 end1 ["v20" "v21" "v22" "v23"],
    2 end2 ["v24" "v25" "v26" "v27"],
    3 end3 ["v28" "v29" "v30" "v31"],
);
