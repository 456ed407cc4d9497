//! One object's file: safetensors with `patches` (n, dimensions) in 16-bit and `labels` (n) in 32-bit floats. Its metadata hold
//! what else is to be known, as JSON, with the digest of the tensors.

use std::collections::{BTreeMap, HashMap};

use half::f16;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::types::command::name_problem;
use crate::types::{Exemplars, Features, PatchGrid, TrackId};

/// Bytes of a file, at most.
pub const MAX_BYTES: u64 = 4 << 20;
/// Exemplars in a file, at most.
const MAX_EXEMPLARS: usize = 4096;
/// The metadata's key.
const MANIFEST: &str = "tagalong.gallery";
/// Of files that this version writes and reads.
const VERSION: u32 = 1;

/// What a file holds beside the exemplars.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    version: u32,
    pub name: String,
    /// Whose features they are.
    pub model: ModelIdentity,
    given: usize,
    share: f32,
    /// Pixels of the pictures that it was saved from, width and height; unknown of files of before this was noted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<[usize; 2]>,
    /// Under which id each camera follows it.
    pub tracks: BTreeMap<String, TrackId>,
    /// Nanoseconds since 1970 when it was saved first, and last.
    pub saved_ns: u64,
    pub changed_ns: u64,
    /// Hex, of the tensors' bytes.
    sha256: String,
}

/// The model that exemplars are of: those of another mean nothing to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelIdentity {
    pub name: String,
    /// Hex, of all that its features follow from.
    pub features: String,
    pub dim: usize,
}

/// An object of the gallery.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub manifest: Manifest,
    pub exemplars: Exemplars,
}

impl Entry {
    pub fn new(name: &str, model: ModelIdentity, exemplars: Exemplars, now_ns: u64) -> Entry {
        let manifest = Manifest {
            version: VERSION,
            name: name.to_owned(),
            model,
            given: exemplars.given,
            share: exemplars.share,
            size: None,
            tracks: BTreeMap::new(),
            saved_ns: now_ns,
            changed_ns: now_ns,
            sha256: String::new(),
        };
        Entry { manifest, exemplars }
    }

    /// The file's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let Exemplars { patches, labels, given, share } = &self.exemplars;
        let rows: Vec<u8> = patches.data.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect();
        let labels: Vec<u8> = labels.iter().flat_map(|v| v.to_le_bytes()).collect();
        let manifest =
            Manifest { given: *given, share: *share, sha256: digest(&rows, &labels), ..self.manifest.clone() };
        let count = self.exemplars.labels.len();
        let view = |dtype, shape, data| TensorView::new(dtype, shape, data).expect("as many bytes as the shape says");
        let tensors = [
            ("patches", view(Dtype::F16, vec![count, patches.dim], &rows)),
            ("labels", view(Dtype::F32, vec![count], &labels)),
        ];
        let text = serde_json::to_string(&manifest).expect("strings and numbers");
        let metadata = HashMap::from([(MANIFEST.to_owned(), text)]);
        safetensors::serialize(tensors, Some(metadata)).expect("tensors of known types")
    }

    /// Reads a file.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_bytes(bytes: &[u8]) -> Result<Entry, String> {
        let whole = |e| format!("it is no whole safetensors file: {e}");
        let tensors = SafeTensors::deserialize(bytes).map_err(whole)?;
        let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(whole)?;
        let text = metadata.metadata().as_ref().and_then(|metadata| metadata.get(MANIFEST));
        let text = text.ok_or_else(|| format!("its metadata have no `{MANIFEST}`: it is of something else"))?;
        let manifest: Manifest = serde_json::from_str(text).map_err(|e| format!("its `{MANIFEST}`: {e}"))?;
        if manifest.version != VERSION {
            return Err(format!("it is of format {}, and this version reads {VERSION}", manifest.version));
        }
        if let Some(problem) = name_problem(&manifest.name) {
            return Err(format!("its name is {problem}"));
        }
        let tensor = |name: &str, dtype| {
            let view = tensors.tensor(name).map_err(|_| format!("it has no tensor `{name}`"))?;
            if view.dtype() == dtype {
                Ok(view)
            } else {
                Err(format!("its `{name}` are of another type than {dtype:?}"))
            }
        };
        let (rows, labels) = (tensor("patches", Dtype::F16)?, tensor("labels", Dtype::F32)?);
        let dim = manifest.model.dim;
        let count = match (rows.shape(), labels.shape()) {
            ([n, columns], [m]) if n == m && *columns == dim && dim > 0 && (1..=MAX_EXEMPLARS).contains(n) => *n,
            (rows, labels) => {
                return Err(format!(
                    "its tensors of the shapes {rows:?} and {labels:?} are not those of {dim} dimensions"
                ));
            }
        };
        if digest(rows.data(), labels.data()) != manifest.sha256 {
            return Err("its tensors are not those that were written: their digest is another".into());
        }
        let data = rows.data().as_chunks().0.iter().map(|bytes| f16::from_le_bytes(*bytes).to_f32()).collect();
        let labels: Vec<f32> = labels.data().as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        let mut patches = Features::new(PatchGrid { rows: 1, cols: count, patch: 1 }, dim, data);
        patches.normalise();
        let (given, share) = (manifest.given, manifest.share);
        let sound = labels.iter().all(|label| (0.0..=1.0).contains(label)) && labels.iter().any(|label| *label > 0.0);
        if !sound || given > count || !(share > 0.0 && share <= 1.0) {
            return Err("its labels or counts are out of range".into());
        }
        Ok(Entry { manifest, exemplars: Exemplars { patches, labels, given, share } })
    }
}

fn digest(rows: &[u8], labels: &[u8]) -> String {
    let mut hash = Sha256::new();
    hash.update(rows);
    hash.update(labels);
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
