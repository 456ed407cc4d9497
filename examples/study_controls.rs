//! The controls of `docs/study.md`: `cargo run --example study_controls CHECKPOINT MANIFEST FOLDER`.
//!
//! Writes `random.safetensors` to the folder, a checkpoint like the one in timm's names that is given, untrained; and
//! `loud.toml` beside the manifest, the same model with five dimensions of its features made 50 times as large.

use std::path::PathBuf;

use tagalong::embed::{Backbone, ModelConfig, load_tract};

#[path = "../tests/study_controls/mod.rs"]
mod controls;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [checkpoint, manifest, folder] = &arguments[..] else {
        return Err("usage: study_controls CHECKPOINT MANIFEST FOLDER".into());
    };
    let config = ModelConfig::new(manifest.to_string_lossy());
    let dim = load_tract(&config)?.spec().dim;
    let loud: Vec<usize> = (0..5).map(|i| (2 * i + 1) * dim / 10).collect();
    let made = controls::loud(manifest, dim, &loud, 50.0, "loud")?;
    println!("{}: dimensions {loud:?} times 50", made.display());
    let random = folder.join("random.safetensors");
    controls::random(checkpoint, 1, &random)?;
    println!("{}: untrained", random.display());
    Ok(())
}
