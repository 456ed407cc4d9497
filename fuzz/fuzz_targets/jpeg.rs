//! Any bytes as a JPEG picture. Panics of the decoder are caught by the reader, so that the fuzzer's own hook, which ends the
//! process at the first, is taken out.
#![no_main]

use tagalong::picture::decode_jpeg;

libfuzzer_sys::fuzz_target!(
    init: std::panic::set_hook(Box::new(|_| {})),
    |bytes: &[u8]| {
        let mut out = Vec::new();
        if let Ok((width, height)) = decode_jpeg(bytes, &mut out) {
            assert_eq!(out.len(), width * height * 3);
        }
    }
);
