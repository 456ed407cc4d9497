//! Numbers that start on a cache line.

use std::ops::{Deref, DerefMut};

/// Bytes of a cache line, and of the widest load.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// A number of which all bits may be zero, or anything.
///
/// # Safety
/// Every pattern of bits is a value, and the alignment is at most 64.
pub unsafe trait Plain: Copy {}
// SAFETY: these are numbers.
unsafe impl Plain for u8 {}
// SAFETY: as above.
unsafe impl Plain for i8 {}
// SAFETY: as above.
unsafe impl Plain for i32 {}
// SAFETY: as above.
unsafe impl Plain for u32 {}
// SAFETY: as above.
unsafe impl Plain for u16 {}
// SAFETY: as above.
unsafe impl Plain for f32 {}

/// A slice of numbers on a cache line, of a length that can grow. What it holds after it grew is unspecified numbers.
pub struct Aligned<T> {
    lines: Vec<Line>,
    length: usize,
    kind: std::marker::PhantomData<T>,
}

impl<T: Plain> Aligned<T> {
    pub fn new() -> Aligned<T> {
        Aligned { lines: Vec::new(), length: 0, kind: std::marker::PhantomData }
    }

    pub fn zeros(length: usize) -> Aligned<T> {
        let mut new = Aligned::new();
        new.resize(length);
        new
    }

    /// What is new is zero, or was there before.
    pub fn resize(&mut self, length: usize) {
        self.lines.resize((length * size_of::<T>()).div_ceil(64), Line([0; 64]));
        self.length = length;
    }

    /// As [`Aligned::resize`], but never shrinks what is set aside.
    pub fn at_least(&mut self, length: usize) -> &mut [T] {
        if self.length < length {
            self.resize(length);
        }
        &mut self[..length]
    }
}

impl<T: Plain> Default for Aligned<T> {
    fn default() -> Self {
        Aligned::new()
    }
}

impl<T: Plain> Deref for Aligned<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: the lines hold at least `length` numbers, aligned to 64, and any bits are a number.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.length) }
    }
}

impl<T: Plain> DerefMut for Aligned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above, and the lines are borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.length) }
    }
}

/// Numbers as the bytes that they are in memory.
pub fn bytes_of<T: Plain>(numbers: &[T]) -> &[u8] {
    // SAFETY: plain numbers have no padding, and a byte needs no alignment.
    unsafe { std::slice::from_raw_parts(numbers.as_ptr().cast(), size_of_val(numbers)) }
}

/// As [`bytes_of`], to be written.
pub fn bytes_of_mut<T: Plain>(numbers: &mut [T]) -> &mut [u8] {
    // SAFETY: as above, and any bytes are a number.
    unsafe { std::slice::from_raw_parts_mut(numbers.as_mut_ptr().cast(), size_of_val(numbers)) }
}
