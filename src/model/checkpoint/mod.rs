//! Checkpoints: the named tensors of a file, read one at a time.
//!
//! Opening a file reads its table of contents alone; a tensor is read when it is asked for, so that a checkpoint
//! of any size is converted in the memory of its largest tensors. Nothing in a file is ever run.

mod pickle;
mod pytorch;
mod safetensors;

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Why a checkpoint cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    #[error("{}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    /// What is wrong with what it holds.
    #[error("{}: {problem}", path.display())]
    Content { path: PathBuf, problem: String },
}

/// How one number of a tensor is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dtype {
    F64,
    F32,
    F16,
    Bf16,
    /// Something that is no float; weights are never stored so. Bytes of one number.
    Other(usize),
}

impl Dtype {
    fn size(self) -> usize {
        match self {
            Dtype::F64 => 8,
            Dtype::F32 => 4,
            Dtype::F16 | Dtype::Bf16 => 2,
            Dtype::Other(size) => size,
        }
    }
}

/// Where a tensor lies in the file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Stored {
    dtype: Dtype,
    shape: Vec<usize>,
    /// Steps between neighbours along each axis, in numbers.
    strides: Vec<usize>,
    /// Place of the first number in the file, in bytes.
    at: u64,
    /// End of the part of the file that the tensor may lie in, in bytes.
    end: u64,
}

impl Stored {
    /// Numbers in the tensor, and numbers from its first to behind its last; `None` where they cannot be counted.
    fn extent(&self) -> Option<(usize, usize)> {
        let count = self.shape.iter().try_fold(1usize, |product, side| product.checked_mul(*side))?;
        if count == 0 {
            return Some((0, 0));
        }
        let steps = self.shape.iter().zip(&self.strides);
        let last =
            steps.map(|(side, stride)| (side - 1).checked_mul(*stride)).try_fold(0usize, |a, b| a.checked_add(b?));
        Some((count, last?.checked_add(1)?))
    }
}

/// Strides of a tensor whose numbers lie one behind the other, the last axis first.
fn contiguous(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1usize; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis].saturating_mul(shape[axis]);
    }
    strides
}

/// A checkpoint whose table of contents has been read and checked.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    file: File,
    tensors: BTreeMap<String, Stored>,
}

impl Checkpoint {
    /// Opens a `.safetensors` file or a PyTorch `.pth`, told apart by what they begin with.
    ///
    /// Tensors inside nested dictionaries have their keys joined by dots, such as `model.blocks.0.norm1.weight`.
    ///
    /// # Errors
    /// When the file cannot be read, is neither, or does not hold what its table of contents says.
    pub fn open(path: &Path) -> Result<Checkpoint, CheckpointError> {
        let file = File::open(path).map_err(|source| CheckpointError::Read { path: path.to_owned(), source })?;
        Checkpoint::of_file(file, path)
    }

    /// The same of a file that is open; `path` is what it is called in errors.
    ///
    /// # Errors
    /// As those of [`Checkpoint::open`].
    pub fn of_file(file: File, path: &Path) -> Result<Checkpoint, CheckpointError> {
        let failed = |source| CheckpointError::Read { path: path.to_owned(), source };
        let wrong = |problem| CheckpointError::Content { path: path.to_owned(), problem };
        let about = file.metadata().map_err(failed)?;
        if about.is_dir() {
            return Err(wrong("it is a folder, not a checkpoint".into()));
        }
        let length = about.len();
        let mut start = [0; 16];
        let known = usize::try_from(length).unwrap_or(usize::MAX).min(start.len());
        file.read_exact_at(&mut start[..known], 0).map_err(failed)?;
        let tensors = if start.starts_with(b"PK") {
            pytorch::tensors(&file)
        } else if pytorch::is_legacy(&start[..known]) {
            Err("it was saved in the format of PyTorch before 1.6; open it there and save it again".into())
        } else if safetensors::begins(&start[..known]) {
            safetensors::tensors(&file, length)
        } else {
            Err("it is neither a safetensors file nor one that PyTorch's torch.save wrote".into())
        };
        let tensors = tensors.map_err(wrong)?;
        for (name, tensor) in &tensors {
            check_place(tensor, length).map_err(|problem| wrong(format!("`{name}` {problem}")))?;
        }
        Ok(Checkpoint { path: path.to_owned(), file, tensors })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Names of all tensors, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|tensor| &tensor.shape[..])
    }

    /// Reads a tensor, last axis first, as 32-bit floats.
    ///
    /// # Errors
    /// When there is none of this name, when it holds no floats or any that is not finite, and when the file cannot
    /// be read.
    pub fn floats(&self, name: &str) -> Result<Vec<f32>, CheckpointError> {
        let wrong = |problem: String| CheckpointError::Content { path: self.path.clone(), problem };
        let tensor = self.tensors.get(name).ok_or_else(|| wrong(format!("it has no tensor `{name}`")))?;
        if let Dtype::Other(_) = tensor.dtype {
            return Err(wrong(format!("`{name}` holds no floats")));
        }
        let (count, span) = tensor.extent().expect("checked when the file was opened");
        let mut bytes = vec![0; span * tensor.dtype.size()];
        self.file
            .read_exact_at(&mut bytes, tensor.at)
            .map_err(|source| CheckpointError::Read { path: self.path.clone(), source })?;
        let stored = floats_of(&bytes, tensor.dtype);
        let floats = if tensor.strides == contiguous(&tensor.shape) { stored } else { gather(&stored, tensor, count) };
        if let Some(at) = floats.iter().position(|value| !value.is_finite()) {
            return Err(wrong(format!("`{name}` holds {} at place {at}: these weights are damaged", floats[at])));
        }
        Ok(floats)
    }
}

/// What keeps a tensor from being read, if anything does.
fn check_place(tensor: &Stored, file_bytes: u64) -> Result<(), String> {
    let size = tensor.dtype.size() as u64;
    let claims = || "claims more numbers than the file holds".to_owned();
    let (count, span) = tensor.extent().ok_or_else(claims)?;
    let end = (span as u64).checked_mul(size).and_then(|bytes| bytes.checked_add(tensor.at)).ok_or_else(claims)?;
    if end > tensor.end.min(file_bytes) {
        return Err("lies beyond the end of its data: the file is damaged or was cut off".into());
    }
    // An expanded tensor repeats numbers, and could ask for any amount of memory.
    match (count as u64).saturating_mul(size) <= file_bytes {
        true => Ok(()),
        false => Err(claims()),
    }
}

fn floats_of(bytes: &[u8], dtype: Dtype) -> Vec<f32> {
    let pairs = || bytes.as_chunks::<2>().0.iter().map(|pair| u16::from_le_bytes(*pair));
    match dtype {
        Dtype::F64 => bytes.as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b) as f32).collect(),
        Dtype::F32 => bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
        Dtype::F16 => pairs().map(|bits| half::f16::from_bits(bits).to_f32()).collect(),
        Dtype::Bf16 => pairs().map(|bits| half::bf16::from_bits(bits).to_f32()).collect(),
        Dtype::Other(_) => Vec::new(),
    }
}

/// The numbers of a tensor that lie apart, brought together.
fn gather(stored: &[f32], tensor: &Stored, count: usize) -> Vec<f32> {
    let mut place = vec![0; tensor.shape.len()];
    let mut gathered = Vec::with_capacity(count);
    for _ in 0..count {
        gathered.push(stored[place.iter().zip(&tensor.strides).map(|(at, stride)| at * stride).sum::<usize>()]);
        for (at, side) in place.iter_mut().zip(&tensor.shape).rev() {
            *at += 1;
            if *at < *side {
                break;
            }
            *at = 0;
        }
    }
    gathered
}
