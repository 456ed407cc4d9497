//! A checkpoint to a model: ONNX, manifest and probe.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::checkpoint::{Checkpoint, CheckpointError};
use super::files::{self, Unfinished};
use super::onnx::Graph;
use super::vit::{Hints, Kind, Tap, Vit, graph};
use crate::embed::{
    DataFile, LoadError, MAX_INPUT_SIDE, Manifest, ModelConfig, Precision, Probe, hex_digest, is_name, load,
};
use crate::types::{Features, PatchGrid, ProbeFeatures, probe_image};

/// Patches that a probe keeps of each input size, at most.
const PROBE_PATCHES: usize = 64;
/// Most bytes of weights beside the graph itself: an ONNX file ends at 2 GiB.
const ONE_FILE: u64 = (2 << 30) - (64 << 20);

/// What is to be made of a checkpoint. What is `None` or empty follows from the family.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Import {
    pub hints: Hints,
    /// [height, width] in pixels, the default first.
    pub input_sizes: Vec<[usize; 2]>,
    /// A block, counted from 1.
    pub layer: Option<usize>,
    pub kind: Option<Kind>,
    pub mean: Option<[f32; 3]>,
    pub std: Option<[f32; 3]>,
    pub licence: Option<String>,
    /// What the model is called, and its files.
    pub name: String,
    /// Bytes of weights above which they get a file of their own, if not those that one file holds.
    pub split_above: Option<u64>,
}

/// A model that was written, and proved to run.
#[derive(Clone, Debug, PartialEq)]
pub struct Imported {
    pub manifest: PathBuf,
    /// All files, the manifest last.
    pub files: Vec<PathBuf>,
    /// What it is, in a sentence.
    pub summary: String,
    /// The least cosine of the running model to its probe, over the input sizes.
    pub cosine: f32,
}

/// Why a checkpoint could not be made a model.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// What was asked for does not fit the network.
    #[error("{0}")]
    Unfit(String),
    #[error("{}: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
    /// What was written does not run as it must, and was removed.
    #[error("the model that was made does not hold, and was not kept: {0}")]
    Model(#[from] LoadError),
}

/// The input sizes where none are named: one that every patch size divides.
pub const DEFAULT_SIZES: [[usize; 2]; 1] = [[336, 448]];

/// Writes `NAME.onnx`, `NAME.probe` and `NAME.toml` to `folder`, over what is there, and runs the model as the daemon
/// would.
///
/// The probe comes from the checkpoint itself, computed plainly, so that it vouches for the graph and for the runtime.
///
/// # Errors
/// [`ImportError`]; then nothing is left behind, and what was there before still is.
pub fn import(checkpoint: &Path, import: &Import, folder: &Path) -> Result<Imported, ImportError> {
    if !is_name(&import.name) {
        let rule = "it takes 1 to 64 letters, digits, `-`, `_` and `.`";
        return Err(ImportError::Unfit(format!("`{}` is no name for a model: {rule}", import.name)));
    }
    let checkpoint = Checkpoint::open(checkpoint)?;
    let vit = Vit::find(&checkpoint, &import.hints)?;
    let tap = tap_of(&vit, import)?;
    let sizes = sizes_of(&vit, &import.input_sizes)?;
    let (mean, std) = (import.mean.unwrap_or(vit.family.mean), import.std.unwrap_or(vit.family.std));
    if mean.iter().any(|v| !(-10.0..=10.0).contains(v)) || std.iter().any(|v| !(0.001..=10.0).contains(v)) {
        return Err(ImportError::Unfit("a mean is -10 to 10, a standard deviation 0.001 to 10".into()));
    }
    let (patches, probe) = probe(&vit, &sizes, tap, mean, std)?;

    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| ImportError::Write { path, source }
    };
    files::make_folder(folder).map_err(failed(folder))?;
    let onnx = Unfinished::new(folder.join(format!("{}.onnx", import.name)));
    let graph = vit.graph(&sizes, tap)?;
    let split = graph.constant_bytes() > import.split_above.unwrap_or(ONE_FILE);
    let weights_name = format!("{}.weights", import.name);
    let weights = split.then(|| Unfinished::new(folder.join(&weights_name)));
    let apart = weights.as_ref().map(|file| (&weights_name[..], file.path()));
    let (sha256, weights_sha256) = write_graph(&graph, onnx.path(), apart).map_err(failed(onnx.target()))?;
    drop(graph);
    let manifest = Manifest {
        name: import.name.clone(),
        family: vit.family.name.into(),
        onnx: format!("{}.onnx", import.name),
        sha256,
        patch: vit.sizes.patch,
        input_sizes: sizes,
        mean,
        std,
        prefix_tokens: vit.prefix_tokens(),
        output: graph::OUTPUT.into(),
        precision: Precision::Fp32,
        dropped_dimensions: Vec::new(),
        licence: import.licence.clone().unwrap_or_else(|| vit.family.licence.into()),
        weights: weights_sha256.map(|sha256| DataFile { file: weights_name, sha256 }),
        transform: None,
        probe: Probe { file: format!("{}.probe", import.name), sha256: hex_digest(&probe), patches },
    };
    let text = manifest.to_text("tagalong model import");
    Manifest::parse(&text).map_err(|problems| ImportError::Unfit(problems.join("\n")))?;
    let summary = summary(&vit, tap);
    drop(checkpoint);

    let probe_file = Unfinished::new(folder.join(&manifest.probe.file));
    std::fs::write(probe_file.path(), &probe).map_err(failed(probe_file.target()))?;
    let manifest_file = Unfinished::new(folder.join(format!("{}.toml", import.name)));
    // Proved under the names that it has for now, so that a model that fails never stands under its own.
    let trial = Manifest { onnx: file_name(onnx.path()), ..manifest.clone() };
    let trial = Manifest { probe: Probe { file: file_name(probe_file.path()), ..trial.probe.clone() }, ..trial };
    let trial_weights = trial.weights.clone().zip(weights.as_ref());
    let trial_weights = trial_weights.map(|(known, file)| DataFile { file: file_name(file.path()), ..known });
    let trial = Manifest { weights: trial_weights, ..trial };
    std::fs::write(manifest_file.path(), trial.to_text("tagalong model import"))
        .map_err(failed(manifest_file.target()))?;
    let cosine = prove(manifest_file.path(), &manifest.input_sizes)?;
    std::fs::write(manifest_file.path(), &text).map_err(failed(manifest_file.target()))?;
    let mut written = Vec::new();
    for file in [onnx].into_iter().chain(weights).chain([probe_file, manifest_file]) {
        let path = file.target().to_owned();
        file.finish().map_err(failed(&path))?;
        written.push(path);
    }
    let manifest = folder.join(format!("{}.toml", import.name));
    Ok(Imported { manifest, files: written, summary, cosine })
}

/// The layer and kind that are wanted, where the network has them.
fn tap_of(vit: &Vit<'_>, import: &Import) -> Result<Tap, ImportError> {
    let tap =
        Tap { layer: import.layer.unwrap_or_else(|| vit.default_layer()), kind: import.kind.unwrap_or(Kind::Tokens) };
    match (1..=vit.sizes.depth).contains(&tap.layer) {
        true => Ok(tap),
        false => Err(ImportError::Unfit(format!("it has blocks 1 to {}, and no {}", vit.sizes.depth, tap.layer))),
    }
}

fn sizes_of(vit: &Vit<'_>, given: &[[usize; 2]]) -> Result<Vec<[usize; 2]>, ImportError> {
    let patch = vit.sizes.patch;
    let mut sizes: Vec<[usize; 2]> = Vec::new();
    for size in if given.is_empty() { &DEFAULT_SIZES[..] } else { given } {
        if size.iter().any(|side| *side == 0 || !side.is_multiple_of(patch) || *side > MAX_INPUT_SIDE) {
            let [height, width] = size;
            let near = |side: usize| ((side + patch / 2) / patch).clamp(1, MAX_INPUT_SIDE / patch) * patch;
            return Err(ImportError::Unfit(format!(
                "the input size {height}x{width} is no whole number of patches of {patch} pixels up to {MAX_INPUT_SIDE}; \
                 {}x{} is",
                near(*height),
                near(*width)
            )));
        }
        // A size that is named twice would be tested twice.
        if !sizes.contains(size) {
            sizes.push(*size);
        }
    }
    Ok(sizes)
}

/// What the network makes of the probe's picture at each size: patches of each, and the file's bytes.
fn probe(
    vit: &Vit<'_>,
    sizes: &[[usize; 2]],
    tap: Tap,
    mean: [f32; 3],
    std: [f32; 3],
) -> Result<(usize, Vec<u8>), ImportError> {
    let patch = vit.sizes.patch;
    let grid = |[height, width]: [usize; 2]| PatchGrid { rows: height / patch, cols: width / patch, patch };
    let patches = sizes.iter().map(|size| grid(*size).len()).min().unwrap_or(0).min(PROBE_PATCHES);
    let mut bytes = Vec::new();
    for size in sizes {
        let [height, width] = *size;
        let picture = normalised(&probe_image(width, height), mean, std);
        let output = vit.forward(&picture, *size, tap)?;
        let data = output.as_standard_layout().iter().copied().collect();
        let mut features = Features::new(grid(*size), output.ncols(), data);
        features.normalise();
        if features.data.iter().all(|value| *value == 0.0) {
            return Err(ImportError::Unfit("the network's features are all zero or not finite: it is damaged".into()));
        }
        bytes.extend(ProbeFeatures::sample(&features, patches).to_bytes());
    }
    Ok((patches, bytes))
}

/// An RGB picture, (height, width, 3), as the network takes it: (3, height, width).
pub fn normalised(rgb: &[u8], mean: [f32; 3], std: [f32; 3]) -> Vec<f32> {
    let channel = |c: usize| rgb.iter().skip(c).step_by(3).map(move |v| (f32::from(*v) / 255.0 - mean[c]) / std[c]);
    (0..3).flat_map(channel).collect()
}

/// Writes the graph, its weights to a file of their own if one is named, and returns the digests of both.
fn write_graph(graph: &Graph<'_>, onnx: &Path, weights: Option<(&str, &Path)>) -> io::Result<(String, Option<String>)> {
    let mut onnx = Digesting::create(onnx)?;
    let Some((name, path)) = weights else {
        graph.write(&mut onnx, None)?;
        return Ok((onnx.finish()?, None));
    };
    let mut weights = Digesting::create(path)?;
    graph.write(&mut onnx, Some((name, &mut weights)))?;
    Ok((onnx.finish()?, Some(weights.finish()?)))
}

/// A file whose digest is taken as it is written.
struct Digesting {
    file: BufWriter<File>,
    digest: Sha256,
}

impl Digesting {
    fn create(path: &Path) -> io::Result<Digesting> {
        Ok(Digesting { file: BufWriter::with_capacity(1 << 20, File::create(path)?), digest: Sha256::new() })
    }

    fn finish(self) -> io::Result<String> {
        self.file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        Ok(self.digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

impl Write for Digesting {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.digest.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Runs the model at each of its input sizes, as the daemon would: the least cosine to its probe.
fn prove(manifest: &Path, sizes: &[[usize; 2]]) -> Result<f32, LoadError> {
    let mut least = 1.0f32;
    for [height, width] in sizes {
        let input = format!("{height}x{width}");
        let config = ModelConfig { input, ..ModelConfig::new(manifest.to_string_lossy()) };
        least = least.min(load(&config)?.spec().probe_cosine);
    }
    Ok(least)
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn summary(vit: &Vit<'_>, tap: Tap) -> String {
    let sizes = vit.sizes;
    let registers = match sizes.registers {
        0 => String::new(),
        count => format!(", {count} registers"),
    };
    let kind = match tap.kind {
        Kind::Tokens => "tokens",
        Kind::Keys => "keys",
    };
    let mlp = if vit.gated { ", SwiGLU" } else { "" };
    format!(
        "{} ({}): {} blocks of {} dimensions and {} heads{mlp}, patches of {} pixels{registers}; features are the \
         {kind} of block {}",
        vit.family.title, vit.because, sizes.depth, sizes.dim, sizes.heads, sizes.patch, tap.layer,
    )
}
