//! Importing a large checkpoint takes little more memory than running what comes of it.
//!
//! Alone in its file: the system counts the memory of all children of a process together.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::Command;

use nix::sys::resource::{UsageWho, getrusage};

const DIM: usize = 704;
const DEPTH: usize = 24;

/// Writes a safetensors file of DINOv2's layout with weights of no meaning, and returns its length. What is small
/// beside ViT-L is large beside the program itself.
fn write_checkpoint(path: &Path) -> u64 {
    let mut tensors = vec![
        ("cls_token".to_owned(), vec![1, 1, DIM]),
        ("pos_embed".into(), vec![1, 1 + 16 * 16, DIM]),
        ("mask_token".into(), vec![1, DIM]),
        ("patch_embed.proj.weight".into(), vec![DIM, 3, 14, 14]),
        ("patch_embed.proj.bias".into(), vec![DIM]),
        ("norm.weight".into(), vec![DIM]),
        ("norm.bias".into(), vec![DIM]),
    ];
    for block in 0..DEPTH {
        for (name, shape) in [
            ("attn.qkv.weight", vec![3 * DIM, DIM]),
            ("attn.qkv.bias", vec![3 * DIM]),
            ("attn.proj.weight", vec![DIM, DIM]),
            ("attn.proj.bias", vec![DIM]),
            ("mlp.fc1.weight", vec![4 * DIM, DIM]),
            ("mlp.fc1.bias", vec![4 * DIM]),
            ("mlp.fc2.weight", vec![DIM, 4 * DIM]),
            ("mlp.fc2.bias", vec![DIM]),
            ("norm1.weight", vec![DIM]),
            ("norm1.bias", vec![DIM]),
            ("norm2.weight", vec![DIM]),
            ("norm2.bias", vec![DIM]),
            ("ls1.gamma", vec![DIM]),
            ("ls2.gamma", vec![DIM]),
        ] {
            tensors.push((format!("blocks.{block}.{name}"), shape));
        }
    }
    let mut header = serde_json::Map::new();
    let mut place = 0;
    for (name, shape) in &tensors {
        let end = place + 4 * shape.iter().product::<usize>();
        header.insert(name.clone(), serde_json::json!({"dtype": "F32", "shape": shape, "data_offsets": [place, end]}));
        place = end;
    }
    let header = serde_json::to_vec(&header).unwrap();
    let mut file = BufWriter::new(File::create(path).unwrap());
    file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    file.write_all(&header).unwrap();
    let mut state = 1u32;
    for _ in 0..place / 4 {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        file.write_all(&((state >> 8) as f32 / (1u32 << 24) as f32 * 0.1 - 0.05).to_le_bytes()).unwrap();
    }
    file.into_inner().unwrap().metadata().unwrap().len()
}

#[test]
fn import_stays_below_two_and_a_half_times_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = folder.path().join("large.safetensors");
    let length = write_checkpoint(&checkpoint);
    let output = Command::new(env!("CARGO_BIN_EXE_tagalong"))
        .args(["model", "import", "--input-sizes", "224x308", "--out"])
        .args([folder.path(), &checkpoint])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // Linux counts in units of 1024 bytes.
    let peak = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap().max_rss() as f64 * 1_024.0;
    let ratio = peak / length as f64;
    println!("{:.0} MB for a file of {:.0} MB: {ratio:.2} times", peak / 1e6, length as f64 / 1e6);
    assert!(ratio < 2.5, "{ratio:.2}");
}
