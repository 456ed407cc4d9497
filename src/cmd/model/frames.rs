//! Pictures to measure a model on.

use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::capture::synthetic::{Scene, SceneFrame, SceneOptions};
use crate::cmd::exit::{Kind, failure};
use crate::picture;
use crate::types::{PixelBuf, PixelFormat};

/// Where pictures come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Frames {
    /// The built-in scene.
    Scene,
    /// All JPEG and PNG files of a folder and of those inside it.
    Folder(PathBuf),
}

/// Most pictures that are looked for.
const MAX_FILES: usize = 1_000_000;
/// Most folders inside each other.
const MAX_DEPTH: usize = 8;
/// Frames of the scene from pair to pair.
const SCENE_STRIDE: u64 = 37;

/// `count` pictures, in pairs that follow each other, spread evenly over all.
///
/// # Errors
/// When a folder cannot be read or holds fewer than two pictures, and when a picture cannot be decoded.
pub fn pairs(frames: &Frames, count: usize) -> anyhow::Result<Vec<PixelBuf>> {
    let pairs = count.div_ceil(2).max(1);
    match frames {
        Frames::Scene => scene(pairs),
        Frames::Folder(folder) => {
            let files = pictures(folder)?;
            if files.len() < 2 {
                let message = format!("{}: fewer than two JPEG or PNG pictures in it", folder.display());
                return Err(failure(Kind::NoInput, message));
            }
            let starts = (0..pairs).map(|i| if pairs == 1 { 0 } else { i * (files.len() - 2) / (pairs - 1) });
            // The last picture of one video and the first of the next do not follow each other.
            let in_one_folder = |start: usize| match start {
                0 => 0,
                start if files[start].parent() == files[start + 1].parent() => start,
                start => start - 1,
            };
            starts.map(in_one_folder).flat_map(|start| [start, start + 1]).map(|at| read(&files[at])).collect()
        }
    }
}

fn scene(pairs: usize) -> anyhow::Result<Vec<PixelBuf>> {
    let options = SceneOptions::default();
    let (width, height) = (options.width, options.height);
    let scene = Scene::new(options)?;
    let mut frame = SceneFrame::default();
    let frames = (0..pairs as u64).flat_map(|pair| [pair * SCENE_STRIDE, pair * SCENE_STRIDE + 1]);
    let rendered = frames.map(|index| {
        scene.render(index, &mut frame);
        Ok(PixelBuf::packed(PixelFormat::Rgb3, width, height, frame.rgb.clone())?)
    });
    rendered.collect()
}

/// All pictures below a folder, in the order of their paths; of a data set in DAVIS layout, its pictures alone.
pub fn pictures(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let davis = folder.join("JPEGImages");
    let mut files = Vec::new();
    collect(if davis.is_dir() { &davis } else { folder }, 0, &mut files)?;
    files.sort();
    Ok(files)
}

fn collect(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let unreadable = || folder.display().to_string();
    for entry in std::fs::read_dir(folder).with_context(unreadable)? {
        let path = entry.with_context(unreadable)?.path();
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        let is_picture = ["jpg", "jpeg", "png"].iter().any(|known| extension.eq_ignore_ascii_case(known));
        if path.is_dir() && depth < MAX_DEPTH {
            collect(&path, depth + 1, files)?;
        } else if is_picture && path.is_file() && files.len() < MAX_FILES {
            files.push(path);
        }
    }
    Ok(())
}

/// A picture of a file.
pub fn read(file: &Path) -> anyhow::Result<PixelBuf> {
    let bytes = std::fs::read(file).with_context(|| file.display().to_string())?;
    let mut rgb = Vec::new();
    let damaged = |error: &dyn std::fmt::Display| failure(Kind::Data, format!("{}: {error}", file.display()));
    let (width, height) = picture::decode(&bytes, &mut rgb).map_err(|error| damaged(&error))?;
    PixelBuf::packed(PixelFormat::Rgb3, width, height, rgb).map_err(|error| damaged(&error))
}
