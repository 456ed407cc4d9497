//! From a manifest to a backbone that has proved itself.

use std::path::{Path, PathBuf};

use super::files::{MAX_ONNX, ModelFiles, hex_digest, read};
use super::manifest::{DataFile, Manifest};
use super::onnx::OnnxFile;
use super::packed::Packed;
use super::plan::Arithmetic;
use super::tract::{OutputLayout, Source, Start, TractBackbone};
use super::transform::Transform;
use super::{
    Backbone, BackboneSpec, EmbedError, Execution, ModelConfig, Precision, PreprocessError, Preprocessor, Rewritten,
};
use crate::types::{Features, InputTensor, PatchGrid, PixelBuf, PixelFormat, ProbeFeatures, probe_image};

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
    Ok(Box::new(open(config, None, None)?))
}

/// As [`load`], with the weights as the processor takes them, and what a graphics driver compiled, kept in `folder` for the next
/// time, and taken from there. What is in there may be removed at any time; what is damaged is not used; a folder that cannot be
/// written is done without.
///
/// # Errors
/// As [`load`].
pub fn load_kept(config: &ModelConfig, folder: &Path) -> Result<Box<dyn Backbone>, LoadError> {
    Ok(Box::new(open(config, Some(folder), None)?))
}

/// As [`load_kept`], on the CPU, though a graphics processor was asked for: `why`.
///
/// # Errors
/// As [`load`].
pub fn load_on_cpu(config: &ModelConfig, folder: &Path, why: &str) -> Result<Box<dyn Backbone>, LoadError> {
    Ok(Box::new(open(config, Some(folder), Some(why))?))
}

/// Whether there is a graphics processor for a model that is to run on one.
///
/// # Errors
/// Why there is none.
pub fn find_gpu(config: &ModelConfig) -> Result<(), String> {
    let arithmetic = Arithmetic::new(config.execution(), None, None);
    arithmetic.instead().map_or(Ok(()), |why| Err(why.to_owned()))
}

/// As [`load`], for those who look at more of a model than the daemon does.
///
/// # Errors
/// As [`load`].
pub fn load_tract(config: &ModelConfig) -> Result<TractBackbone, LoadError> {
    open(config, None, None)
}

fn open(config: &ModelConfig, folder: Option<&Path>, refused: Option<&str>) -> Result<TractBackbone, LoadError> {
    let files = ModelFiles::read(&config.manifest)?;
    let sizes = sizes_in_order(&files.manifest.input_sizes, &config.input)?;
    let packed = folder.map(|folder| Packed::new(folder, &files.manifest, config.backend));
    let size = grid(sizes[0], files.manifest.patch);
    let arithmetic = Arithmetic::new(config.execution(), refused, folder);
    if arithmetic.gpu().is_none()
        && let Some(packed) = &packed
        && let Some(network) = packed.read(size)
    {
        files.check_graph()?;
        let again = Arithmetic::new(config.execution(), refused, folder);
        match proved(config, files.clone(), &sizes, Start::Network(network), Some(packed.clone()), again) {
            Ok(backbone) => return Ok(backbone),
            Err(error) => log::warn!("{}: not used: {error}", packed.path(size).display()),
        }
    }
    let graph = files.graph()?;
    proved(config, files, &sizes, Start::Graph(Box::new(graph)), packed, arithmetic)
}

/// A backbone of a model's files that agrees with its probe.
fn proved(
    config: &ModelConfig,
    files: ModelFiles,
    sizes: &[[usize; 2]],
    start: Start,
    packed: Option<Packed>,
    arithmetic: Arithmetic,
) -> Result<TractBackbone, LoadError> {
    let (manifest, onnx_path) = (files.manifest.clone(), files.onnx_path.clone());
    let graph_error = |problem| LoadError::Graph { path: onnx_path.clone(), problem };
    let at = manifest.input_sizes.iter().position(|size| *size == sizes[0]);
    let probe = at.and_then(|at| files.probes.get(at).cloned());
    let probe = probe.ok_or_else(|| graph_error("the probe lacks this input size".into()))?;
    let (spec, layout) = spec_of(&manifest, files.transform.clone(), sizes);
    let (source, reuse) = (Source::Files(Box::new(files)), config.execution().reuse);
    let opened = TractBackbone::open(start, source, packed, spec, layout, arithmetic, reuse);
    let mut backbone = opened.map_err(graph_error)?;
    loop {
        let cosine = probe_cosine(&probe, &mut backbone).map_err(graph_error)?;
        // Floats that were rounded at load are held to what a quantized model is.
        let rounded = backbone.rewritten() != Rewritten::default();
        let least = if rounded { Precision::Int8.least_cosine() } else { manifest.precision.least_cosine() };
        if cosine >= least {
            backbone.spec_mut().probe_cosine = cosine;
            return Ok(backbone);
        }
        if backbone.refine_gpu().map_err(|error| graph_error(error.to_string()))? {
            continue;
        }
        // Of a driver that computes something else, the processor is given up and not the model.
        let problem = format!("its mean cosine to the model's probe is {cosine:.4}, and at least {least} is needed");
        if !backbone.give_up_gpu(&problem).map_err(|error| graph_error(error.to_string()))? {
            return Err(LoadError::Probe { path: onnx_path, cosine, least });
        }
    }
}

/// A graph of a model as a backbone, whatever it computes and without its transform: for making models, not for running
/// them.
///
/// # Errors
/// A sentence that says what about the graph is not as it must be.
pub fn unproved(manifest: &Manifest, graph: OnnxFile, execution: Execution) -> Result<TractBackbone, String> {
    let (spec, layout) = spec_of(manifest, None, &manifest.input_sizes);
    TractBackbone::new(graph, spec, layout, execution)
}

fn spec_of(manifest: &Manifest, transform: Option<Transform>, sizes: &[[usize; 2]]) -> (BackboneSpec, OutputLayout) {
    let spec = BackboneSpec {
        name: manifest.name.clone(),
        family: manifest.family.clone(),
        sha256: manifest.sha256.to_ascii_lowercase(),
        features: features_digest(manifest),
        grids: sizes.iter().map(|size| grid(*size, manifest.patch)).collect(),
        dim: 0,
        mean: manifest.mean,
        std: manifest.std,
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

/// What two models have in common whose embeddings can be compared.
fn features_digest(manifest: &Manifest) -> String {
    let Manifest { sha256, patch, mean, std, prefix_tokens, output, dropped_dimensions, weights, transform, .. } =
        manifest;
    let digest = |file: &Option<DataFile>| file.as_ref().map(|file| file.sha256.to_ascii_lowercase());
    let all = format!(
        "{:?}",
        (
            sha256.to_ascii_lowercase(),
            digest(weights),
            digest(transform),
            patch,
            mean,
            std,
            prefix_tokens,
            output,
            dropped_dimensions
        )
    );
    hex_digest(all.as_bytes())
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
pub fn load_bare(model: &BareModel, execution: Execution) -> Result<TractBackbone, LoadError> {
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
        features: sha256.clone(),
        sha256,
        grids: sizes.iter().map(|size| grid(*size, *patch)).collect(),
        dim: 0,
        mean: *mean,
        std: *std,
        probe_cosine: 1.0,
    };
    let layout = OutputLayout { name: output.clone(), prefix_tokens: None, ..OutputLayout::default() };
    TractBackbone::new(graph, spec, layout, execution).map_err(graph_error)
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
    let mut features = Features::new(grid, dim, tokens.into_raw_vec_and_offset().0);
    features.normalise();
    Ok(probe.mean_cosine(&features))
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

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;

#[cfg(all(test, feature = "wgpu"))]
#[path = "load_gpu_tests.rs"]
mod gpu_tests;
