//! Offline: models written as ONNX, each with its manifest and its probe.

pub mod bundled;
pub mod describe;
pub mod onnx;
