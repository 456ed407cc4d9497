//! A manifest and a probe for an ONNX file that has neither.

use std::path::Path;

use crate::embed::{
    Backbone, BareModel, Execution, LoadError, Manifest, Precision, Probe, hex_digest, load_bare, probe_features,
    read_onnx,
};
use crate::types::{PatchGrid, ProbeFeatures};

/// Patches that a probe keeps of each input size, at most.
const PROBE_PATCHES: usize = 64;

/// What a person says of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Description {
    pub name: String,
    pub family: String,
    /// Under which terms the weights may be used.
    pub licence: String,
}

/// Describes a model: its manifest, and the bytes of its probe, `NAME.probe`.
///
/// The probe is what the model itself makes of the probe's picture; for a model that computes in integers, what
/// `reference` makes of it, the same model in 32-bit floats. A runtime that computes integers wrongly cannot vouch
/// for itself.
///
/// # Errors
/// When a file cannot be read or run, when a model in integers comes without its reference, when the two differ by
/// more than a probe allows, and when the manifest would not be valid.
pub fn describe(
    model: &BareModel,
    reference: Option<&Path>,
    description: Description,
) -> Result<(Manifest, Vec<u8>), LoadError> {
    let graph_error = |problem: String| LoadError::Graph { path: model.onnx.clone(), problem };
    let mut backbone = load_bare(model, Execution::default())?;
    let (onnx, sha256) = read_onnx(&model.onnx)?;
    if sha256 != backbone.spec().sha256 {
        return Err(graph_error("the file changed while it was read".into()));
    }
    let quantized = onnx.is_quantized();
    let mut truth = match reference {
        None if quantized => {
            let problem = "it computes in 8-bit integers: its probe must come from the same model in 32-bit floats";
            return Err(graph_error(problem.into()));
        }
        None => None,
        Some(path) => Some(load_bare(&BareModel { onnx: path.to_owned(), ..model.clone() }, Execution::default())?),
    };
    let precision = if quantized { Precision::Int8 } else { Precision::Fp32 };
    let least = precision.least_cosine();
    let grids = backbone.spec().grids.clone();
    let patches = grids.iter().map(PatchGrid::len).min().unwrap_or(0).min(PROBE_PATCHES);
    let mut bytes = Vec::new();
    for grid in &grids {
        let features = probe_features(&mut backbone, *grid).map_err(|e| graph_error(e.to_string()))?;
        let probe = match &mut truth {
            None => ProbeFeatures::sample(&features, patches),
            Some(truth) => {
                let features = probe_features(truth, *grid).map_err(|e| graph_error(format!("its reference: {e}")))?;
                ProbeFeatures::sample(&features, patches)
            }
        };
        let cosine = probe.mean_cosine(&features);
        if cosine.is_nan() || cosine < least {
            return Err(LoadError::Probe { path: model.onnx.clone(), cosine, least });
        }
        bytes.extend(probe.to_bytes());
    }
    let manifest = Manifest {
        onnx: model.onnx.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        sha256,
        patch: model.patch,
        input_sizes: grids.iter().map(|grid| [grid.input_height(), grid.input_width()]).collect(),
        mean: model.mean,
        std: model.std,
        prefix_tokens: backbone.prefix_tokens(),
        output: model.output.clone(),
        precision,
        dropped_dimensions: Vec::new(),
        weights: None,
        transform: None,
        probe: Probe { file: format!("{}.probe", description.name), sha256: hex_digest(&bytes), patches },
        name: description.name,
        family: description.family,
        licence: description.licence,
    };
    Manifest::parse(&manifest.to_text("describe"))
        .map_err(|problems| LoadError::Manifest { path: model.onnx.clone(), problems })?;
    Ok((manifest, bytes))
}
