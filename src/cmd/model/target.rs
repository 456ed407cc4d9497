//! What is written, and whether it may be.

use std::path::{Path, PathBuf};

use crate::cmd::exit::{Kind, failure};
use crate::embed::is_name;

/// The files of a model called `name` in `folder`.
pub fn files_of(folder: &Path, name: &str) -> [PathBuf; 3] {
    ["onnx", "probe", "toml"].map(|kind| folder.join(format!("{name}.{kind}")))
}

/// Refuses to write over a file that is there, unless that is what was asked for.
///
/// # Errors
/// When one is there.
pub fn check_free<'f>(files: impl IntoIterator<Item = &'f PathBuf>, force: bool) -> anyhow::Result<()> {
    match files.into_iter().find(|file| !force && file.exists()) {
        Some(file) => {
            let message = format!("{} is there already: --force writes over it", file.display());
            Err(failure(Kind::CantCreate, message))
        }
        None => Ok(()),
    }
}

/// Refuses what cannot be a model's name.
///
/// # Errors
/// When it is none.
pub fn check_name(name: &str) -> anyhow::Result<()> {
    match is_name(name) {
        true => Ok(()),
        false => {
            let rule = "it takes 1 to 64 letters, digits, `-`, `_` and `.`";
            Err(failure(Kind::Usage, format!("`{name}` is no name for a model: {rule}")))
        }
    }
}
