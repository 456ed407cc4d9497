//! The layers of a vision transformer in 8-bit integers, over plain slices: what the operators in `ops/` compute.

mod attention;
mod linear;
mod mlp;
mod network;
#[cfg(test)]
pub mod network_tests;
mod patches;
mod reuse;
#[cfg(test)]
pub mod tests;
mod workers;

pub use attention::{Attention, AttentionSizes, Rows};
pub use linear::Linear;
pub use mlp::Mlp;
pub use network::{Layer, Network, Picture};
pub use patches::PatchEmbedding;
pub use reuse::{Gate, Memory};
pub use workers::Workers;
