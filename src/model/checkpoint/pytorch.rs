//! The table of contents of a file that `torch.save` wrote: a zip archive of a pickle and of each storage's bytes.
//!
//! The storages are stored, not compressed, so that a tensor is read from its place in the file; an archive with
//! compressed entries is refused, and nothing is ever unpacked.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;

use zip::{CompressionMethod, ZipArchive};

use super::pickle::{self, Storage, Tensor};
use super::{Dtype, Stored};

/// Most bytes of the pickle; that of a training checkpoint of the largest model has some millions.
const MAX_PICKLE: u64 = 32 << 20;
/// What the format before 1.6 begins with: a pickle of this number.
const LEGACY_MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];

/// Whether a file begins as those of PyTorch before 1.6 do.
pub fn is_legacy(start: &[u8]) -> bool {
    // Protocol 2, a long integer of 10 bytes.
    start.starts_with(&[0x80, 2, 0x8a, 10]) && start[4..].starts_with(&LEGACY_MAGIC)
}

/// All tensors of a file.
pub fn tensors(file: &File) -> Result<BTreeMap<String, Stored>, String> {
    let damaged = |problem: String| format!("its archive is damaged or was cut off: {problem}");
    let mut archive = ZipArchive::new(file).map_err(|e| damaged(e.to_string()))?;
    let root = archive.file_names_raw().find_map(|name| {
        let root = name.strip_suffix(b"/data.pkl")?;
        String::from_utf8(root.to_vec()).ok()
    });
    let root = root.ok_or("it is a zip archive, but not one that torch.save wrote: it holds no data.pkl")?;
    if let Some((place, length)) = entry(&mut archive, &format!("{root}/byteorder"))? {
        let order = read(file, place, length.min(16))?;
        if order != b"little" {
            return Err("its numbers are stored with the highest byte first, which is not read".into());
        }
    }
    let pickle = entry(&mut archive, &format!("{root}/data.pkl"))?;
    let (place, length) = pickle.ok_or("it holds no data.pkl")?;
    if length > MAX_PICKLE {
        return Err(format!("its data.pkl holds {length} bytes, more than the {MAX_PICKLE} that are read"));
    }
    let pickle = pickle::read(&read(file, place, length)?)?;
    let mut tensors = BTreeMap::new();
    let mut places: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for (name, tensor) in pickle {
        let Tensor { storage: Storage { key, dtype }, offset, shape, strides } = tensor;
        let (at, length) = match places.get(&key) {
            Some(place) => *place,
            None => {
                let place = entry(&mut archive, &format!("{root}/data/{key}"))?;
                let place = place.ok_or_else(|| format!("the storage {key} of `{name}` is not in the file"))?;
                places.insert(key, place);
                place
            }
        };
        let end = at.saturating_add(length);
        let at = at.saturating_add((offset as u64).saturating_mul(dtype.size() as u64));
        tensors.insert(name, Stored { dtype, shape, strides, at, end });
    }
    Ok(tensors)
}

/// Where the bytes of an entry begin, and how many they are; `None` where there is no such entry.
fn entry(archive: &mut ZipArchive<&File>, name: &str) -> Result<Option<(u64, u64)>, String> {
    let Some(index) = archive.index_for_name(name) else {
        return Ok(None);
    };
    let damaged = |problem: String| format!("its entry {name} is damaged: {problem}");
    let entry = archive.by_index_raw(index).map_err(|e| damaged(e.to_string()))?;
    if entry.compression() != CompressionMethod::Stored || entry.encrypted() {
        return Err(format!("its entry {name} is compressed or encrypted, which torch.save never does: it is refused"));
    }
    let place = entry.data_start().ok_or_else(|| damaged("its place is not known".into()))?;
    Ok(Some((place, entry.compressed_size())))
}

fn read(file: &File, place: u64, length: u64) -> Result<Vec<u8>, String> {
    let failed = |e: std::io::Error| format!("it cannot be read: {e}");
    let mut bytes = Vec::new();
    let mut part = file;
    std::io::Seek::seek(&mut part, std::io::SeekFrom::Start(place)).map_err(failed)?;
    part.take(length).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 != length {
        return Err("it ends in the middle: it is damaged or was cut off".into());
    }
    Ok(bytes)
}

/// Types of storages, as the pickle names them.
pub fn storage_dtype(class: &str) -> Option<Dtype> {
    Some(match class {
        "DoubleStorage" => Dtype::F64,
        "FloatStorage" => Dtype::F32,
        "HalfStorage" => Dtype::F16,
        "BFloat16Storage" => Dtype::Bf16,
        "LongStorage" | "ComplexFloatStorage" => Dtype::Other(8),
        "IntStorage" => Dtype::Other(4),
        "ShortStorage" => Dtype::Other(2),
        "ByteStorage" | "CharStorage" | "BoolStorage" => Dtype::Other(1),
        "ComplexDoubleStorage" => Dtype::Other(16),
        _ => return None,
    })
}
