//! What every target does with the bytes that it made.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use nix::sys::memfd::{MFdFlags, memfd_create};
use tagalong::model::checkpoint::Checkpoint;
use tagalong::model::vit::{Hints, Vit};

/// Reads a checkpoint to its last tensor, and looks for a network in it.
pub fn read(bytes: &[u8]) {
    let mut file = File::from(memfd_create(c"checkpoint", MFdFlags::empty()).expect("memory can be had"));
    file.write_all(bytes).expect("memory can be had");
    let Ok(checkpoint) = Checkpoint::of_file(file, Path::new("fuzzed")) else { return };
    for name in checkpoint.names() {
        let _ = checkpoint.floats(name);
    }
    let _ = Vit::find(&checkpoint, &Hints { heads: Some(2), ..Hints::default() });
}
