//! x86-64 with AMX: tiles of 16 rows of 64 bytes. Inline assembly, since the intrinsics are not stable.

use std::arch::asm;
use std::sync::OnceLock;

use super::avx512::supports_lanes;
use super::{Kernel, LaneSet, Left, PANEL, ROW_STEP, Right, Set};

/// Linux hands out the tiles to those who ask, since they make what it saves of a thread much larger:
/// `arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA)`.
const ARCH_REQ_XCOMP_PERM: libc::c_ulong = 0x1023;
const XFEATURE_XTILEDATA: libc::c_ulong = 18;

/// The operand of `ldtilecfg`: all eight tiles have 16 rows of 64 bytes.
#[repr(C, align(64))]
struct TileConfig {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    bytes_a_row: [u16; 16],
    rows: [u8; 16],
}

static CONFIG: TileConfig = {
    let mut config = TileConfig { palette: 1, start_row: 0, reserved: [0; 14], bytes_a_row: [0; 16], rows: [0; 16] };
    let mut tile = 0;
    while tile < 8 {
        config.bytes_a_row[tile] = 64;
        config.rows[tile] = 16;
        tile += 1;
    }
    config
};

pub struct Amx(());

impl Amx {
    /// Asks the kernel for the tiles; none where it refuses.
    pub fn new() -> Option<Amx> {
        static PERMITTED: OnceLock<bool> = OnceLock::new();
        let permitted = || *PERMITTED.get_or_init(|| has_tiles() && ask_for_tiles());
        (supports_lanes() && permitted()).then_some(Amx(()))
    }
}

/// CPUID leaf 7: AMX-TILE is bit 24 of EDX, AMX-INT8 bit 25.
fn has_tiles() -> bool {
    use std::arch::x86_64::{__cpuid, __cpuid_count};
    const BOTH: u32 = 1 << 24 | 1 << 25;
    __cpuid(0).eax >= 7 && __cpuid_count(7, 0).edx & BOTH == BOTH
}

#[cfg(target_os = "linux")]
fn ask_for_tiles() -> bool {
    // SAFETY: this call of `arch_prctl` takes two numbers and changes nothing but a permission.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
}

#[cfg(not(target_os = "linux"))]
fn ask_for_tiles() -> bool {
    false
}

impl Kernel for Amx {
    fn name(&self) -> &'static str {
        "amx"
    }

    fn rows_together(&self) -> usize {
        ROW_STEP
    }

    fn lanes(&self) -> LaneSet {
        LaneSet(Set::Avx512)
    }

    unsafe fn multiply(&self, left: Left, right: Right, out: &mut [i32], stride: usize) {
        // Where the last tile of a row or column has no neighbour, the second half is computed from the first again,
        // and goes nowhere.
        let mut nowhere = [0i32; ROW_STEP * PANEL];
        let panels = right.panel_count();
        for panel in (0..panels).step_by(2) {
            let two_panels = panel + 1 < panels;
            for row in (0..left.rows).step_by(2 * ROW_STEP) {
                let two_rows = row + ROW_STEP < left.rows;
                // SAFETY: both halves lie within what the caller promises, and `enter` configured the tiles.
                unsafe {
                    let a = left.bytes.as_ptr().add(row * left.stride);
                    let b = right.panels.as_ptr().add(panel * PANEL * right.depth);
                    let b2 = if two_panels { b.add(PANEL * right.depth) } else { b };
                    let c = out.as_mut_ptr().add(row * stride + panel * PANEL);
                    let (c2, stride2) = if two_panels { (c.add(PANEL), stride) } else { (nowhere.as_mut_ptr(), PANEL) };
                    let depth = right.depth / 64;
                    if two_rows {
                        let a2 = a.add(ROW_STEP * left.stride);
                        let c3 = c.add(ROW_STEP * stride);
                        let c4 = if two_panels { c3.add(PANEL) } else { nowhere.as_mut_ptr() };
                        let tiles = Tiles { a: [a, a2], b: [b, b2], c: [c, c2, c3, c4], depth };
                        four(tiles, left.stride, [4 * stride, 4 * stride2]);
                    } else {
                        let tiles = Tiles { a: [a, a], b: [b, b2], c: [c, c2, c, c2], depth };
                        two(tiles, left.stride, [4 * stride, 4 * stride2]);
                    }
                }
            }
        }
    }

    fn enter(&self) {
        // SAFETY: `new` has the kernel's permission, and the configuration is a valid one.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const CONFIG, options(nostack, readonly)) }
    }

    fn leave(&self) {
        // SAFETY: as above. Tiles in use would be saved at every switch of threads.
        unsafe { asm!("tilerelease", options(nostack, nomem)) }
    }
}

/// Where two by two tiles of a result come from and go to.
struct Tiles {
    /// Rows of the left matrix: 16 and the next 16.
    a: [*const u8; 2],
    /// Two panels.
    b: [*const i8; 2],
    /// First rows and first panel, first rows and second panel, and the same of the second rows.
    c: [*mut i32; 4],
    /// In steps of 64.
    depth: usize,
}

/// A 32 by 32 block: two tiles of the left matrix and two panels are loaded for four products.
unsafe fn four(tiles: Tiles, stride: usize, out_strides: [usize; 2]) {
    let Tiles { a: [a, a2], b: [b, b2], c: [c, c2, c3, c4], depth } = tiles;
    // SAFETY: the caller's pointers lead to whole tiles for all of the depth.
    unsafe {
        asm!(
            "tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3",
            "2:",
            "tileloadd tmm4, [{a} + {stride}]",
            "tileloadd tmm6, [{b} + {line}]",
            "tdpbssd tmm0, tmm4, tmm6",
            "tileloadd tmm7, [{b2} + {line}]",
            "tdpbssd tmm1, tmm4, tmm7",
            "tileloadd tmm5, [{a2} + {stride}]",
            "tdpbssd tmm2, tmm5, tmm6",
            "tdpbssd tmm3, tmm5, tmm7",
            "add {a}, 64", "add {a2}, 64", "add {b}, 1024", "add {b2}, 1024",
            "dec {depth}",
            "jnz 2b",
            "tilestored [{c} + {out}], tmm0",
            "tilestored [{c2} + {out2}], tmm1",
            "tilestored [{c3} + {out}], tmm2",
            "tilestored [{c4} + {out2}], tmm3",
            a = inout(reg) a => _, a2 = inout(reg) a2 => _, b = inout(reg) b => _, b2 = inout(reg) b2 => _,
            c = in(reg) c, c2 = in(reg) c2, c3 = in(reg) c3, c4 = in(reg) c4,
            stride = in(reg) stride, line = in(reg) 64usize, out = in(reg) out_strides[0],
            out2 = in(reg) out_strides[1], depth = inout(reg) depth => _,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}

/// A 16 by 32 block.
unsafe fn two(tiles: Tiles, stride: usize, out_strides: [usize; 2]) {
    let Tiles { a: [a, _], b: [b, b2], c: [c, c2, ..], depth } = tiles;
    // SAFETY: the caller's pointers lead to whole tiles for all of the depth.
    unsafe {
        asm!(
            "tilezero tmm0", "tilezero tmm1",
            "2:",
            "tileloadd tmm4, [{a} + {stride}]",
            "tileloadd tmm6, [{b} + {line}]",
            "tdpbssd tmm0, tmm4, tmm6",
            "tileloadd tmm7, [{b2} + {line}]",
            "tdpbssd tmm1, tmm4, tmm7",
            "add {a}, 64", "add {b}, 1024", "add {b2}, 1024",
            "dec {depth}",
            "jnz 2b",
            "tilestored [{c} + {out}], tmm0",
            "tilestored [{c2} + {out2}], tmm1",
            a = inout(reg) a => _, b = inout(reg) b => _, b2 = inout(reg) b2 => _,
            c = in(reg) c, c2 = in(reg) c2,
            stride = in(reg) stride, line = in(reg) 64usize, out = in(reg) out_strides[0],
            out2 = in(reg) out_strides[1], depth = inout(reg) depth => _,
            out("tmm0") _, out("tmm1") _, out("tmm4") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}
