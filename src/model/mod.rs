//! Offline: checkpoints and hand-made features written as ONNX, each model with its manifest and its probe.

pub mod bundled;
pub mod catalogue;
pub mod checkpoint;
pub mod describe;
pub mod fetch;
pub mod files;
pub mod import;
pub mod onnx;
pub mod quantize;
pub mod variance;
pub mod vit;
