//! The threads that share a layer's work, and what each of them needs for its part.

use std::cell::RefCell;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rayon::prelude::*;

use super::attention::Tokens;
use crate::embed::kernels::{Aligned, Engaged, Kernel};

/// A kernel, and a fixed number of threads to run it on.
pub struct Workers {
    kernel: &'static dyn Kernel,
    /// None for the caller's thread alone.
    pool: Option<rayon::ThreadPool>,
    tokens: Mutex<Tokens>,
}

/// Buffers of one thread, grown to what the largest layer needs and kept.
#[derive(Default)]
pub struct Scratch {
    /// Rows as bytes: (rows, depth)
    pub left: Aligned<u8>,
    /// The rows of a second product.
    pub second: Aligned<u8>,
    /// Queries and weights of attention as right matrices.
    pub panels: Aligned<i8>,
    /// Scales of rows.
    pub scales: Aligned<f32>,
    /// (rows, columns) of a product.
    pub sums: Aligned<i32>,
    /// (rows, hidden) of an MLP; keys and values before they are quantized.
    pub floats: Aligned<f32>,
    /// One row.
    pub row: Aligned<f32>,
    /// What attention keeps of each query.
    pub state: Aligned<f32>,
}

/// Rows of a part at the least: each part reads all weights.
const LEAST_ROWS: usize = 16;

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl Workers {
    /// # Errors
    /// When the threads cannot be started.
    pub fn new(kernel: &'static dyn Kernel, threads: usize) -> Result<Workers, String> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).thread_name(|i| format!("embed-{i}"));
        let pool = (threads > 1).then(|| pool.build()).transpose().map_err(|e| e.to_string())?;
        Ok(Workers { kernel, pool, tokens: Mutex::default() })
    }

    /// The name of their kernel.
    pub fn kernel(&self) -> &'static str {
        self.kernel.name()
    }

    /// What attention's threads share. What a frame that failed left in it is overwritten by the next.
    pub fn tokens(&self) -> MutexGuard<'_, Tokens> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn threads(&self) -> usize {
        self.pool.as_ref().map_or(1, rayon::ThreadPool::current_num_threads)
    }

    /// Cuts `out` into parts of `length` numbers, the last maybe shorter, and has `f` fill them.
    pub fn share<T: Send>(
        &self,
        out: &mut [T],
        length: usize,
        f: impl Fn(usize, &mut [T], &Engaged, &mut Scratch) + Sync,
    ) {
        let work = |(index, part): (usize, &mut [T])| {
            let engaged = Engaged::new(self.kernel);
            SCRATCH.with_borrow_mut(|scratch| f(index, part, &engaged, scratch));
        };
        match &self.pool {
            Some(pool) => pool.install(|| out.par_chunks_mut(length).enumerate().with_max_len(1).for_each(work)),
            None => out.chunks_mut(length).enumerate().for_each(work),
        }
    }

    /// Runs `f` on one of the threads. What it shares out then passes among them; from outside, each share would have to
    /// wake one up first.
    pub fn within<R: Send>(&self, f: impl FnOnce() -> R + Send) -> R {
        match &self.pool {
            Some(pool) => pool.install(f),
            None => f(),
        }
    }

    /// Rows of a part, when `rows` are shared out: as many as give all parts the same, `most` or fewer.
    pub fn rows_a_part(&self, rows: usize, most: usize) -> usize {
        let threads = self.threads();
        let rounds = rows.div_ceil(most * threads).max(1);
        rows.div_ceil(rounds * threads).next_multiple_of(self.kernel.rows_together()).clamp(LEAST_ROWS, most)
    }
}
