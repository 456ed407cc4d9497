//! Arithmetic of the backbone: products of 8-bit integers, and the float work before and after them.
//!
//! A [`Kernel`] multiplies a left matrix, rows of bytes, with a right one that lies in [`Panels`], and is exact: every
//! kernel gives the same 32-bit integers as [`scalar`], the oracle. What surrounds a product is a [`Pass`], written once
//! over 16 floats at a time and compiled for each instruction set.

mod aligned;
#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod avxvnni;
#[cfg(target_arch = "aarch64")]
mod dotprod;
pub mod epilogues;
#[cfg(target_arch = "aarch64")]
mod i8mm;
mod lanes;
#[cfg(target_arch = "aarch64")]
mod neon;
pub mod packing;
mod panels;
pub mod passes;
mod scalar;
#[cfg(test)]
mod tests;
#[cfg(any(target_arch = "aarch64", target_arch = "x86_64"))]
mod weights;

use std::marker::PhantomData;
use std::sync::OnceLock;

pub use aligned::{Aligned, Plain, bytes_of, bytes_of_mut};
use epilogues::{Finish, To};
pub use lanes::Pass;
pub use panels::{DEPTH_STEP, PANEL, Panels};

/// Rows of a left matrix and of a result come in multiples of this; what the last ones hold is nobody's concern.
pub const ROW_STEP: usize = 16;

/// Panels of a product before its floats are made: the sums stay near, and a product is long enough to be worth its start.
pub const PANELS_AT_ONCE: usize = 8;

/// The environment variable that names the kernel to use, for tests and comparisons.
pub const CHOICE: &str = "TAGALONG_CPU";

/// Rows of a left matrix: (rows, stride) bytes, of which the right matrix's depth counts. They are numbers in [-127, 127],
/// as the kernel wants them encoded.
#[derive(Clone, Copy)]
pub struct Left<'a> {
    /// Holds `rows`, rounded up to [`ROW_STEP`], of `stride` bytes.
    pub bytes: &'a [u8],
    pub stride: usize,
    pub rows: usize,
}

/// Some of a right matrix's panels: (depth, 16 a panel), numbers in [-128, 127].
#[derive(Clone, Copy)]
pub struct Right<'a> {
    /// (panels, depth / 4, 16, 4)
    pub panels: &'a [i8],
    /// (panels, 16), the sum of each column.
    pub sums: &'a [i32],
    /// A multiple of [`Kernel::depth_step`], and not 0.
    pub depth: usize,
}

impl<'a> Right<'a> {
    pub fn panel_count(&self) -> usize {
        self.sums.len() / PANEL
    }

    /// Panels `from` to `to`.
    pub fn part(self, from: usize, to: usize) -> Right<'a> {
        let (panel, depth) = (PANEL * self.depth, self.depth);
        Right { panels: &self.panels[from * panel..to * panel], sums: &self.sums[from * PANEL..to * PANEL], depth }
    }
}

/// Products of 8-bit integers, as one instruction set does them best.
pub trait Kernel: Send + Sync {
    /// As [`CHOICE`] names it.
    fn name(&self) -> &'static str;

    /// Is XORed onto the bytes of a left matrix when they are written.
    fn encoding(&self) -> u8 {
        0
    }

    /// Rows are shared out in multiples of this: what is left over wastes least.
    fn rows_together(&self) -> usize {
        2
    }

    /// A right matrix's depth is a multiple of this, which is [`DEPTH_STEP`] or a part of it: kernels look whether they are
    /// done after so much.
    fn depth_step(&self) -> usize {
        DEPTH_STEP
    }

    /// The float passes that go with it.
    fn lanes(&self) -> LaneSet;

    /// Multiplies; as [`Engaged::multiply`], which checks the sizes.
    ///
    /// # Safety
    /// The sizes are as `Engaged::multiply` says, and `enter` was called on this thread.
    unsafe fn multiply(&self, left: Left, right: Right, out: &mut [i32], stride: usize);

    /// Multiplies, and takes the sums to what they are for; as [`Engaged::multiply_to`], which checks the sizes.
    ///
    /// # Safety
    /// As of `multiply`.
    unsafe fn multiply_to(&self, left: Left, right: Right, sums: &mut Aligned<i32>, to: &mut To) {
        let panels = right.panel_count();
        for panel in (0..panels).step_by(PANELS_AT_ONCE) {
            let part = right.part(panel, panels.min(panel + PANELS_AT_ONCE));
            let columns = part.panel_count() * PANEL;
            let sums = sums.at_least(left.rows.next_multiple_of(ROW_STEP) * columns);
            // SAFETY: as the caller promises.
            unsafe { self.multiply(left, part, sums, columns) };
            self.lanes().run(Finish { sums: &sums[..left.rows * columns], columns, from: panel * PANEL, to });
        }
    }

    /// Makes this thread ready to multiply.
    fn enter(&self) {}

    /// Gives back what `enter` took.
    fn leave(&self) {}
}

/// A kernel that this thread is ready for. One at a time: whichever ends first ends it for all.
pub struct Engaged<'k> {
    kernel: &'k dyn Kernel,
    /// What was made ready is this thread, and no other.
    of_thread: PhantomData<*const ()>,
}

impl<'k> Engaged<'k> {
    pub fn new(kernel: &'k dyn Kernel) -> Engaged<'k> {
        kernel.enter();
        Engaged { kernel, of_thread: PhantomData }
    }

    /// `out[r * stride + c]` is the product of row `r` of the left matrix with column `c` of the right one, exact.
    ///
    /// `out` holds as many rows as `left`, rounded up to [`ROW_STEP`].
    ///
    /// # Panics
    /// When a slice is too short.
    pub fn multiply(&self, left: Left, right: Right, out: &mut [i32], stride: usize) {
        self.check(left, right);
        let length = left.rows.next_multiple_of(ROW_STEP).checked_mul(stride);
        assert!(right.panel_count() * PANEL <= stride && length.is_some_and(|length| length <= out.len()));
        // SAFETY: the sizes were just checked, and `new` called `enter` on this thread, since nothing here can be sent.
        unsafe { self.kernel.multiply(left, right, out, stride) }
    }

    /// Takes the product's sums to what they are for; some kernels set them aside in `sums` before.
    ///
    /// # Panics
    /// When a slice is too short.
    pub fn multiply_to(&self, left: Left, right: Right, sums: &mut Aligned<i32>, mut to: To) {
        self.check(left, right);
        // SAFETY: the sides were just checked, for the rest as above; epilogues write to slices alone.
        unsafe { self.kernel.multiply_to(left, right, sums, &mut to) }
    }

    /// Whether the sides of a product hold what they say.
    fn check(&self, left: Left, right: Right) {
        assert!(right.depth > 0 && right.depth.is_multiple_of(self.depth_step()) && right.depth <= left.stride);
        let length = left.rows.next_multiple_of(ROW_STEP).checked_mul(left.stride);
        assert!(length.is_some_and(|length| length <= left.bytes.len()));
        assert!(right.panels.len() == right.panel_count() * PANEL * right.depth);
    }

    pub fn depth_step(&self) -> usize {
        self.kernel.depth_step()
    }

    pub fn encoding(&self) -> u8 {
        self.kernel.encoding()
    }

    pub fn run<P: Pass>(&self, pass: P) -> P::Output {
        self.kernel.lanes().run(pass)
    }
}

impl Drop for Engaged<'_> {
    fn drop(&mut self) {
        self.kernel.leave();
    }
}

/// An instruction set that passes can be compiled for; a value of it exists only where the processor has it.
#[derive(Clone, Copy, Debug)]
pub struct LaneSet(Set);

#[derive(Clone, Copy, Debug)]
enum Set {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "aarch64")]
    Neon,
}

impl LaneSet {
    pub fn run<P: Pass>(self, pass: P) -> P::Output {
        match self.0 {
            Set::Portable => pass.run::<lanes::Portable>(),
            // SAFETY: such a set is made by a kernel alone, which is made only where the processor has the instructions.
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 => unsafe { avx2::run(pass) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Set::Avx512 => unsafe { avx512::run(pass) },
            #[cfg(target_arch = "aarch64")]
            Set::Neon => neon::run(pass),
        }
    }
}

/// The kernels that this processor has, the fastest first. The last is the oracle.
pub fn supported() -> &'static [Box<dyn Kernel>] {
    static SUPPORTED: OnceLock<Vec<Box<dyn Kernel>>> = OnceLock::new();
    SUPPORTED.get_or_init(|| {
        let mut kernels: Vec<Box<dyn Kernel>> = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            kernels.extend(amx::Amx::new().map(|kernel| Box::new(kernel) as Box<dyn Kernel>));
            kernels.extend(avx512::Avx512Vnni::new().map(|kernel| Box::new(kernel) as Box<dyn Kernel>));
            kernels.extend(avxvnni::AvxVnni::new().map(|kernel| Box::new(kernel) as Box<dyn Kernel>));
            kernels.extend(avx2::Avx2::new().map(|kernel| Box::new(kernel) as Box<dyn Kernel>));
        }
        #[cfg(target_arch = "aarch64")]
        {
            kernels.extend(i8mm::I8mm::new().map(|kernel| Box::new(kernel) as Box<dyn Kernel>));
            kernels.extend(dotprod::DotProd::new().map(|kernel| Box::new(kernel) as Box<dyn Kernel>));
            kernels.push(Box::new(neon::Neon));
        }
        kernels.push(Box::new(scalar::Scalar));
        kernels
    })
}

/// The fastest kernel, or the one that [`CHOICE`] names.
///
/// # Errors
/// A sentence, where the named one does not exist or this processor lacks it.
pub fn chosen() -> Result<&'static dyn Kernel, String> {
    let supported = supported();
    let Ok(name) = std::env::var(CHOICE) else { return Ok(supported[0].as_ref()) };
    let found = supported.iter().find(|kernel| kernel.name() == name);
    found.map(AsRef::as_ref).ok_or_else(|| {
        let names: Vec<&str> = supported.iter().map(|kernel| kernel.name()).collect();
        format!("{CHOICE}={name}: this processor has {}", names.join(", "))
    })
}
