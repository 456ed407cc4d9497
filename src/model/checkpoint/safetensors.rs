//! The table of contents of a safetensors file: a length, a header in JSON, the numbers.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;

use ::safetensors::Dtype as Theirs;
use ::safetensors::tensor::Metadata;

use super::{Dtype, Stored, contiguous};

/// Bytes of the length that the file begins with.
const LENGTH: u64 = 8;
/// Most bytes of a header; that of the largest model that is imported has some 100,000.
const MAX_HEADER: u64 = 16 << 20;

/// Whether a file that begins so can be one: its header is a JSON object.
pub fn begins(start: &[u8]) -> bool {
    start.get(LENGTH as usize) == Some(&b'{')
}

/// All tensors of a file of `length` bytes.
pub fn tensors(file: &File, length: u64) -> Result<BTreeMap<String, Stored>, String> {
    let mut header_length = [0; LENGTH as usize];
    file.read_exact_at(&mut header_length, 0).map_err(|e| format!("its length cannot be read: {e}"))?;
    let header_length = u64::from_le_bytes(header_length);
    let data = header_length.checked_add(LENGTH).filter(|data| *data <= length);
    let data = data.ok_or("its header is longer than the file: it is damaged or was cut off")?;
    if header_length > MAX_HEADER {
        return Err(format!("its header holds {header_length} bytes, more than the {MAX_HEADER} that are read"));
    }
    let mut header = vec![0; header_length as usize];
    file.read_exact_at(&mut header, LENGTH).map_err(|e| format!("its header cannot be read: {e}"))?;
    let damaged = |problem: String| format!("its header is damaged: {problem}");
    let metadata: Metadata = serde_json::from_slice(&header).map_err(|e| damaged(e.to_string()))?;
    let listed = metadata.offset_keys().into_iter().filter_map(|name| {
        let info = metadata.info(&name)?.clone();
        Some((name, info))
    });
    // Made anew, it is checked as well: places without gaps, that fit shapes and types.
    let metadata = Metadata::new(None, listed.collect()).map_err(|e| damaged(e.to_string()))?;
    let stored = metadata.tensors().into_iter().map(|(name, info)| {
        let dtype = match info.dtype {
            Theirs::F64 => Dtype::F64,
            Theirs::F32 => Dtype::F32,
            Theirs::F16 => Dtype::F16,
            Theirs::BF16 => Dtype::Bf16,
            other => Dtype::Other(other.bitsize().div_ceil(8)),
        };
        let (start, end) = info.data_offsets;
        let (at, end) = (data.saturating_add(start as u64), data.saturating_add(end as u64));
        (name, Stored { dtype, strides: contiguous(&info.shape), shape: info.shape.clone(), at, end })
    });
    Ok(stored.collect())
}
