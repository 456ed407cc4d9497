//! Sequences in the layout of DAVIS: frames as `JPEGImages/480p/NAME/00000.jpg`, annotations as
//! `Annotations/480p/NAME/00000.png`, whose palette index is the instance, and 255 void.

use std::collections::BTreeMap;
use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::picture::{self, PictureError};
use crate::types::{Frame, FrameMeta, Mask, PixelBuf, PixelFormat, Timestamp};

/// Annotated pixels of this value belong to nothing and are not scored.
pub const VOID: u8 = 255;

/// DAVIS was filmed at this rate.
const FRAMES_PER_SECOND: u64 = 24;

/// Why a data set cannot be read, or masks not be written.
#[derive(Debug, thiserror::Error)]
pub enum DavisError {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{path} is no data set in DAVIS layout: it has no folder JPEGImages/RESOLUTION with sequences in it")]
    Layout { path: PathBuf },
    #[error("{path} has no resolution {asked:?}; it has {have}: choose one of them")]
    Resolution { path: PathBuf, asked: String, have: String },
    #[error("{path} has no sequence {name:?}; it has {have}")]
    UnknownSequence { path: PathBuf, name: String, have: String },
    #[error("{path} holds {frames} frames; a sequence needs 3, since the first and the last are not scored")]
    TooShort { path: PathBuf, frames: usize },
    #[error("{path}: {source}")]
    Picture { path: PathBuf, source: PictureError },
    #[error("{path}: {problem}; an annotation is a PNG whose palette index is the instance")]
    Annotation { path: PathBuf, problem: String },
    #[error("{path} has {}x{} pixels, but the first annotation of its sequence {}x{}", .got.0, .got.1, .need.0, .need.1)]
    Size { path: PathBuf, got: (usize, usize), need: (usize, usize) },
    #[error("{path} marks no object, so there is nothing to follow")]
    NoObject { path: PathBuf },
}

/// A folder of annotated sequences.
#[derive(Clone, Debug)]
pub struct Davis {
    root: PathBuf,
    resolution: String,
    names: Vec<String>,
}

impl Davis {
    /// Opens a data set. Without a `resolution`, takes `480p` where there is one, else the only one there is.
    ///
    /// # Errors
    /// When the folder is not in DAVIS layout, or has no such resolution.
    pub fn open(root: &Path, resolution: Option<&str>) -> Result<Davis, DavisError> {
        let layout = || DavisError::Layout { path: root.to_owned() };
        let images = root.join("JPEGImages");
        if !images.is_dir() {
            return Err(layout());
        }
        let have = folders(&images)?;
        let wanted = match resolution {
            None if have.len() == 1 => &have[0],
            asked => asked.unwrap_or("480p"),
        };
        if have.is_empty() {
            return Err(layout());
        }
        if !have.iter().any(|name| name == wanted) {
            let (path, asked) = (images, wanted.to_owned());
            return Err(DavisError::Resolution { path, asked, have: have.join(", ") });
        }
        let names = folders(&images.join(wanted))?;
        if names.is_empty() {
            return Err(layout());
        }
        Ok(Davis { root: root.to_owned(), resolution: wanted.to_owned(), names })
    }

    /// The sequences' names, in order.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Finds the files of a sequence.
    ///
    /// # Errors
    /// When there is no such sequence, it has fewer than 3 frames, or an annotation that is scored is missing.
    pub fn sequence(&self, name: &str) -> Result<Sequence, DavisError> {
        let images = self.root.join("JPEGImages").join(&self.resolution);
        if !self.names.iter().any(|have| have == name) {
            let (path, name) = (images, name.to_owned());
            return Err(DavisError::UnknownSequence { path, name, have: self.names.join(", ") });
        }
        let folder = images.join(name);
        let frames: Vec<PathBuf> = entries(&folder)?
            .into_iter()
            .filter(|path| matches!(path.extension().and_then(|e| e.to_str()), Some("jpg" | "jpeg" | "JPG" | "JPEG")))
            .collect();
        if frames.len() < 3 {
            return Err(DavisError::TooShort { path: folder, frames: frames.len() });
        }
        let masks = self.root.join("Annotations").join(&self.resolution).join(name);
        let annotations: Vec<PathBuf> = frames
            .iter()
            .map(|frame| masks.join(frame.file_stem().unwrap_or_default()).with_extension("png"))
            .collect();
        // The last frame is not scored, and need not be annotated.
        if let Some(path) = annotations[..annotations.len() - 1].iter().find(|path| !path.is_file()) {
            let source = std::io::Error::new(std::io::ErrorKind::NotFound, "no annotation for this frame");
            return Err(DavisError::Io { path: path.clone(), source });
        }
        let first = Annotation::read(&annotations[0])?;
        let instances = first.instances();
        if instances == 0 {
            return Err(DavisError::NoObject { path: annotations[0].clone() });
        }
        Ok(Sequence { name: name.into(), frames, annotations, first, instances })
    }
}

/// The files of one sequence, in order.
#[derive(Clone, Debug)]
pub struct Sequence {
    name: Arc<str>,
    frames: Vec<PathBuf>,
    annotations: Vec<PathBuf>,
    first: Annotation,
    instances: usize,
}

impl Sequence {
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Number of frames, at least 3.
    #[expect(clippy::len_without_is_empty, reason = "never empty")]
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Number of frames from the first on that have an annotation, at least 2.
    pub fn annotated(&self) -> usize {
        self.len() - usize::from(!self.annotations[self.len() - 1].is_file())
    }

    /// Number of objects in the first frame, at least 1.
    pub fn instances(&self) -> usize {
        self.instances
    }

    /// What file name, without its end, frame `index` and its masks have.
    pub fn stem(&self, index: usize) -> &str {
        self.frames[index].file_stem().and_then(|stem| stem.to_str()).unwrap_or("frame")
    }

    /// Decodes a frame to RGB.
    ///
    /// # Errors
    /// When it cannot be read, or has another size than the first annotation.
    pub fn frame(&self, index: usize) -> Result<Frame, DavisError> {
        let path = &self.frames[index];
        let at = |source| DavisError::Picture { path: path.clone(), source };
        let bytes = fs::read(path).map_err(|source| DavisError::Io { path: path.clone(), source })?;
        let mut rgb = Vec::new();
        let (width, height) = picture::decode(&bytes, &mut rgb).map_err(at)?;
        self.check_size(path, (width, height))?;
        let pixels = PixelBuf::packed(PixelFormat::Rgb3, width, height, rgb)
            .map_err(|error| at(PictureError::Damaged(error.to_string())))?;
        Ok(Frame { meta: self.meta(index), pixels })
    }

    /// Where and when a frame was captured.
    pub fn meta(&self, index: usize) -> FrameMeta {
        let time = index as u64 * 1_000_000_000 / FRAMES_PER_SECOND;
        let captured_at = Timestamp { mono_ns: time, real_ns: time };
        let (camera, width, height) = (self.name.clone(), self.first.width, self.first.height);
        FrameMeta { camera, seq: index as u64, captured_at, dropped: 0, width, height }
    }

    /// The annotation of the first frame.
    pub fn first(&self) -> &Annotation {
        &self.first
    }

    /// Reads the annotation of a frame.
    ///
    /// # Errors
    /// When it cannot be read, or has another size than the first.
    pub fn annotation(&self, index: usize) -> Result<Annotation, DavisError> {
        let path = &self.annotations[index];
        let annotation = Annotation::read(path)?;
        self.check_size(path, (annotation.width, annotation.height))?;
        Ok(annotation)
    }

    fn check_size(&self, path: &Path, got: (usize, usize)) -> Result<(), DavisError> {
        let need = (self.first.width, self.first.height);
        if got == need { Ok(()) } else { Err(DavisError::Size { path: path.to_owned(), got, need }) }
    }
}

/// Which instance each pixel belongs to: 0 for the background, [`VOID`] for none that is scored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Annotation {
    /// Pixels.
    pub width: usize,
    /// Pixels.
    pub height: usize,
    /// (height, width)
    pub pixels: Vec<u8>,
}

impl Annotation {
    /// Reads an annotation. Where 0 and 255 are the only values, and both occur, 255 is not void but the one
    /// object, as in DAVIS 2016.
    ///
    /// # Errors
    /// When the file cannot be read, or is no PNG of palette indices or grey values.
    pub fn read(path: &Path) -> Result<Annotation, DavisError> {
        let bytes = fs::read(path).map_err(|source| DavisError::Io { path: path.to_owned(), source })?;
        let mut annotation =
            decode(&bytes).map_err(|problem| DavisError::Annotation { path: path.to_owned(), problem })?;
        let pixels = &mut annotation.pixels;
        if pixels.iter().all(|v| [0, VOID].contains(v)) && pixels.contains(&0) && pixels.contains(&VOID) {
            pixels.iter_mut().for_each(|v| *v = u8::from(*v > 0));
        }
        Ok(annotation)
    }

    /// The largest instance that occurs.
    pub fn instances(&self) -> usize {
        self.pixels.iter().copied().filter(|v| *v != VOID).max().unwrap_or(0).into()
    }

    /// The masks of instances 1 to `instances`, in order.
    pub fn masks(&self, instances: usize) -> Vec<Mask> {
        (1..=instances).map(|k| Mask::from_pixels(self.width, self.height, &self.pixels, k as u8)).collect()
    }
}

/// Writes masks as a palette PNG, mask `k` with index `k + 1`, making the folder where it is missing.
///
/// # Errors
/// When there are no masks, more than 254, or the file cannot be written.
pub fn write_masks(path: &Path, masks: &[Mask]) -> Result<(), DavisError> {
    let io = |source| DavisError::Io { path: path.to_owned(), source };
    let picture = |source| DavisError::Picture { path: path.to_owned(), source };
    let [first, ..] = masks else {
        return Err(picture(PictureError::Unwritable("there are no masks".into())));
    };
    if masks.len() >= usize::from(VOID) {
        return Err(picture(PictureError::Unwritable(format!("{} masks; 254 fit", masks.len()))));
    }
    let mut pixels = vec![0; first.width * first.height];
    for (k, mask) in masks.iter().enumerate() {
        mask.paint(&mut pixels, k as u8 + 1);
    }
    let png = picture::encode_palette_png(&pixels, &palette(), first.width, first.height).map_err(picture)?;
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(io)?;
    }
    fs::write(path, png).map_err(io)
}

/// The palette of DAVIS and of PASCAL VOC: the bits of an index, lowest first, go in turn to red, green and blue,
/// from their highest bit down. (256), RGB.
pub fn palette() -> [[u8; 3]; 256] {
    std::array::from_fn(|index| {
        let channel =
            |channel: usize| (0..3).map(|i| ((index >> (3 * i + channel)) & 1) << (7 - i)).sum::<usize>() as u8;
        [channel(0), channel(1), channel(2)]
    })
}

/// A PNG's palette indices or grey values as they are stored.
fn decode(bytes: &[u8]) -> Result<Annotation, String> {
    let text = |error: png::DecodingError| error.to_string();
    let mut decoder = png::Decoder::new(Cursor::new(bytes));
    decoder.set_transformations(png::Transformations::IDENTITY);
    let info = decoder.read_header_info().map_err(text)?;
    let (width, height) = (info.width as usize, info.height as usize);
    let (colour, depth) = (info.color_type, info.bit_depth);
    if !matches!(colour, png::ColorType::Indexed | png::ColorType::Grayscale) || depth == png::BitDepth::Sixteen {
        return Err(format!("its pixels are {colour:?} of {} bits", depth as u8));
    }
    if width > picture::MAX_SIDE || height > picture::MAX_SIDE || width * height > picture::MAX_PIXELS {
        return Err(format!("{width}x{height} pixels are too many"));
    }
    let mut reader = decoder.read_info().map_err(text)?;
    let stored = reader.output_line_size(width as u32).ok_or("its rows are too long")?;
    // (height, stored): rows start at whole bytes, and pixels of less than 8 bits begin at the highest bit.
    let mut packed = vec![0; stored * height];
    reader.next_frame(&mut packed).map_err(text)?;
    let bits = depth as usize;
    let mut pixels = Vec::with_capacity(width * height);
    for row in packed.chunks_exact(stored) {
        pixels.extend((0..width).map(|x| {
            let at = x * bits;
            ((u16::from(row[at / 8]) >> (8 - bits - at % 8)) & ((1 << bits) - 1)) as u8
        }));
    }
    Ok(Annotation { width, height, pixels })
}

/// Names of the folders in a folder, in order, hidden ones left out.
fn folders(path: &Path) -> Result<Vec<String>, DavisError> {
    let folders = entries(path)?.into_iter().filter(|path| path.is_dir());
    Ok(folders.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect())
}

/// What lies in a folder, by name, hidden files left out.
fn entries(path: &Path) -> Result<Vec<PathBuf>, DavisError> {
    let io = |source| DavisError::Io { path: path.to_owned(), source };
    let mut by_name = BTreeMap::new();
    for entry in fs::read_dir(path).map_err(io)? {
        let entry = entry.map_err(io)?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            by_name.insert(entry.file_name(), entry.path());
        }
    }
    Ok(by_name.into_values().collect())
}
