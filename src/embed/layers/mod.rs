//! The layers of a vision transformer in 8-bit integers, over plain slices: what the operators in `ops/` compute.

mod attention;
mod linear;
mod mlp;
mod patches;
#[cfg(test)]
mod tests;
mod workers;

pub use attention::{Attention, AttentionSizes};
pub use linear::{Before, Linear, NormWeights};
pub use mlp::{Activation, Mlp};
pub use patches::PatchEmbedding;
pub use workers::Workers;
