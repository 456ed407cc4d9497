//! Files that appear whole or not at all.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A file that is written under another name, and gets its own when it is done; dropped before, it is removed.
#[derive(Debug)]
pub struct Unfinished {
    path: PathBuf,
    target: PathBuf,
}

impl Unfinished {
    pub fn new(target: PathBuf) -> Unfinished {
        let mut name = target.file_name().unwrap_or_default().to_owned();
        name.push(".part");
        Unfinished { path: target.with_file_name(name), target }
    }

    /// Where it is written.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where it will be.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Gives it its name, in the place of what had it before.
    ///
    /// # Errors
    /// When it was never written, or cannot be renamed.
    pub fn finish(self) -> io::Result<()> {
        fs::File::open(&self.path)?.sync_all()?;
        fs::rename(&self.path, &self.target)
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // After `finish`, there is nothing under this name.
        let _ = fs::remove_file(&self.path);
    }
}

/// Makes a folder and those above it; an empty path is the one that is current.
///
/// # Errors
/// When it cannot be made.
pub fn make_folder(folder: &Path) -> io::Result<()> {
    if folder.as_os_str().is_empty() { Ok(()) } else { fs::create_dir_all(folder) }
}
