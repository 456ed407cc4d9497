#[path = "../../../src/embed/blocks.rs"]
pub mod blocks;
#[path = "../../../src/embed/kernels/mod.rs"]
pub mod kernels;
#[path = "../../../src/embed/layers/mod.rs"]
pub mod layers;
