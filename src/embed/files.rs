//! The files of a model: found by its manifest, bounded, their digests checked.

use std::borrow::Cow;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::load::LoadError;
use super::manifest::Manifest;
use super::onnx::OnnxFile;
use super::transform::Transform;
use crate::types::ProbeFeatures;

/// The model that is part of the program.
/// What a configuration calls the model that is built in.
pub const BUNDLED: &str = "bundled";
const BUNDLED_MANIFEST: &str = include_str!("../../models/bundled.toml");
const BUNDLED_ONNX: &[u8] = include_bytes!("../../models/bundled.onnx");
const BUNDLED_PROBE: &[u8] = include_bytes!("../../models/bundled.probe");

/// Most bytes of a manifest, a probe, a transform and an ONNX file: more is refused before it is read.
const MAX_MANIFEST: u64 = 256 << 10;
const MAX_PROBE: u64 = 64 << 20;
const MAX_TRANSFORM: u64 = 64 << 20;
pub const MAX_ONNX: u64 = 2 << 30;

/// A model's files. All but the graph is read at once, and its digests are checked.
#[derive(Clone, Debug)]
pub struct ModelFiles {
    pub manifest: Manifest,
    pub transform: Option<Transform>,
    pub onnx_path: PathBuf,
    /// One for each of the manifest's input sizes.
    pub probes: Vec<ProbeFeatures>,
    /// The probes as they stand in their file.
    pub probe_file: Vec<u8>,
    /// Where they lie; none for the bundled ones.
    folder: Option<PathBuf>,
}

impl ModelFiles {
    /// Reads the model of a manifest, or `bundled`.
    ///
    /// # Errors
    /// [`LoadError`], which names the file.
    pub fn read(name: &str) -> Result<ModelFiles, LoadError> {
        if name == BUNDLED {
            let manifest = parse(Path::new(BUNDLED), BUNDLED_MANIFEST)?;
            return ModelFiles::check(manifest, None, None, BUNDLED_PROBE.to_vec());
        }
        let path = Path::new(name);
        let text = String::from_utf8(read(path, MAX_MANIFEST)?);
        let text = text.map_err(|_| LoadError::NotText { path: path.to_owned() })?;
        let manifest = parse(path, &text)?;
        // All are file names without a folder: what is opened lies in the manifest's own folder.
        let folder = path.parent().unwrap_or(Path::new(""));
        let probe = read(&folder.join(&manifest.probe.file), MAX_PROBE)?;
        let transform = manifest.transform.as_ref().map(|transform| {
            let path = folder.join(&transform.file);
            let bytes = read(&path, MAX_TRANSFORM)?;
            check_digest(&path, hex_digest(&bytes), &transform.sha256)?;
            Transform::from_bytes(&bytes).map_err(|problem| LoadError::Graph { path, problem })
        });
        ModelFiles::check(manifest, transform.transpose()?, Some(folder), probe)
    }

    fn check(
        manifest: Manifest,
        transform: Option<Transform>,
        folder: Option<&Path>,
        probe: Vec<u8>,
    ) -> Result<ModelFiles, LoadError> {
        let place = |file: &str| folder.unwrap_or(Path::new(BUNDLED)).join(file);
        let (onnx_path, probe_path) = (place(&manifest.onnx), place(&manifest.probe.file));
        check_digest(&probe_path, hex_digest(&probe), &manifest.probe.sha256)?;
        let (sizes, patches) = (manifest.input_sizes.len(), manifest.probe.patches);
        let probes: Option<Vec<ProbeFeatures>> = match probe.len() {
            0 => None,
            length if !length.is_multiple_of(sizes) => None,
            length => probe.chunks_exact(length / sizes).map(|part| ProbeFeatures::from_bytes(part, patches)).collect(),
        };
        let problem = format!("{} bytes are no {sizes} x {patches} rows of 16-bit numbers", probe.len());
        let probes = probes.ok_or(LoadError::Graph { path: probe_path, problem })?;
        let folder = folder.map(Path::to_owned);
        Ok(ModelFiles { manifest, transform, onnx_path, probes, probe_file: probe, folder })
    }

    /// Reads the graph, with all its weights.
    ///
    /// # Errors
    /// [`LoadError`], which names the file.
    pub fn graph(&self) -> Result<OnnxFile, LoadError> {
        let (onnx, weights) = match &self.folder {
            None => (Cow::Borrowed(BUNDLED_ONNX), None),
            Some(folder) => {
                let weights = self.manifest.weights.as_ref();
                let weights = weights.map(|weights| open_checked(&folder.join(&weights.file), &weights.sha256));
                (Cow::Owned(read(&self.onnx_path, MAX_ONNX)?), weights.transpose()?)
            }
        };
        check_digest(&self.onnx_path, hex_digest(&onnx), &self.manifest.sha256)?;
        let graph = OnnxFile::decode(&onnx, weights.as_ref());
        graph.map_err(|problem| LoadError::Graph { path: self.onnx_path.clone(), problem })
    }

    /// Whether the graph's files are what the manifest says, without holding them.
    ///
    /// # Errors
    /// [`LoadError`], which names the file.
    pub fn check_graph(&self) -> Result<(), LoadError> {
        let Some(folder) = &self.folder else { return Ok(()) };
        if let Some(weights) = &self.manifest.weights {
            open_checked(&folder.join(&weights.file), &weights.sha256)?;
        }
        open_checked(&self.onnx_path, &self.manifest.sha256).map(drop)
    }
}

fn parse(path: &Path, text: &str) -> Result<Manifest, LoadError> {
    Manifest::parse(text).map_err(|problems| LoadError::Manifest { path: path.to_owned(), problems })
}

/// Reads a whole file of at most `limit` bytes.
pub fn read(path: &Path, limit: u64) -> Result<Vec<u8>, LoadError> {
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

pub fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
