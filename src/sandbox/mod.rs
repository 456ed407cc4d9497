//! What the daemon denies itself for good before it reads anything that somebody else wrote.
//!
//! Two layers of the kernel, each where it has it: Landlock for files, networks and signals (`files`), seccomp for
//! system calls (`calls`). Threads that are started afterwards are confined alike, so this comes before them. What a
//! configuration names to be run inherits both: then programs, their files and the network stay allowed, and only
//! writing is denied.

#[cfg(target_os = "linux")]
mod calls;
#[cfg(target_os = "linux")]
mod files;

use std::path::{Path, PathBuf};

use crate::types::command::{Confinement, SandboxStatus};

/// Whether the daemon confines itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SandboxMode {
    /// By what the kernel has of it.
    Auto,
    /// A kernel without either layer is an error.
    Required,
    Off,
}

/// What must go on working.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Files and folders that are read, whatever is in them.
    pub reads: Vec<PathBuf>,
    /// Folders in which files are made, written, renamed and removed. They must be there.
    pub writes: Vec<PathBuf>,
    /// Folders in which sockets are made and removed. They must be there.
    pub sockets: Vec<PathBuf>,
    /// Whether programs are run.
    pub programs: bool,
    /// Whether a graphics processor's driver is loaded, and compiles.
    pub gpu: bool,
}

impl Needs {
    /// Adds a file or a folder that is read. What its symbolic links lead to is read as well: those of a folder of
    /// frames may all lead elsewhere.
    pub fn read(&mut self, path: &Path) {
        let mut add = |path: PathBuf| {
            if !self.reads.contains(&path) {
                self.reads.push(path);
            }
        };
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
        let links = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_symlink()));
        for target in links.filter_map(|link| std::fs::canonicalize(link.path()).ok()) {
            add(target.parent().map_or_else(|| target.clone(), Path::to_owned));
        }
        add(path.to_owned());
    }
}

/// Why the daemon does not start.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    #[error("`sandbox` is \"required\", but {what} is not confined: {detail}; mend that, or set it to \"auto\"")]
    Missing { what: &'static str, detail: String },
}

/// Confines this thread and those that it starts, for as long as the process lives. Tells what came of it.
///
/// # Errors
/// When a layer is required and cannot be had.
pub fn enter(mode: SandboxMode, needs: &Needs) -> Result<SandboxStatus, SandboxError> {
    if mode == SandboxMode::Off {
        let off = || Confinement { confined: false, detail: "`sandbox` is \"off\"".into() };
        return Ok(SandboxStatus { files: off(), system_calls: off() });
    }
    let status = confine(needs);
    if mode == SandboxMode::Required {
        for (what, layer) in [("access to files", &status.files), ("the use of system calls", &status.system_calls)] {
            if !layer.confined {
                return Err(SandboxError::Missing { what, detail: layer.detail.clone() });
            }
        }
    }
    Ok(status)
}

/// What keeps a daemon of this kernel from confining itself: a sentence for each layer that it does not have.
pub fn missing() -> Vec<&'static str> {
    #[cfg(target_os = "linux")]
    let layers = [files::missing(), calls::missing()];
    #[cfg(not(target_os = "linux"))]
    let layers = [Some(NEITHER)];
    layers.into_iter().flatten().collect()
}

#[cfg(not(target_os = "linux"))]
const NEITHER: &str = "this system has neither Landlock nor seccomp";

#[cfg(target_os = "linux")]
fn confine(needs: &Needs) -> SandboxStatus {
    // Landlock first: the filter denies its system calls.
    let files = files::confine(needs);
    SandboxStatus { files, system_calls: calls::confine(needs) }
}

#[cfg(not(target_os = "linux"))]
fn confine(_: &Needs) -> SandboxStatus {
    let none = || Confinement { confined: false, detail: NEITHER.into() };
    SandboxStatus { files: none(), system_calls: none() }
}
