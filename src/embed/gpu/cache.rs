//! What a driver compiled, kept for the next start: one file for an adapter and its driver.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use sha2::{Digest, Sha256};
use wgpu::{AdapterInfo, Device, PipelineCache, PipelineCacheDescriptor};

/// More is not read: no driver makes so much of a few kernels.
const MOST_BYTES: u64 = 64 << 20;
/// Of what follows, at the beginning of a file.
const DIGEST: usize = 32;

/// A driver's cache, and its file.
pub struct Compiled {
    cache: PipelineCache,
    path: PathBuf,
    /// Of what the file holds.
    digest: Mutex<Option<[u8; DIGEST]>>,
}

impl Compiled {
    /// The cache of this adapter in `folder`, empty where there is none that is whole. `None` where the driver keeps none.
    pub fn open(device: &Device, info: &AdapterInfo, folder: &Path) -> Option<Compiled> {
        if !device.features().contains(wgpu::Features::PIPELINE_CACHE) {
            return None;
        }
        // A driver's version is in what it says of itself.
        let driver = Sha256::digest(format!("{} {} {}", info.name, info.driver, info.driver_info));
        let driver: String = driver[..4].iter().map(|byte| format!("{byte:02x}")).collect();
        let path = folder.join(format!("{}-{driver}.pipelines", wgpu::util::pipeline_cache_key(info)?));
        let kept = read(&path);
        let data = kept.as_ref().map(|(_, data)| &data[..]);
        let descriptor = PipelineCacheDescriptor { label: None, data, fallback: true };
        // SAFETY: the data are whole as `keep` wrote them, which had them from this call of the same adapter and driver.
        let cache = unsafe { device.create_pipeline_cache(&descriptor) };
        Some(Compiled { cache, path, digest: Mutex::new(kept.map(|(digest, _)| digest)) })
    }

    pub fn cache(&self) -> &PipelineCache {
        &self.cache
    }

    /// Writes the file where more was compiled than it holds. A disk that does not take it costs time at the next start, and is told.
    pub fn keep(&self) {
        let Some(data) = self.cache.get_data() else { return };
        let digest: [u8; DIGEST] = Sha256::digest(&data).into();
        let mut kept = self.digest.lock().unwrap_or_else(PoisonError::into_inner);
        if *kept == Some(digest) {
            return;
        }
        // Under its name it is whole.
        let part = self.path.with_extension("part");
        let written = self.path.parent().map_or(Ok(()), fs::create_dir_all);
        let written = written
            .and_then(|()| fs::write(&part, [&digest[..], &data].concat()))
            .and_then(|()| fs::rename(&part, &self.path));
        match written {
            Ok(()) => *kept = Some(digest),
            Err(error) => {
                let _ = fs::remove_file(&part);
                log::warn!("{}: what the graphics driver compiled is not kept: {error}", self.path.display());
            }
        }
    }
}

/// A file that is whole: its digest and what it is of.
fn read(path: &Path) -> Option<([u8; DIGEST], Vec<u8>)> {
    if fs::metadata(path).ok()?.len() > MOST_BYTES {
        return None;
    }
    let bytes = fs::read(path).ok()?;
    let (digest, data) = bytes.split_first_chunk::<DIGEST>()?;
    if Sha256::digest(data)[..] != digest[..] {
        log::warn!("{}: not used, and made again: it is damaged", path.display());
        return None;
    }
    Some((*digest, data.to_vec()))
}
