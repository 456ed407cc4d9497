//! What outlives the process: the ids that were given to tracks, and the gallery of objects that are known.

pub mod gallery;
mod ids;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

pub use gallery::{Gallery, GalleryError, ModelIdentity};
pub use ids::TrackIds;

/// The state directory.
pub struct State {
    pub ids: TrackIds,
    pub gallery: Gallery,
}

impl State {
    /// What `directory` remembers, for a daemon that runs `model`. It is made if it is not there.
    ///
    /// # Errors
    /// When the directory cannot be written, another daemon uses it, or ids cannot be gone on with. What is wrong with single
    /// objects of the gallery is no error: each tells it of itself.
    pub fn open(directory: &Path, model: ModelIdentity) -> Result<State, StateError> {
        let ids = TrackIds::open(directory)?;
        Ok(State { ids, gallery: Gallery::open(&directory.join("gallery"), model)? })
    }

    /// Makes the directory, if it is not there.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn make_folder(directory: &Path) -> Result<(), StateError> {
        fs::create_dir_all(directory).map_err(|source| StateError::Io { path: directory.to_owned(), source })
    }

    /// Remembers nothing: for a demonstration or a replay.
    pub fn ephemeral() -> State {
        State { ids: TrackIds::ephemeral(), gallery: Gallery::ephemeral() }
    }
}

/// Bytes below which a disk counts as nearly full: a few times what objects of the gallery take.
pub const AMPLE: u64 = 64 << 20;

/// Bytes that are free on the disk of a folder; none where the system does not tell.
pub fn free_bytes(folder: &Path) -> Option<u64> {
    let disk = nix::sys::statvfs::statvfs(folder).ok()?;
    #[allow(clippy::useless_conversion)] // Not as wide everywhere.
    let (blocks, size) = (u64::from(disk.blocks_available()), u64::from(disk.fragment_size()));
    Some(blocks.saturating_mul(size))
}

/// Why the state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("{path}: {source}; the state directory must exist and be writable by the daemon")]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{path}: another daemon has it; give each a `state_dir` of its own, or ids would be used twice")]
    InUse { path: PathBuf },
    #[error("{path}: holds {found:?} where the next track id should be; remove the file if ids may be used again")]
    Garbled { path: PathBuf, found: String },
}

/// Replaces a file so that, whenever the power fails, either the old or the new content is there whole.
fn write_atomically(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let unfinished = path.with_extension("new");
    let mut file = fs::File::create(&unfinished)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&unfinished, path)?;
    match path.parent() {
        Some(directory) => fs::File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}
