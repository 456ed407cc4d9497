//! Any text as a configuration.
#![no_main]

use std::path::Path;

use tagalong::config::Config;

libfuzzer_sys::fuzz_target!(|text: &str| {
    match Config::parse(text, Path::new("fuzzed.toml")) {
        Ok(config) => assert!(!config.camera.is_empty() && config.presets.contains_key(&config.propagate.preset)),
        Err(problems) => assert!(!problems.to_string().is_empty()),
    }
});
