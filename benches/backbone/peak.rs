//! What one core can multiply at most, by arithmetic: loops of nothing but the instruction, over registers.

use std::hint::black_box;
use std::time::Instant;

/// Runs of each loop; the fastest counts.
const RUNS: usize = 30;
/// Rounds of a loop.
const ROUNDS: u64 = 100_000;

/// Operations in GOP/s, two for each multiply-accumulate: `f32`, and the kernels' names.
pub fn peaks() -> Vec<(&'static str, f64)> {
    let mut peaks = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        // SAFETY: each loop is run only where the processor has its instructions.
        unsafe {
            if is_x86_feature_detected!("avx512f") {
                peaks.push(("f32", fastest(12 * 32, || x86::fma_512())));
            } else if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                peaks.push(("f32", fastest(12 * 16, || x86::fma_256())));
            }
            if is_x86_feature_detected!("avx512vnni") {
                peaks.push(("avx512vnni", fastest(12 * 128, || x86::vnni())));
            }
            if is_x86_feature_detected!("avxvnni") {
                peaks.push(("avxvnni", fastest(12 * 64, || x86::vnni_256())));
            }
            if is_x86_feature_detected!("avx2") {
                // A product by magnitudes and signs takes four instructions.
                peaks.push(("avx2", fastest(6 * 64, || x86::signed_256())));
            }
            if x86::has_tiles() {
                peaks.push(("amx", fastest(4 * 32_768, || x86::tiles())));
            }
        }
    }
    peaks
}

/// GOP/s of a loop whose round has so many operations.
#[allow(dead_code, reason = "no loop is written for other processors yet")]
fn fastest(operations: u64, run: impl Fn()) -> f64 {
    let time = || {
        let start = Instant::now();
        black_box(&run)();
        start.elapsed().as_secs_f64()
    };
    let least = (0..RUNS).map(|_| time()).fold(f64::INFINITY, f64::min);
    (operations * ROUNDS) as f64 / least / 1e9
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::asm;
    use std::arch::x86_64::{__cpuid, __cpuid_count};

    use super::ROUNDS;

    /// Instructions on accumulators of their own, round after round.
    macro_rules! rounds {
        ($name:ident, $($line:literal),+) => {
            pub unsafe fn $name() {
                // SAFETY: the caller's processor has the instruction, which works on registers alone.
                unsafe {
                    asm!(
                        "2:", $($line,)+ "dec {n}", "jnz 2b",
                        n = inout(reg) ROUNDS => _,
                        out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _, out("xmm4") _, out("xmm5") _,
                        out("xmm6") _, out("xmm7") _, out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
                        out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _,
                        options(nomem, nostack),
                    );
                }
            }
        };
    }

    rounds!(
        fma_512,
        "vfmadd231ps zmm0, zmm14, zmm15",
        "vfmadd231ps zmm1, zmm14, zmm15",
        "vfmadd231ps zmm2, zmm14, zmm15",
        "vfmadd231ps zmm3, zmm14, zmm15",
        "vfmadd231ps zmm4, zmm14, zmm15",
        "vfmadd231ps zmm5, zmm14, zmm15",
        "vfmadd231ps zmm6, zmm14, zmm15",
        "vfmadd231ps zmm7, zmm14, zmm15",
        "vfmadd231ps zmm8, zmm14, zmm15",
        "vfmadd231ps zmm9, zmm14, zmm15",
        "vfmadd231ps zmm10, zmm14, zmm15",
        "vfmadd231ps zmm11, zmm14, zmm15"
    );
    rounds!(
        fma_256,
        "vfmadd231ps ymm0, ymm14, ymm15",
        "vfmadd231ps ymm1, ymm14, ymm15",
        "vfmadd231ps ymm2, ymm14, ymm15",
        "vfmadd231ps ymm3, ymm14, ymm15",
        "vfmadd231ps ymm4, ymm14, ymm15",
        "vfmadd231ps ymm5, ymm14, ymm15",
        "vfmadd231ps ymm6, ymm14, ymm15",
        "vfmadd231ps ymm7, ymm14, ymm15",
        "vfmadd231ps ymm8, ymm14, ymm15",
        "vfmadd231ps ymm9, ymm14, ymm15",
        "vfmadd231ps ymm10, ymm14, ymm15",
        "vfmadd231ps ymm11, ymm14, ymm15"
    );
    rounds!(
        vnni,
        "vpdpbusd zmm0, zmm14, zmm15",
        "vpdpbusd zmm1, zmm14, zmm15",
        "vpdpbusd zmm2, zmm14, zmm15",
        "vpdpbusd zmm3, zmm14, zmm15",
        "vpdpbusd zmm4, zmm14, zmm15",
        "vpdpbusd zmm5, zmm14, zmm15",
        "vpdpbusd zmm6, zmm14, zmm15",
        "vpdpbusd zmm7, zmm14, zmm15",
        "vpdpbusd zmm8, zmm14, zmm15",
        "vpdpbusd zmm9, zmm14, zmm15",
        "vpdpbusd zmm10, zmm14, zmm15",
        "vpdpbusd zmm11, zmm14, zmm15"
    );
    rounds!(
        vnni_256,
        "{{vex}} vpdpbusd ymm0, ymm14, ymm15",
        "{{vex}} vpdpbusd ymm1, ymm14, ymm15",
        "{{vex}} vpdpbusd ymm2, ymm14, ymm15",
        "{{vex}} vpdpbusd ymm3, ymm14, ymm15",
        "{{vex}} vpdpbusd ymm4, ymm14, ymm15",
        "{{vex}} vpdpbusd ymm5, ymm14, ymm15",
        "{{vex}} vpdpbusd ymm6, ymm14, ymm15",
        "{{vex}} vpdpbusd ymm7, ymm14, ymm15",
        "{{vex}} vpdpbusd ymm8, ymm14, ymm15",
        "{{vex}} vpdpbusd ymm9, ymm14, ymm15",
        "{{vex}} vpdpbusd ymm10, ymm14, ymm15",
        "{{vex}} vpdpbusd ymm11, ymm14, ymm15"
    );
    rounds!(
        signed_256,
        "vpsignb ymm6, ymm14, ymm15",
        "vpmaddubsw ymm6, ymm15, ymm6",
        "vpmaddwd ymm6, ymm6, ymm13",
        "vpaddd ymm0, ymm0, ymm6",
        "vpsignb ymm7, ymm14, ymm15",
        "vpmaddubsw ymm7, ymm15, ymm7",
        "vpmaddwd ymm7, ymm7, ymm13",
        "vpaddd ymm1, ymm1, ymm7",
        "vpsignb ymm8, ymm14, ymm15",
        "vpmaddubsw ymm8, ymm15, ymm8",
        "vpmaddwd ymm8, ymm8, ymm13",
        "vpaddd ymm2, ymm2, ymm8",
        "vpsignb ymm9, ymm14, ymm15",
        "vpmaddubsw ymm9, ymm15, ymm9",
        "vpmaddwd ymm9, ymm9, ymm13",
        "vpaddd ymm3, ymm3, ymm9",
        "vpsignb ymm10, ymm14, ymm15",
        "vpmaddubsw ymm10, ymm15, ymm10",
        "vpmaddwd ymm10, ymm10, ymm13",
        "vpaddd ymm4, ymm4, ymm10",
        "vpsignb ymm11, ymm14, ymm15",
        "vpmaddubsw ymm11, ymm15, ymm11",
        "vpmaddwd ymm11, ymm11, ymm13",
        "vpaddd ymm5, ymm5, ymm11"
    );

    /// AMX-TILE and AMX-INT8, and Linux lets this process use them.
    pub fn has_tiles() -> bool {
        const BOTH: u32 = 1 << 24 | 1 << 25;
        let has = __cpuid(0).eax >= 7 && __cpuid_count(7, 0).edx & BOTH == BOTH;
        // SAFETY: this call takes two numbers and changes nothing but a permission.
        has && unsafe { libc::syscall(libc::SYS_arch_prctl, 0x1023, 18) == 0 }
    }

    #[repr(C, align(64))]
    struct TileConfig([u8; 64]);

    /// Eight tiles of 16 rows of 64 bytes.
    static CONFIG: TileConfig = {
        let mut bytes = [0; 64];
        bytes[0] = 1;
        let mut tile = 0;
        while tile < 8 {
            bytes[16 + 2 * tile] = 64;
            bytes[48 + tile] = 16;
            tile += 1;
        }
        TileConfig(bytes)
    };

    pub unsafe fn tiles() {
        // SAFETY: the caller asked for the tiles.
        unsafe {
            asm!(
                "ldtilecfg [{config}]",
                "tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3",
                "tilezero tmm4", "tilezero tmm5", "tilezero tmm6", "tilezero tmm7",
                "2:",
                "tdpbssd tmm0, tmm4, tmm6", "tdpbssd tmm1, tmm4, tmm7",
                "tdpbssd tmm2, tmm5, tmm6", "tdpbssd tmm3, tmm5, tmm7",
                "dec {n}", "jnz 2b",
                "tilerelease",
                config = in(reg) &raw const CONFIG, n = inout(reg) ROUNDS => _,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            );
        }
    }
}
