//! Models that a study must tell from the ones that they were made of.
#![allow(dead_code, reason = "not every user of this module needs all of it")]

use std::error::Error;
use std::f64::consts::TAU;
use std::fs;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use tagalong::embed::{DataFile, Manifest, Transform, hex_digest};

/// Writes a manifest beside another one: the same network, with some dimensions of its features made larger.
pub fn loud(manifest: &Path, dim: usize, loud: &[usize], factor: f32, name: &str) -> Result<PathBuf, Box<dyn Error>> {
    let text = fs::read_to_string(manifest)?;
    let mut changed = Manifest::parse(&text).map_err(|problems| problems.join("; "))?;
    let scale = (0..dim).map(|d| if loud.contains(&d) { factor } else { 1.0 }).collect();
    let bytes = Transform::scaling(vec![0.0; dim], scale).to_bytes();
    let file = format!("{name}.transform");
    fs::write(manifest.with_file_name(&file), &bytes)?;
    changed.name = name.into();
    changed.transform = Some(DataFile { file, sha256: hex_digest(&bytes) });
    let path = manifest.with_file_name(format!("{name}.toml"));
    fs::write(&path, changed.to_text("study_controls"))?;
    Ok(path)
}

/// Writes a checkpoint of the same shapes as another one in timm's names, its weights as timm initialises them before
/// any training: matrices normal of 0.02, the patch embedding's kernels by their number of inputs, norms 1, biases 0.
pub fn random(checkpoint: &Path, seed: u64, file: &Path) -> Result<(), Box<dyn Error>> {
    let bytes = fs::read(checkpoint)?;
    let tensors = SafeTensors::deserialize(&bytes)?;
    let mut made: Vec<(String, Vec<usize>, Vec<u8>)> = Vec::new();
    // In one order, whatever the file's is.
    let mut names = tensors.names();
    names.sort_unstable();
    for (at, name) in names.into_iter().enumerate() {
        let shape = tensors.tensor(name)?.shape().to_vec();
        let count: usize = shape.iter().product();
        let deviation = match name {
            _ if name.contains("norm") && name.ends_with(".weight") => None,
            _ if name.ends_with(".bias") => Some(0.0),
            "patch_embed.proj.weight" => Some((shape[1..].iter().product::<usize>() as f64).sqrt().recip()),
            "cls_token" => Some(1e-6),
            _ => Some(0.02),
        };
        let value = |i: u64| match deviation {
            None => 1.0,
            Some(deviation) => (deviation * normal(seed, (at as u64) << 32 | i)) as f32,
        };
        made.push((name.to_owned(), shape, (0..count as u64).flat_map(|i| value(i).to_le_bytes()).collect()));
    }
    let views = made
        .iter()
        .map(|(name, shape, data)| Ok((name.clone(), TensorView::new(Dtype::F32, shape.clone(), data)?)))
        .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()?;
    Ok(safetensors::serialize_to_file(views, None, file)?)
}

/// A number of a normal distribution, by the method of Box and Muller.
fn normal(seed: u64, at: u64) -> f64 {
    let uniform = |part: u64| {
        let mut z = (seed ^ (2 * at + part).wrapping_mul(0xd134_2543_de82_ef95)).wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    };
    (-2.0 * (1.0 - uniform(0)).ln()).sqrt() * (TAU * uniform(1)).cos()
}
