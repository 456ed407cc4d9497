//! DINOv2 ViT-S/14 with random weights, as a checkpoint and then as a model.

use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, TensorView};
use tagalong::model::import::{Import, import};

pub const DIM: usize = 384;
pub const PATCH: usize = 14;
const DEPTH: usize = 12;
/// Patches to each side of the grid of the position embeddings.
const TRAINED_GRID: usize = 37;

/// Makes the model in `folder`, in floats, and returns its graph.
pub fn make(folder: &Path) -> PathBuf {
    let checkpoint = folder.join("checkpoint.safetensors");
    write(&checkpoint);
    let wanted = Import { input_sizes: vec![[336, 448]], name: "random".into(), ..Import::default() };
    import(&checkpoint, &wanted, folder).expect("a checkpoint of DINOv2 is known");
    folder.join("random.onnx")
}

/// Those of attention are larger than at the start of a training: the softmax is then far from uniform, as it is in a
/// trained network.
fn write(path: &Path) {
    let mut state = 14u64;
    let mut random = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    // (name, shape, mean, standard deviation)
    let mut tensors: Vec<(String, Vec<usize>, f32, f32)> = vec![
        ("cls_token".into(), vec![1, 1, DIM], 0.0, 0.02),
        ("mask_token".into(), vec![1, DIM], 0.0, 0.02),
        ("pos_embed".into(), vec![1, 1 + TRAINED_GRID * TRAINED_GRID, DIM], 0.0, 0.02),
        ("patch_embed.proj.weight".into(), vec![DIM, 3, PATCH, PATCH], 0.0, 0.04),
        ("patch_embed.proj.bias".into(), vec![DIM], 0.0, 0.02),
        ("norm.weight".into(), vec![DIM], 1.0, 0.1),
        ("norm.bias".into(), vec![DIM], 0.0, 0.02),
    ];
    for block in 0..DEPTH {
        let mut part = |name: &str, shape: &[usize], mean: f32, deviation: f32| {
            tensors.push((format!("blocks.{block}.{name}"), shape.to_vec(), mean, deviation));
        };
        for (name, outputs, inputs, deviation) in [
            ("attn.qkv", 3 * DIM, DIM, 0.06),
            ("attn.proj", DIM, DIM, 0.05),
            ("mlp.fc1", 4 * DIM, DIM, 0.05),
            ("mlp.fc2", DIM, 4 * DIM, 0.05),
        ] {
            part(&format!("{name}.weight"), &[outputs, inputs], 0.0, deviation);
            part(&format!("{name}.bias"), &[outputs], 0.0, 0.02);
        }
        for norm in ["norm1", "norm2"] {
            part(&format!("{norm}.weight"), &[DIM], 1.0, 0.1);
            part(&format!("{norm}.bias"), &[DIM], 0.0, 0.02);
        }
        for scale in ["ls1.gamma", "ls2.gamma"] {
            part(scale, &[DIM], 0.3, 0.1);
        }
    }
    // The sum of three of them is nearly normal, with a deviation of 1.
    let mut normal = || random() + random() + random();
    let mut numbers = |shape: &[usize], mean: f32, deviation: f32| -> Vec<u8> {
        (0..shape.iter().product()).flat_map(|_| (mean + deviation * normal()).to_le_bytes()).collect()
    };
    let data: Vec<Vec<u8>> =
        tensors.iter().map(|(_, shape, mean, deviation)| numbers(shape, *mean, *deviation)).collect();
    let views = tensors.iter().zip(&data).map(|((name, shape, ..), bytes)| {
        (name.clone(), TensorView::new(Dtype::F32, shape.clone(), bytes).expect("as many numbers as the shape has"))
    });
    safetensors::serialize_to_file(views, None, path).expect("the temporary folder takes it");
}
