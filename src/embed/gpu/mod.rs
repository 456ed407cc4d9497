//! The backbone on a graphics processor: the blocks that were recognised of a graph as a list of dispatches, by
//! [wgpu](https://wgpu.rs) on Vulkan.
//!
//! ```text
//! adapter.rs    what is told of a processor
//! device.rs     which there are, and one of them opened
//! cache.rs      what its driver compiled, kept for the next start
//! kernels.rs    shaders/ made ready, and what each is given
//! weights.rs    blocks in the form that the kernels take
//! network.rs    dispatches and buffers, planned once for an input size; a frame through them
//! absent.rs     all of it where the program was built without the feature `wgpu`
//! ```
//!
//! A driver may refuse anything at any time. Nothing here panics of it, or waits for it without an end: every error is a sentence, and
//! who gets one goes on without this processor.

mod adapter;

#[cfg(feature = "wgpu")]
mod cache;
#[cfg(feature = "wgpu")]
mod device;
#[cfg(feature = "wgpu")]
mod kernels;
#[cfg(feature = "wgpu")]
mod network;
#[cfg(feature = "wgpu")]
mod weights;

#[cfg(not(feature = "wgpu"))]
mod absent;

pub use adapter::Adapter;

#[cfg(feature = "wgpu")]
pub use {
    device::adapters,
    network::{GpuNetwork, Resident},
};

#[cfg(not(feature = "wgpu"))]
pub use absent::{GpuNetwork, Resident, adapters};

#[cfg(all(test, feature = "wgpu"))]
mod tests;

#[cfg(all(test, feature = "wgpu"))]
pub use {
    device::{Gpu, Number},
    tests::gpu as gpu_of_tests,
};
