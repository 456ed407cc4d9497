//! Any bytes as what torch.save wrote: a zip archive, whole.
#![no_main]

#[path = "checkpoint/mod.rs"]
mod checkpoint;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| checkpoint::read(bytes));
