//! Any bytes as an ONNX file, with the bytes that are left over as its external weights.
#![no_main]

use std::fs::File;
use std::io::Write;

use nix::sys::memfd::{MFdFlags, memfd_create};
use tagalong::embed::OnnxFile;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let (graph, weights) = bytes.split_at(bytes.len() - bytes.len() / 4);
    let mut file = File::from(memfd_create(c"weights", MFdFlags::empty()).expect("memory can be had"));
    file.write_all(weights).expect("memory can be had");
    for (bytes, weights) in [(bytes, None), (graph, Some(&file))] {
        if let Ok(onnx) = OnnxFile::decode(bytes, weights) {
            let _ = (onnx.is_quantized(), onnx.fixed_input_size());
            let _ = onnx.into_proto("output");
        }
    }
});
