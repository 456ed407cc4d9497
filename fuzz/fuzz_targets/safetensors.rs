//! Any bytes as a checkpoint; those that begin as a safetensors file does reach its reader.
#![no_main]

#[path = "checkpoint/mod.rs"]
mod checkpoint;

libfuzzer_sys::fuzz_target!(|header: &[u8]| {
    // The length that a file begins with is right more often than chance would have it.
    let mut file = (header.len() as u64 / 2).to_le_bytes().to_vec();
    file.extend(header);
    checkpoint::read(&file);
    checkpoint::read(header);
});
