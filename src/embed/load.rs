//! From a manifest to a backbone that has proved itself.

use std::borrow::Cow;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::manifest::Manifest;
use super::onnx::OnnxFile;
use super::tract::{OutputLayout, TractBackbone};
use super::transform::Transform;
use super::{
    Backbone, BackboneSpec, EmbedError, ModelConfig, Precision, PreprocessError, Preprocessor, Rewritten, Runtime,
};
use crate::types::{Features, InputTensor, PatchGrid, PixelBuf, PixelFormat, ProbeFeatures, probe_image};

/// The model that is part of the program.
const BUNDLED: &str = "bundled";
const BUNDLED_MANIFEST: &str = include_str!("../../models/bundled.toml");
const BUNDLED_ONNX: &[u8] = include_bytes!("../../models/bundled.onnx");
const BUNDLED_PROBE: &[u8] = include_bytes!("../../models/bundled.probe");

/// Most bytes of a manifest, a probe, a transform and an ONNX file: more is refused before it is read.
const MAX_MANIFEST: u64 = 256 << 10;
const MAX_PROBE: u64 = 64 << 20;
const MAX_TRANSFORM: u64 = 64 << 20;
const MAX_ONNX: u64 = 2 << 30;

/// Why a model cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("{}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{}: the file holds more than the {limit} bytes that are read of it", path.display())]
    TooLarge { path: PathBuf, limit: u64 },
    #[error("{}: the file is not UTF-8 text", path.display())]
    NotText { path: PathBuf },
    /// One line for each problem: file, line, key, what is wrong.
    #[error("{}", problems.iter().map(|p| format!("{}: {p}", path.display())).collect::<Vec<_>>().join("\n"))]
    Manifest { path: PathBuf, problems: Vec<String> },
    #[error("{}: its sha256 is {got}, but the manifest says {expected}: fetch or make the file again", path.display())]
    Digest { path: PathBuf, expected: String, got: String },
    #[error("the input size `{input}` is not one of the model's: {accepted} (height x width), or `auto`")]
    Input { input: String, accepted: String },
    #[error("{}: {problem}", path.display())]
    Graph { path: PathBuf, problem: String },
    #[error(
        "{}: the model computes something else than it did when it was made: its mean cosine to the probe is {cosine:.4}, \
         and at least {least} is needed", path.display()
    )]
    Probe { path: PathBuf, cosine: f32, least: f32 },
}

/// Loads the model that the configuration names, and holds it to its probe.
///
/// # Errors
/// [`LoadError`], which names the file; nothing in a file makes it panic.
pub fn load(config: &ModelConfig) -> Result<Box<dyn Backbone>, LoadError> {
    Ok(Box::new(load_tract(config)?))
}

/// As [`load`], for those who look at more of a model than the daemon does.
///
/// # Errors
/// As [`load`].
pub fn load_tract(config: &ModelConfig) -> Result<TractBackbone, LoadError> {
    let ModelFiles { manifest, graph, transform, onnx_path, probes, .. } = ModelFiles::read(&config.manifest)?;
    let sizes = sizes_in_order(&manifest.input_sizes, &config.input)?;
    let (spec, layout) = spec_of(&manifest, transform, &sizes);
    let graph_error = |problem| LoadError::Graph { path: onnx_path.clone(), problem };
    let mut backbone =
        TractBackbone::new(graph, spec, layout, Runtime { threads: config.threads, backend: config.backend })
            .map_err(graph_error)?;
    let running = sizes[0];
    let probe = manifest.input_sizes.iter().position(|size| *size == running).map(|at| &probes[at]);
    let probe = probe.ok_or_else(|| graph_error("the probe lacks this input size".into()))?;
    let cosine = probe_cosine(probe, &mut backbone).map_err(graph_error)?;
    // Floats that were rounded at load are held to what a quantized model is.
    let rounded = backbone.rewritten() != Rewritten::default();
    let least = if rounded { Precision::Int8.least_cosine() } else { manifest.precision.least_cosine() };
    if cosine.is_nan() || cosine < least {
        return Err(LoadError::Probe { path: onnx_path, cosine, least });
    }
    backbone.spec_mut().probe_cosine = cosine;
    Ok(backbone)
}

/// A graph of a model as a backbone, whatever it computes and without its transform: for making models, not for running
/// them.
///
/// # Errors
/// A sentence that says what about the graph is not as it must be.
pub fn unproved(manifest: &Manifest, graph: OnnxFile, runtime: Runtime) -> Result<TractBackbone, String> {
    let (spec, layout) = spec_of(manifest, None, &manifest.input_sizes);
    TractBackbone::new(graph, spec, layout, runtime)
}

fn spec_of(manifest: &Manifest, transform: Option<Transform>, sizes: &[[usize; 2]]) -> (BackboneSpec, OutputLayout) {
    let spec = BackboneSpec {
        name: manifest.name.clone(),
        family: manifest.family.clone(),
        sha256: manifest.sha256.to_ascii_lowercase(),
        grids: sizes.iter().map(|size| grid(*size, manifest.patch)).collect(),
        dim: 0,
        mean: manifest.mean,
        std: manifest.std,
        kernel: None,
        probe_cosine: 0.0,
    };
    let layout = OutputLayout {
        name: manifest.output.clone(),
        prefix_tokens: Some(manifest.prefix_tokens),
        dropped_dimensions: manifest.dropped_dimensions.clone(),
        transform,
    };
    (spec, layout)
}

/// An ONNX file that has no manifest, and what it does not say of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct BareModel {
    pub onnx: PathBuf,
    /// Name of the output that holds the tokens; those before the patches' are taken for prefix tokens.
    pub output: String,
    /// Side of a patch in pixels, 1 to 64.
    pub patch: usize,
    /// Subtracted from red, green and blue in [0, 1].
    pub mean: [f32; 3],
    /// What each is then divided by, 0.001 or more.
    pub std: [f32; 3],
    /// [height, width] in pixels, the default first; none for the size that the graph fixes.
    pub input_sizes: Vec<[usize; 2]>,
}

/// Loads a model that has no manifest, and so no probe: for measuring it or describing it, not for running it.
///
/// # Errors
/// [`LoadError`], which names the file.
pub fn load_bare(model: &BareModel, runtime: Runtime) -> Result<TractBackbone, LoadError> {
    let BareModel { onnx, output, patch, mean, std, input_sizes } = model;
    let graph_error = |problem: String| LoadError::Graph { path: onnx.clone(), problem };
    let ranges = (1..=64).contains(patch) && mean.iter().all(|v| v.is_finite()) && std.iter().all(|v| *v >= 0.001);
    if !ranges {
        return Err(graph_error("the patch must be 1 to 64, the mean finite, the std 0.001 or more".into()));
    }
    let (graph, sha256) = read_onnx(onnx)?;
    let sizes = match &input_sizes[..] {
        [] => vec![graph.fixed_input_size().map_err(graph_error)?],
        given => given.to_vec(),
    };
    for [height, width] in &sizes {
        if [height, width].iter().any(|side| **side == 0 || !side.is_multiple_of(*patch)) {
            let problem = format!("an input of {width}x{height} pixels is no whole number of patches of {patch}");
            return Err(graph_error(problem));
        }
    }
    let name = onnx.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let spec = BackboneSpec {
        name,
        family: "unknown".into(),
        sha256,
        grids: sizes.iter().map(|size| grid(*size, *patch)).collect(),
        dim: 0,
        mean: *mean,
        std: *std,
        kernel: None,
        probe_cosine: 1.0,
    };
    let layout = OutputLayout { name: output.clone(), prefix_tokens: None, ..OutputLayout::default() };
    TractBackbone::new(graph, spec, layout, runtime).map_err(graph_error)
}

/// Reads an ONNX file that holds its own weights: the graph, and the file's digest.
///
/// # Errors
/// [`LoadError`], which names the file.
pub fn read_onnx(path: &Path) -> Result<(OnnxFile, String), LoadError> {
    let bytes = read(path, MAX_ONNX)?;
    let graph = OnnxFile::decode(&bytes, None);
    let graph = graph.map_err(|problem| LoadError::Graph { path: path.to_owned(), problem })?;
    Ok((graph, hex_digest(&bytes)))
}

/// What a model makes of the probe's picture, at the size of `grid`, one of its own.
///
/// # Errors
/// When the model fails to run.
pub fn probe_features(backbone: &mut dyn Backbone, grid: PatchGrid) -> Result<Features, EmbedError> {
    let input = probe_input(backbone.spec(), grid)?;
    let mut features = Features::zeros(grid, backbone.spec().dim);
    backbone.embed(&input, &mut features)?;
    Ok(features)
}

/// The probe's picture, made ready for a model.
fn probe_input(spec: &BackboneSpec, grid: PatchGrid) -> Result<InputTensor, PreprocessError> {
    let (width, height) = (grid.input_width(), grid.input_height());
    let picture = PixelBuf::packed(PixelFormat::Rgb3, width, height, probe_image(width, height))
        .expect("the probe's picture has the size that it was asked for");
    let mut input = InputTensor::default();
    Preprocessor::new(width, height, spec.mean, spec.std).run(&picture, &mut input)?;
    Ok(input)
}

/// A model's files, their digests checked.
#[derive(Debug)]
pub struct ModelFiles {
    pub manifest: Manifest,
    pub graph: OnnxFile,
    pub transform: Option<Transform>,
    pub onnx_path: PathBuf,
    /// One for each of the manifest's input sizes.
    pub probes: Vec<ProbeFeatures>,
    /// The probes as they stand in their file.
    pub probe_file: Vec<u8>,
}

impl ModelFiles {
    /// Reads the model of a manifest, or `bundled`.
    ///
    /// # Errors
    /// [`LoadError`], which names the file.
    pub fn read(name: &str) -> Result<ModelFiles, LoadError> {
        if name == BUNDLED {
            let files = (Cow::Borrowed(BUNDLED_ONNX), None, BUNDLED_PROBE);
            return ModelFiles::check(parse(Path::new(BUNDLED), BUNDLED_MANIFEST)?, None, Path::new(BUNDLED), files);
        }
        let path = Path::new(name);
        let text = String::from_utf8(read(path, MAX_MANIFEST)?);
        let text = text.map_err(|_| LoadError::NotText { path: path.to_owned() })?;
        let manifest = parse(path, &text)?;
        // All are file names without a folder: what is opened lies in the manifest's own folder.
        let folder = path.parent().unwrap_or(Path::new(""));
        let onnx = read(&folder.join(&manifest.onnx), MAX_ONNX)?;
        let probe = read(&folder.join(&manifest.probe.file), MAX_PROBE)?;
        let weights =
            manifest.weights.as_ref().map(|weights| open_checked(&folder.join(&weights.file), &weights.sha256));
        let transform = manifest.transform.as_ref().map(|transform| {
            let path = folder.join(&transform.file);
            let bytes = read(&path, MAX_TRANSFORM)?;
            check_digest(&path, hex_digest(&bytes), &transform.sha256)?;
            Transform::from_bytes(&bytes).map_err(|problem| LoadError::Graph { path, problem })
        });
        ModelFiles::check(manifest, transform.transpose()?, folder, (onnx.into(), weights.transpose()?, &probe))
    }

    fn check(
        manifest: Manifest,
        transform: Option<Transform>,
        folder: &Path,
        (onnx, weights, probe): (Cow<'static, [u8]>, Option<File>, &[u8]),
    ) -> Result<ModelFiles, LoadError> {
        let (onnx_path, probe_path) = (folder.join(&manifest.onnx), folder.join(&manifest.probe.file));
        check_digest(&onnx_path, hex_digest(&onnx), &manifest.sha256)?;
        check_digest(&probe_path, hex_digest(probe), &manifest.probe.sha256)?;
        let (sizes, patches) = (manifest.input_sizes.len(), manifest.probe.patches);
        let probes: Option<Vec<ProbeFeatures>> = match probe.len() {
            0 => None,
            length if !length.is_multiple_of(sizes) => None,
            length => probe.chunks_exact(length / sizes).map(|part| ProbeFeatures::from_bytes(part, patches)).collect(),
        };
        let problem = format!("{} bytes are no {sizes} x {patches} rows of 16-bit numbers", probe.len());
        let probes = probes.ok_or(LoadError::Graph { path: probe_path, problem })?;
        let graph = OnnxFile::decode(&onnx, weights.as_ref());
        let graph = graph.map_err(|problem| LoadError::Graph { path: onnx_path.clone(), problem })?;
        Ok(ModelFiles { manifest, graph, transform, onnx_path, probes, probe_file: probe.to_vec() })
    }
}

/// Mean cosine of what `backbone` makes of the probe's picture, at the input size that it runs at, to what the model
/// made of it.
fn probe_cosine(probe: &ProbeFeatures, backbone: &mut TractBackbone) -> Result<f32, String> {
    let grid = backbone.spec().grids[0];
    let tokens =
        backbone.tokens(&probe_input(backbone.spec(), grid).map_err(|e| e.to_string())?).map_err(|e| e.to_string())?;
    let dim = tokens.ncols();
    if dim != probe.dim {
        return Err(format!("the probe has {} dimensions, the model {dim}: make the probe again", probe.dim));
    }
    let mut features = Features { grid, dim, data: tokens.into_raw_vec_and_offset().0 };
    features.normalise();
    Ok(probe.mean_cosine(&features))
}

fn parse(path: &Path, text: &str) -> Result<Manifest, LoadError> {
    Manifest::parse(text).map_err(|problems| LoadError::Manifest { path: path.to_owned(), problems })
}

/// The manifest's input sizes, with the one that `input` asks for first.
fn sizes_in_order(sizes: &[[usize; 2]], input: &str) -> Result<Vec<[usize; 2]>, LoadError> {
    let name = |[height, width]: &[usize; 2]| format!("{height}x{width}");
    let mut ordered = sizes.to_vec();
    if input != "auto" {
        let Some(at) = sizes.iter().position(|size| name(size) == input) else {
            let accepted = sizes.iter().map(name).collect::<Vec<_>>().join(", ");
            return Err(LoadError::Input { input: input.to_owned(), accepted });
        };
        ordered[..=at].rotate_right(1);
    }
    Ok(ordered)
}

fn grid([height, width]: [usize; 2], patch: usize) -> PatchGrid {
    PatchGrid { rows: height / patch, cols: width / patch, patch }
}

/// Reads a whole file of at most `limit` bytes.
fn read(path: &Path, limit: u64) -> Result<Vec<u8>, LoadError> {
    let failed = |source| LoadError::Read { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    // One byte more than is allowed, so that a file that grows, or a device, is found out as well.
    File::open(path).map_err(failed)?.take(limit + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > limit {
        return Err(LoadError::TooLarge { path: path.to_owned(), limit });
    }
    Ok(bytes)
}

/// Opens a file that is too large to be held, once its digest has been checked.
fn open_checked(path: &Path, expected: &str) -> Result<File, LoadError> {
    let failed = |source| LoadError::Read { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(failed)?;
    let mut digest = Sha256::new();
    let mut part = vec![0; 1 << 20];
    loop {
        match file.read(&mut part).map_err(failed)? {
            0 => break,
            length => digest.update(&part[..length]),
        }
    }
    check_digest(path, hex(&digest.finalize()), expected)?;
    Ok(file)
}

fn check_digest(path: &Path, got: String, expected: &str) -> Result<(), LoadError> {
    if got.eq_ignore_ascii_case(expected) {
        return Ok(());
    }
    Err(LoadError::Digest { path: path.to_owned(), expected: expected.to_owned(), got })
}

/// The SHA-256 of `bytes` in hexadecimal digits.
pub fn hex_digest(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
