//! Networks as they are computed, kept in files: a start then needs neither the graph nor its analysis.
//!
//! A file is in the safetensors format: what the layers are as JSON in its metadata, their numbers as tensors. It is named for what it
//! was made of, holds a digest of its numbers, and is made again where it is missing, damaged or of another version.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use safetensors::tensor::{Dtype, Metadata, TensorInfo, TensorView};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Backend;
use super::blocks::{Activation, Before, NormWeights};
use super::files::{hex, hex_digest};
use super::kernels::epilogues::Then;
use super::kernels::{Aligned, PANEL, Panels, Plain, bytes_of, bytes_of_mut};
use super::layers::{Attention, AttentionSizes, Layer, Linear, Mlp, Network, PatchEmbedding};
use super::manifest::Manifest;
use crate::types::PatchGrid;

/// Raised whenever what is stored, or how a graph becomes it, changes.
const VERSION: u32 = 1;
/// Files that are kept in a folder: the newest.
const MOST_FILES: usize = 8;
/// Most bytes of a file's header.
const MAX_HEADER: u64 = 4 << 20;

/// The files of one model.
#[derive(Clone, Debug)]
pub struct Packed {
    folder: PathBuf,
    name: String,
    /// Everything that a network depends on but its input size.
    source: String,
}

/// What the layers of a network are; the keys of the file's metadata are fixed by it.
#[derive(Serialize, Deserialize)]
struct Structure {
    patch: usize,
    channels: usize,
    prefix: usize,
    patches: LinearStructure,
    layers: Vec<LayerStructure>,
}

#[derive(Serialize, Deserialize)]
enum LayerStructure {
    Attention { heads: usize, width: usize, used: usize, qkv: LinearStructure, proj: LinearStructure },
    Mlp { gated: bool, into: LinearStructure, out: LinearStructure },
    Norm,
    Linear { linear: LinearStructure, gelu: bool },
}

#[derive(Serialize, Deserialize)]
struct LinearStructure {
    inputs: usize,
    before: BeforeStructure,
}

#[derive(Serialize, Deserialize)]
enum BeforeStructure {
    Nothing,
    Norm,
    Factors,
}

impl Packed {
    pub fn new(folder: &Path, manifest: &Manifest, backend: Backend) -> Packed {
        let weights = manifest.weights.as_ref().map_or("", |weights| &weights.sha256);
        let (program, graph, output) = (env!("CARGO_PKG_VERSION"), &manifest.sha256, &manifest.output);
        let source = format!("{VERSION} {program} {graph} {weights} {backend:?} {} {output}", manifest.patch);
        Packed { folder: folder.to_owned(), name: manifest.name.clone(), source: source.to_ascii_lowercase() }
    }

    /// Where the network of an input size is kept.
    pub fn path(&self, grid: PatchGrid) -> PathBuf {
        let digest = hex_digest(self.source_of(grid).as_bytes());
        let size = format!("{}x{}", grid.input_height(), grid.input_width());
        self.folder.join(format!("{}-{size}-{}.packed", self.name, &digest[..16]))
    }

    fn source_of(&self, grid: PatchGrid) -> String {
        format!("{} {}x{}", self.source, grid.rows, grid.cols)
    }

    /// The network of an input size, where there is one that is whole.
    pub fn read(&self, grid: PatchGrid) -> Option<Network> {
        let path = self.path(grid);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) => {
                if error.kind() != std::io::ErrorKind::NotFound {
                    log::warn!("{}: not used: {error}", path.display());
                }
                return None;
            }
        };
        let network = Reader::open(&file).and_then(|reader| reader.whole(&self.source_of(grid), grid));
        network.map_err(|problem| log::warn!("{}: not used, and made again: {problem}", path.display())).ok()
    }

    /// Keeps a network for the next start. A disk that does not take it costs time at that start, and is told.
    pub fn write(&self, network: &Network, grid: PatchGrid) {
        let path = self.path(grid);
        match self.try_write(network, grid, &path) {
            Ok(()) => log::info!("{}: packed weights kept for the next start", path.display()),
            Err(problem) => log::warn!("{}: packed weights are not kept: {problem}", path.display()),
        }
    }

    fn try_write(&self, network: &Network, grid: PatchGrid, path: &Path) -> Result<(), String> {
        fs::create_dir_all(&self.folder).map_err(|e| e.to_string())?;
        let mut tensors = Tensors::default();
        let structure = tensors.network(network);
        let metadata = HashMap::from([
            ("source".to_owned(), self.source_of(grid)),
            ("structure".to_owned(), serde_json::to_string(&structure).map_err(|e| e.to_string())?),
            ("digest".to_owned(), tensors.digest()),
        ]);
        // Under its name it is whole.
        let part = path.with_extension("part");
        let written = safetensors::serialize_to_file(tensors.views()?, Some(metadata), &part)
            .map_err(|e| e.to_string())
            .and_then(|()| fs::rename(&part, path).map_err(|e| e.to_string()));
        if written.is_err() {
            let _ = fs::remove_file(&part);
        }
        self.remove_oldest();
        written
    }

    /// Those of models that were used long ago would fill the disk in the end.
    fn remove_oldest(&self) {
        let Ok(entries) = fs::read_dir(&self.folder) else { return };
        let mut files: Vec<_> = entries
            .flatten()
            .filter(|entry| entry.path().extension().is_some_and(|extension| extension == "packed"))
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
            .collect();
        files.sort();
        let many = files.len().saturating_sub(MOST_FILES);
        for (_, path) in &files[..many] {
            let _ = fs::remove_file(path);
        }
    }
}

/// The numbers of a network by their names, to be written.
#[derive(Default)]
struct Tensors<'n>(BTreeMap<String, (Dtype, Vec<usize>, &'n [u8])>);

impl<'n> Tensors<'n> {
    fn add<T: Plain>(&mut self, name: String, dtype: Dtype, shape: Vec<usize>, numbers: &'n [T]) {
        self.0.insert(name, (dtype, shape, bytes_of(numbers)));
    }

    fn floats(&mut self, name: String, numbers: &'n [f32]) {
        self.add(name, Dtype::F32, vec![numbers.len()], numbers);
    }

    fn digest(&self) -> String {
        of_all(self.0.iter().map(|(name, (_, _, bytes))| (name.clone(), Sha256::digest(bytes).to_vec())))
    }

    fn views(&self) -> Result<Vec<(&String, TensorView<'n>)>, String> {
        let view = |(name, (dtype, shape, bytes)): (_, &(Dtype, Vec<usize>, &'n [u8]))| {
            Ok((name, TensorView::new(*dtype, shape.clone(), bytes).map_err(|e| e.to_string())?))
        };
        self.0.iter().map(view).collect()
    }

    fn network(&mut self, network: &'n Network) -> Structure {
        let PatchEmbedding { patch, channels, linear, added, prefix } = &*network.patches;
        self.floats("patches.added".into(), added);
        let patches = self.linear("patches", linear);
        let layers = network.layers.iter().enumerate().map(|(index, layer)| match layer {
            Layer::Attention(attention) => {
                let Attention { sizes: AttentionSizes { heads, width, used }, qkv, scale, proj } = &**attention;
                self.floats(format!("{index}.scale"), std::slice::from_ref(scale));
                let qkv = self.linear(&format!("{index}.qkv"), qkv);
                let proj = self.linear(&format!("{index}.proj"), proj);
                LayerStructure::Attention { heads: *heads, width: *width, used: *used, qkv, proj }
            }
            Layer::Mlp(mlp) => {
                let into = self.linear(&format!("{index}.into"), &mlp.into);
                let out = self.linear(&format!("{index}.out"), &mlp.out);
                LayerStructure::Mlp { gated: mlp.activation == Activation::SwiGlu, into, out }
            }
            Layer::Norm(norm) => {
                self.norm(&index.to_string(), norm);
                LayerStructure::Norm
            }
            Layer::Linear(linear, then) => {
                let linear = self.linear(&index.to_string(), linear);
                LayerStructure::Linear { linear, gelu: *then == Then::Gelu }
            }
        });
        let layers = layers.collect();
        Structure { patch: *patch, channels: *channels, prefix: *prefix, patches, layers }
    }

    fn linear(&mut self, name: &str, Linear { before, weights, scales, bias, inputs }: &'n Linear) -> LinearStructure {
        let (data, sums) = weights.parts();
        let shape = vec![scales.len() / PANEL, weights.depth() / 4, PANEL, 4];
        self.add(format!("{name}.weights"), Dtype::I8, shape, data);
        self.add(format!("{name}.sums"), Dtype::I32, vec![sums.len()], sums);
        self.floats(format!("{name}.scales"), scales);
        self.floats(format!("{name}.bias"), bias);
        let before = match before {
            Before::Nothing => BeforeStructure::Nothing,
            Before::Norm(norm) => {
                self.norm(name, norm);
                BeforeStructure::Norm
            }
            Before::Factors(factors) => {
                self.floats(format!("{name}.factors"), factors);
                BeforeStructure::Factors
            }
        };
        LinearStructure { inputs: *inputs, before }
    }

    fn norm(&mut self, name: &str, NormWeights { gamma, beta, epsilon }: &'n NormWeights) {
        self.floats(format!("{name}.gamma"), gamma);
        self.floats(format!("{name}.beta"), beta);
        self.floats(format!("{name}.epsilon"), std::slice::from_ref(epsilon));
    }
}

/// One digest of the digests of all tensors, by their names.
fn of_all(digests: impl IntoIterator<Item = (String, Vec<u8>)>) -> String {
    let mut all = Sha256::new();
    for (name, digest) in digests {
        all.update(name);
        all.update(digest);
    }
    hex(&all.finalize())
}

/// The tensors of a file, read one by one, so that they are in memory once.
struct Reader<'f> {
    file: &'f File,
    /// Where the tensors begin.
    data: u64,
    metadata: HashMap<String, String>,
    tensors: BTreeMap<String, TensorInfo>,
    /// Digests of those that were read.
    digests: BTreeMap<String, Vec<u8>>,
}

impl<'f> Reader<'f> {
    fn open(mut file: &'f File) -> Result<Reader<'f>, String> {
        let length = file.metadata().map_err(|e| e.to_string())?.len();
        let mut size = [0; 8];
        file.read_exact(&mut size).map_err(|e| e.to_string())?;
        let size = u64::from_le_bytes(size);
        if size > MAX_HEADER {
            return Err("its header is too long".into());
        }
        let mut header = vec![0; size as usize];
        file.read_exact(&mut header).map_err(|e| e.to_string())?;
        let parsed: Metadata = serde_json::from_slice(&header).map_err(|e| format!("its header is damaged: {e}"))?;
        let metadata = parsed.metadata().clone().unwrap_or_default();
        let tensors: BTreeMap<String, TensorInfo> =
            parsed.tensors().into_iter().map(|(name, info)| (name, info.clone())).collect();
        // They do not overlap, or it would not have been parsed: what is set aside for all is no more than the file holds.
        let within = |info: &TensorInfo| {
            let (from, to) = info.data_offsets;
            from <= to && (to as u64).checked_add(size + 8).is_some_and(|end| end <= length)
        };
        if !tensors.values().all(within) {
            return Err("it was cut off".into());
        }
        Ok(Reader { file, data: size + 8, metadata, tensors, digests: BTreeMap::new() })
    }

    fn text(&self, key: &str) -> Result<&str, String> {
        self.metadata.get(key).map(String::as_str).ok_or_else(|| format!("it lacks its {key}"))
    }

    /// All of the file.
    fn whole(mut self, source: &str, grid: PatchGrid) -> Result<Network, String> {
        if self.text("source")? != source {
            return Err("it is of another model".into());
        }
        let structure = serde_json::from_str(self.text("structure")?);
        let structure: Structure = structure.map_err(|e| format!("its structure is damaged: {e}"))?;
        let network = self.network(structure)?;
        if of_all(std::mem::take(&mut self.digests)) != self.text("digest")? {
            return Err("its numbers are damaged".into());
        }
        match network.fits([grid.input_height(), grid.input_width()]) {
            true => Ok(network),
            false => Err("its layers do not fit one another".into()),
        }
    }

    fn network(&mut self, structure: Structure) -> Result<Network, String> {
        let Structure { patch, channels, prefix, patches, layers } = structure;
        let (linear, added) = (self.linear("patches", patches)?, self.floats("patches.added")?);
        let patches = Arc::new(PatchEmbedding { patch, channels, linear: Arc::new(linear), added, prefix });
        let mut read = Vec::new();
        for (index, layer) in layers.into_iter().enumerate() {
            read.push(match layer {
                LayerStructure::Attention { heads, width, used, qkv, proj } => {
                    let sizes = AttentionSizes { heads, width, used };
                    let scale = self.float(&format!("{index}.scale"))?;
                    let qkv = self.linear(&format!("{index}.qkv"), qkv)?;
                    let proj = self.linear(&format!("{index}.proj"), proj)?;
                    Layer::Attention(Arc::new(Attention { sizes, qkv, scale, proj }))
                }
                LayerStructure::Mlp { gated, into, out } => {
                    let activation = if gated { Activation::SwiGlu } else { Activation::Gelu };
                    let into = self.linear(&format!("{index}.into"), into)?;
                    let out = self.linear(&format!("{index}.out"), out)?;
                    Layer::Mlp(Arc::new(Mlp::new(into, activation, out)))
                }
                LayerStructure::Norm => Layer::Norm(Arc::new(self.norm(&index.to_string())?)),
                LayerStructure::Linear { linear, gelu } => {
                    let then = if gelu { Then::Gelu } else { Then::Store };
                    Layer::Linear(Arc::new(self.linear(&index.to_string(), linear)?), then)
                }
            });
        }
        Ok(Network { patches, layers: read })
    }

    fn linear(&mut self, name: &str, LinearStructure { inputs, before }: LinearStructure) -> Result<Linear, String> {
        let (data, sums) = (self.tensor(&format!("{name}.weights"))?, self.tensor(&format!("{name}.sums"))?);
        let weights = Panels::of_parts(data, sums).ok_or_else(|| format!("`{name}` is no matrix"))?;
        let (scales, bias) = (self.floats(&format!("{name}.scales"))?, self.floats(&format!("{name}.bias"))?);
        let before = match before {
            BeforeStructure::Nothing => Before::Nothing,
            BeforeStructure::Norm => Before::Norm(self.norm(name)?),
            BeforeStructure::Factors => Before::Factors(self.floats(&format!("{name}.factors"))?),
        };
        Ok(Linear { before, weights, scales, bias, inputs })
    }

    fn norm(&mut self, name: &str) -> Result<NormWeights, String> {
        let (gamma, beta) = (self.floats(&format!("{name}.gamma"))?, self.floats(&format!("{name}.beta"))?);
        Ok(NormWeights { gamma, beta, epsilon: self.float(&format!("{name}.epsilon"))? })
    }

    fn floats(&mut self, name: &str) -> Result<Vec<f32>, String> {
        Ok(self.tensor::<f32>(name)?.to_vec())
    }

    fn float(&mut self, name: &str) -> Result<f32, String> {
        self.floats(name)?.first().copied().ok_or_else(|| format!("`{name}` is empty"))
    }

    fn tensor<T: Plain>(&mut self, name: &str) -> Result<Aligned<T>, String> {
        let info = self.tensors.get(name).ok_or_else(|| format!("it lacks `{name}`"))?;
        let (from, to) = info.data_offsets;
        if !(to - from).is_multiple_of(size_of::<T>()) {
            return Err(format!("`{name}` is of another type"));
        }
        let mut numbers = Aligned::zeros((to - from) / size_of::<T>());
        let bytes = bytes_of_mut(&mut numbers);
        self.file.read_exact_at(bytes, self.data + from as u64).map_err(|e| e.to_string())?;
        self.digests.insert(name.to_owned(), Sha256::digest(&bytes).to_vec());
        Ok(numbers)
    }
}

#[cfg(test)]
#[path = "packed_tests.rs"]
mod tests;
