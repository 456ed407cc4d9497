//! Any text as a model's manifest.
#![no_main]

use tagalong::embed::Manifest;

libfuzzer_sys::fuzz_target!(|text: &str| {
    if let Err(problems) = Manifest::parse(text) {
        assert!(!problems.is_empty());
    }
});
