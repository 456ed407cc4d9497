//! A model in 32-bit floats to one that computes in 8-bit integers.
//!
//! What each layer costs is measured on pictures, by the features of the whole network; what costs too much stays in
//! floats. The residual stream, LayerNorm, softmax and everything else that is no product with constant weights stay in
//! floats anyway.

mod graph;
mod linear;
mod report;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use ndarray::{Array2, Axis, s};

use self::graph::{Choice, Network, encoded};
use self::linear::{Smoothing, smoothed};
pub use self::report::{Agreement, LayerReport, QuantizeReport};
use super::files::{self, Unfinished};
use crate::embed::{
    Backbone, DataFile, Execution, InnerValues, LoadError, Manifest, ModelConfig, ModelFiles, OnnxFile, Precision,
    PreprocessError, Preprocessor, Probe, hex_digest, load, unproved,
};
use crate::types::{Features, InputTensor, PixelBuf, PixelFormat, probe_image};

/// Tokens of each picture that a layer's smoothing is chosen by.
const TOKENS: usize = 128;

/// How much may be lost: 1 minus the mean cosine of the patches' features to those of the model in floats.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    /// By one layer alone; one that loses more stays in floats.
    pub layer: f64,
    /// By all together.
    pub whole: f64,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds { layer: 0.001, whole: 0.005 }
    }
}

/// Why a model could not be quantized.
#[derive(Debug, thiserror::Error)]
pub enum QuantizeError {
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("{}: {problem}", path.display())]
    Graph { path: PathBuf, problem: String },
    #[error(transparent)]
    Preprocess(#[from] PreprocessError),
    /// There is nothing to measure by.
    #[error("no picture to measure by: two or more are needed")]
    NoPictures,
    #[error("{}: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
}

/// How far it has come.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    pub done: usize,
    pub total: usize,
    pub doing: &'a str,
}

/// Quantizes a model, and writes `NAME.onnx`, `NAME.probe` and `NAME.toml` to `folder`, over what is there.
///
/// `pictures` come in pairs that follow each other in a video: by the first of each pair the smoothing of the layers is
/// chosen, by all of them losses are measured, and between the two of a pair nearest neighbours are compared.
///
/// # Errors
/// [`QuantizeError`]; then nothing is left behind, and what was there before still is.
pub fn quantize(
    model: ModelFiles,
    pictures: &[PixelBuf],
    bounds: Bounds,
    name: &str,
    folder: &Path,
    tell: &mut dyn FnMut(Progress<'_>),
) -> Result<(QuantizeReport, Vec<PathBuf>), QuantizeError> {
    if pictures.len() < 2 {
        return Err(QuantizeError::NoPictures);
    }
    let graph = model.graph()?;
    let ModelFiles { manifest, transform, onnx_path, probe_file, .. } = model;
    let wrong = |problem: String| QuantizeError::Graph { path: onnx_path.clone(), problem };
    let network = Network::of(graph, &manifest.output).map_err(wrong)?;
    let before = encoded(&network.file()).len();
    let mut bench = Bench::new(&manifest, pictures)?;
    bench.exact = bench.features(network.file()).map_err(wrong)?;

    let mut parts = parts(&network, &bench).map_err(wrong)?;
    if parts.is_empty() {
        return Err(wrong("it has no linear layers with constant weights".into()));
    }
    let total = parts.len();
    for (done, part) in parts.iter_mut().enumerate() {
        tell(Progress { done, total: total + 1, doing: &part.name });
        let alone = BTreeMap::from([(part.name.clone(), part.choice.clone())]);
        part.loss = bench.agreement(network.quantized(&alone)).map_err(wrong)?.loss();
    }
    tell(Progress { done: total, total: total + 1, doing: "the whole" });
    // What loses most is given up first, until the rest together loses little enough.
    parts.iter_mut().for_each(|part| part.kept = part.loss.is_nan() || part.loss > bounds.layer);
    let (quantized, agreement) = loop {
        let choices = parts.iter().filter(|part| !part.kept).map(|part| (part.name.clone(), part.choice.clone()));
        let quantized = network.quantized(&choices.collect());
        let agreement = bench.agreement(quantized.clone()).map_err(wrong)?;
        let worst = parts.iter_mut().filter(|part| !part.kept).max_by(|a, b| a.loss.total_cmp(&b.loss));
        match worst {
            Some(worst) if agreement.loss() > bounds.whole => worst.kept = true,
            _ => break (quantized, agreement),
        }
    };
    if parts.iter().all(|part| part.kept) {
        return Err(wrong("every layer loses more than the bound allows: nothing would be quantized".into()));
    }

    let onnx = encoded(&quantized);
    let transform = transform.map(|transform| transform.to_bytes());
    let report = QuantizeReport {
        layers: parts.iter().map(Part::report).collect(),
        agreement,
        bytes: onnx.len(),
        bytes_before: before,
        pictures: pictures.len(),
    };
    let manifest = Manifest {
        name: name.to_owned(),
        onnx: format!("{name}.onnx"),
        sha256: hex_digest(&onnx),
        precision: Precision::Int8,
        weights: None,
        transform: transform
            .as_ref()
            .map(|bytes| DataFile { file: format!("{name}.transform"), sha256: hex_digest(bytes) }),
        probe: Probe { file: format!("{name}.probe"), ..manifest.probe.clone() },
        ..manifest.clone()
    };
    drop(bench);
    let files = write(&manifest, &onnx, &probe_file, transform.as_deref(), folder)?;
    Ok((report, files))
}

/// A part of the network that can be quantized.
struct Part {
    name: String,
    shape: Vec<usize>,
    choice: Choice,
    smoothing: f32,
    /// Of its own output.
    error: Option<f64>,
    /// Of the network's features, if it alone is quantized.
    loss: f64,
    /// In floats.
    kept: bool,
}

impl Part {
    fn report(&self) -> LayerReport {
        LayerReport {
            name: self.name.clone(),
            shape: self.shape.clone(),
            smoothing: self.smoothing,
            error: self.error,
            loss: self.loss,
            kept: self.kept,
        }
    }
}

/// All parts, each smoothed as suits it best.
fn parts(network: &Network, bench: &Bench<'_>) -> Result<Vec<Part>, String> {
    let layers = network.layers();
    let names: Vec<String> = layers.iter().map(|layer| layer.input.clone()).collect();
    let mut samples: Vec<Vec<Array2<f32>>> = layers.iter().map(|_| Vec::new()).collect();
    if !layers.is_empty() {
        let mut inner = InnerValues::new(network.file(), &names, bench.manifest.input_sizes[0])?;
        // With the probe's picture, which is like nothing else, no input is smoothed by what a few pictures lack.
        for input in bench.inputs.iter().step_by(2).chain([&bench.probe]) {
            for (sample, value) in samples.iter_mut().zip(inner.run(input)?) {
                let step = (value.nrows() / TOKENS).max(1) as isize;
                sample.push(value.slice(s![..;step, ..]).to_owned());
            }
        }
    }
    let mut parts = Vec::new();
    for (layer, sample) in layers.into_iter().zip(samples) {
        let views: Vec<_> = sample.iter().map(|rows| rows.view()).collect();
        let sample = ndarray::concatenate(Axis(0), &views).map_err(|e| e.to_string())?;
        if sample.ncols() != layer.weights.nrows() {
            return Err(format!("the layer `{}` is not fed as it should be", layer.name));
        }
        let Smoothing { exponent, by, error } = smoothed(&sample, &layer.weights, layer.foldable);
        parts.push(Part {
            shape: layer.weights.shape().to_vec(),
            name: layer.name,
            choice: Choice::Linear { smoothing: by },
            smoothing: exponent,
            error: Some(error),
            loss: 0.0,
            kept: false,
        });
    }
    parts.extend(network.constants().into_iter().map(|constant| Part {
        name: constant.name,
        shape: constant.dims.iter().map(|side| *side as usize).collect(),
        choice: Choice::Stored,
        smoothing: 0.0,
        error: None,
        loss: 0.0,
        kept: false,
    }));
    Ok(parts)
}

/// The pictures, and what the model in floats makes of them.
struct Bench<'a> {
    manifest: &'a Manifest,
    inputs: Vec<InputTensor>,
    probe: InputTensor,
    exact: Vec<Features>,
}

impl<'a> Bench<'a> {
    fn new(manifest: &'a Manifest, pictures: &[PixelBuf]) -> Result<Bench<'a>, QuantizeError> {
        let [height, width] = manifest.input_sizes[0];
        let mut preprocessor = Preprocessor::new(width, height, manifest.mean, manifest.std);
        let mut prepare = |picture: &PixelBuf| {
            let mut input = InputTensor::default();
            preprocessor.run(picture, &mut input)?;
            Ok::<_, PreprocessError>(input)
        };
        let inputs = pictures.iter().map(&mut prepare).collect::<Result<_, _>>()?;
        let probe = PixelBuf::packed(PixelFormat::Rgb3, width, height, probe_image(width, height))
            .expect("the probe's picture has the size that it was asked for");
        Ok(Bench { manifest, inputs, probe: prepare(&probe)?, exact: Vec::new() })
    }

    /// What a graph makes of all pictures.
    fn features(&self, graph: OnnxFile) -> Result<Vec<Features>, String> {
        let mut backbone = unproved(self.manifest, graph, Execution::REFERENCE)?;
        let grid = backbone.spec().grids[0];
        let embed = |input: &InputTensor| {
            let mut features = Features::zeros(grid, backbone.spec().dim);
            backbone.embed(input, &mut features).map_err(|e| e.to_string())?;
            Ok(features)
        };
        self.inputs.iter().map(embed).collect()
    }

    fn agreement(&self, graph: OnnxFile) -> Result<Agreement, String> {
        Ok(Agreement::of(&self.exact, &self.features(graph)?))
    }
}

/// Writes a quantized model, and runs it as the daemon would before it gets its name.
fn write(
    manifest: &Manifest,
    onnx: &[u8],
    probe: &[u8],
    transform: Option<&[u8]>,
    folder: &Path,
) -> Result<Vec<PathBuf>, QuantizeError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| QuantizeError::Write { path, source }
    };
    files::make_folder(folder).map_err(failed(folder))?;
    let name = |file: &Unfinished| file.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
    let onnx_file = Unfinished::new(folder.join(&manifest.onnx));
    let probe_file = Unfinished::new(folder.join(&manifest.probe.file));
    let manifest_file = Unfinished::new(folder.join(format!("{}.toml", manifest.name)));
    let transform_file = manifest.transform.as_ref().map(|known| Unfinished::new(folder.join(&known.file)));
    let trial = Manifest {
        onnx: name(&onnx_file),
        probe: Probe { file: name(&probe_file), ..manifest.probe.clone() },
        transform: manifest
            .transform
            .clone()
            .zip(transform_file.as_ref())
            .map(|(known, file)| DataFile { file: name(file), ..known }),
        ..manifest.clone()
    };
    let by = "tagalong model quantize";
    let text = trial.to_text(by);
    let mut contents = vec![(&onnx_file, onnx), (&probe_file, probe), (&manifest_file, text.as_bytes())];
    contents.extend(transform_file.as_ref().zip(transform));
    for (file, bytes) in contents {
        std::fs::write(file.path(), bytes).map_err(failed(file.target()))?;
    }
    for [height, width] in &manifest.input_sizes {
        let (manifest, input) = (manifest_file.path().to_string_lossy().into_owned(), format!("{height}x{width}"));
        load(&ModelConfig { input, ..ModelConfig::new(manifest) })?;
    }
    std::fs::write(manifest_file.path(), manifest.to_text(by)).map_err(failed(manifest_file.target()))?;
    let mut written = Vec::new();
    for file in [onnx_file, probe_file].into_iter().chain(transform_file).chain([manifest_file]) {
        let path = file.target().to_owned();
        file.finish().map_err(failed(&path))?;
        written.push(path);
    }
    Ok(written)
}
