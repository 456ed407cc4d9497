//! Any bytes as a PNG picture.
#![no_main]

use tagalong::picture::decode_png;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut out = Vec::new();
    if let Ok((width, height)) = decode_png(bytes, &mut out) {
        assert_eq!(out.len(), width * height * 3);
    }
});
