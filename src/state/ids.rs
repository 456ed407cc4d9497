//! The ids that were given to tracks.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::{State, StateError, write_atomically};
use crate::types::TrackId;

/// Ids reserved on disk at a time, so that tagging rarely waits for the disk.
const BLOCK: u64 = 64;

/// Gives out track ids, none of them twice while the state directory lives.
pub struct TrackIds {
    file: Option<PathBuf>,
    /// Held for as long as this lives, so that no other daemon gives out the same ids.
    _lock: Option<fs::File>,
    inner: Mutex<Inner>,
}

struct Inner {
    next: u64,
    /// Ids below this are reserved on disk.
    reserved: u64,
}

impl TrackIds {
    /// Goes on after the ids that `directory` remembers. The directory is made if it is not there.
    ///
    /// # Errors
    /// When the directory cannot be written, another daemon uses it, or its file holds no number.
    pub fn open(directory: &Path) -> Result<TrackIds, StateError> {
        let path = directory.join("next-track-id");
        State::make_folder(directory)?;
        let lock = lock(directory.join("lock"))?;
        let next = match fs::read_to_string(&path) {
            Ok(text) => text
                .trim()
                .parse()
                .map_err(|_| StateError::Garbled { path: path.clone(), found: text.chars().take(40).collect() })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => 1,
            Err(source) if source.kind() == std::io::ErrorKind::InvalidData => {
                return Err(StateError::Garbled { path, found: source.to_string() });
            }
            Err(source) => return Err(StateError::Io { path, source }),
        };
        let ids = TrackIds { file: Some(path), _lock: Some(lock), inner: Mutex::new(Inner { next, reserved: next }) };
        ids.reserve(&mut ids.inner.lock().unwrap_or_else(PoisonError::into_inner))?;
        Ok(ids)
    }

    /// Counts from 1 and remembers nothing: for a demonstration or a replay.
    pub fn ephemeral() -> TrackIds {
        TrackIds { file: None, _lock: None, inner: Mutex::new(Inner { next: 1, reserved: u64::MAX }) }
    }

    /// An id that was never given before.
    ///
    /// # Errors
    /// When the disk does not take the note that it is in use; then it is not given out.
    pub fn give(&self) -> Result<TrackId, StateError> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.next >= inner.reserved {
            self.reserve(&mut inner)?;
        }
        let id = TrackId(inner.next);
        inner.next += 1;
        Ok(id)
    }

    fn reserve(&self, inner: &mut Inner) -> Result<(), StateError> {
        if let Some(file) = &self.file {
            let reserved = inner.next.saturating_add(BLOCK);
            write_atomically(file, format!("{reserved}\n").as_bytes())
                .map_err(|source| StateError::Io { path: file.clone(), source })?;
            inner.reserved = reserved;
        }
        Ok(())
    }
}

/// Locks the file until it is closed, also by a crash.
fn lock(path: PathBuf) -> Result<fs::File, StateError> {
    let opened = fs::File::options().create(true).append(true).open(&path);
    let file = opened.map_err(|source| StateError::Io { path: path.clone(), source })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(StateError::InUse { path }),
        Err(fs::TryLockError::Error(source)) => Err(StateError::Io { path, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_id_is_given_twice_over_restarts() {
        let directory = tempfile::tempdir().unwrap();
        let mut given = std::collections::HashSet::new();
        for _ in 0..5 {
            let ids = TrackIds::open(directory.path()).unwrap();
            for _ in 0..100 {
                assert!(given.insert(ids.give().unwrap()));
            }
        }
    }

    #[test]
    fn a_directory_serves_one_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let first = TrackIds::open(directory.path()).unwrap();
        let Err(StateError::InUse { path }) = TrackIds::open(directory.path()) else { panic!("both have it") };
        assert_eq!(path, directory.path().join("lock"));
        drop(first);
        TrackIds::open(directory.path()).unwrap();
    }

    #[test]
    fn a_garbled_file_is_told_with_its_path() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("next-track-id"), "seven\n").unwrap();
        let error = TrackIds::open(directory.path()).err().unwrap().to_string();
        assert!(error.contains("next-track-id") && error.contains("seven"), "{error}");
        fs::write(directory.path().join("next-track-id"), [0xff, 0xfe]).unwrap();
        assert!(TrackIds::open(directory.path()).is_err());
    }
}
