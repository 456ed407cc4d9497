//! A folder of pictures as a camera: JPEG and PNG files in the order of their names.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::clock;
use crate::picture;
use crate::types::frame::BufferPool;
use crate::types::{Frame, FrameMeta, PixelBuf, PixelFormat, Timestamp};

use super::{CameraConfig, FrameSource, Pace, SourceError, StreamFormat};

/// Files that are larger are no pictures that this could decode.
const MAX_FILE_BYTES: u64 = 1 << 28;

/// The pictures of one folder, each a frame of [`PixelFormat::Rgb3`], all of one size.
///
/// Names are ordered by their bytes, as a DAVIS sequence wants it: `10.png` comes before `9.png`. A frame's number
/// is that of its file, counted on through every repetition. A file that cannot be used, because it is damaged or
/// of another size than the first, is an error; a folder that is repeated skips it instead, warns of it once, and
/// counts it as dropped. EXIF orientation is ignored.
pub struct ImageSource {
    camera: Arc<str>,
    folder: PathBuf,
    files: Vec<PathBuf>,
    repeat: bool,
    fps: f32,
    pace: Pace,
    /// The size of every frame in pixels.
    width: usize,
    height: usize,
    /// The next frame's number.
    seq: u64,
    /// When the next frame is due.
    due: Option<Instant>,
    /// Which files were warned of.
    warned: Vec<bool>,
    pool: BufferPool,
    /// The bytes of the file that was read last, kept for their capacity.
    compressed: Vec<u8>,
}

impl ImageSource {
    /// Opens `config.folder`, at the picture of number `resume_from`.
    ///
    /// # Errors
    /// When the folder cannot be read, holds no picture, or holds none that can be decoded. Unless it is repeated,
    /// the first one must decode.
    pub fn open(config: &CameraConfig, pace: Pace, resume_from: u64) -> Result<ImageSource, SourceError> {
        let files = list(&config.folder)?;
        let mut source = ImageSource {
            camera: config.name.as_str().into(),
            folder: config.folder.clone(),
            repeat: config.repeat,
            fps: config.fps,
            pace,
            width: 0,
            height: 0,
            seq: resume_from,
            due: None,
            warned: vec![false; files.len()],
            pool: BufferPool::default(),
            compressed: Vec::new(),
            files,
        };
        let mut first = Err(unreadable(&config.folder, "the folder holds no JPEG or PNG picture"));
        for index in 0..source.files.len() {
            first = source.read(index);
            if first.is_ok() || !source.repeat {
                break;
            }
        }
        let first = first?;
        (source.width, source.height) = (first.width, first.height);
        Ok(source)
    }

    /// Which file the next frame is made of; `None` after the last one.
    fn index(&self) -> Option<usize> {
        let count = self.files.len() as u64;
        let index = if self.repeat { self.seq % count } else { self.seq };
        (index < count).then_some(index as usize)
    }

    fn read(&mut self, index: usize) -> Result<PixelBuf, SourceError> {
        let path = &self.files[index];
        self.compressed.clear();
        File::open(path)
            .and_then(|file| file.take(MAX_FILE_BYTES).read_to_end(&mut self.compressed))
            .map_err(|error| unreadable(path, error))?;
        let mut rgb = self.pool.take();
        let (width, height) =
            picture::decode(&self.compressed, rgb.as_mut_vec()).map_err(|error| unreadable(path, error))?;
        if self.width != 0 && (width, height) != (self.width, self.height) {
            let problem = format!("{width}x{height} pixels, but the first picture has {}x{}", self.width, self.height);
            return Err(unreadable(path, problem));
        }
        PixelBuf::new(PixelFormat::Rgb3, width, height, width * 3, rgb).map_err(|error| unreadable(path, error))
    }

    /// Waits until the next frame is due.
    fn keep_pace(&mut self, deadline: Instant) -> Result<(), SourceError> {
        if self.pace == Pace::Lossless {
            return Ok(());
        }
        let now = Instant::now();
        let due = *self.due.get_or_insert(now);
        thread::sleep(due.min(deadline).saturating_duration_since(now));
        if due > deadline {
            return Err(SourceError::Timeout(self.folder.display().to_string()));
        }
        // A reader that is late gets the pictures later, and not in a hurry.
        self.due = Some((due + self.interval()).max(Instant::now()));
        Ok(())
    }

    fn interval(&self) -> Duration {
        Duration::try_from_secs_f64(1.0 / f64::from(self.fps)).unwrap_or(Duration::ZERO)
    }

    fn stamp(&self) -> Timestamp {
        match self.pace {
            Pace::Live => clock::now(),
            Pace::Lossless => {
                let ns = (self.seq as f64 * 1e9 / f64::from(self.fps)) as u64;
                Timestamp { mono_ns: ns, real_ns: ns }
            }
        }
    }
}

impl FrameSource for ImageSource {
    fn format(&self) -> StreamFormat {
        StreamFormat {
            source: self.folder.display().to_string(),
            pixels: PixelFormat::Rgb3.to_string(),
            width: self.width,
            height: self.height,
            fps: Some(self.fps),
        }
    }

    fn next(&mut self, deadline: Instant) -> Result<Option<Frame>, SourceError> {
        if self.index().is_none() {
            return Ok(None);
        }
        self.keep_pace(deadline)?;
        let mut dropped = 0;
        // Whoever wants every picture once must know that there is one less; a camera goes on with the next.
        let lossless = self.pace == Pace::Lossless && !self.repeat;
        while let Some(index) = self.index() {
            let captured_at = self.stamp();
            match self.read(index) {
                Ok(pixels) => {
                    let (camera, seq) = (self.camera.clone(), self.seq);
                    let meta = FrameMeta { camera, seq, captured_at, dropped, width: self.width, height: self.height };
                    self.seq += 1;
                    return Ok(Some(Frame { meta, pixels }));
                }
                Err(error) if lossless || dropped >= self.files.len() as u64 => return Err(error),
                Err(error) => {
                    if !std::mem::replace(&mut self.warned[index], true) {
                        log::warn!("camera {}: skipped {error}", self.camera);
                    }
                    dropped += 1;
                    self.seq += 1;
                }
            }
        }
        Ok(None)
    }
}

/// The pictures of `folder`, in the order of their names.
fn list(folder: &Path) -> Result<Vec<PathBuf>, SourceError> {
    let is_picture = |path: &Path| {
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        // A pipe of such a name would be waited for without end.
        ["jpg", "jpeg", "png"].iter().any(|known| extension.eq_ignore_ascii_case(known)) && !hidden && path.is_file()
    };
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(|error| unreadable(folder, error))? {
        let path = entry.map_err(|error| unreadable(folder, error))?.path();
        if is_picture(&path) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn unreadable(path: &Path, problem: impl ToString) -> SourceError {
    SourceError::Unreadable { path: path.display().to_string(), problem: problem.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::SourceKind;
    use crate::capture::tests::config;

    /// A folder whose pictures are all of one shade each.
    fn folder(pictures: &[(&str, u8)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, shade) in pictures {
            let rgb = vec![*shade; 8 * 4 * 3];
            let bytes = if name.to_lowercase().ends_with("png") {
                picture::encode_png(&rgb, 8, 4).unwrap()
            } else {
                picture::encode_jpeg(&rgb, 8, 4, 95).unwrap()
            };
            fs::write(folder.path().join(name), bytes).unwrap();
        }
        folder
    }

    fn camera(folder: &Path, repeat: bool) -> CameraConfig {
        CameraConfig { folder: folder.into(), repeat, fps: 25.0, ..config(SourceKind::Images) }
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(5)
    }

    /// Number, drops and shade of each of the next frames.
    fn frames(source: &mut ImageSource, count: usize) -> Vec<(u64, u64, u8)> {
        let next = |source: &mut ImageSource| {
            let frame = source.next(soon()).unwrap()?;
            assert_eq!((frame.meta.width, frame.meta.height, frame.pixels.bytes().len()), (8, 4, 96));
            Some((frame.meta.seq, frame.meta.dropped, frame.pixels.bytes()[0]))
        };
        (0..count).map_while(|_| next(source)).collect()
    }

    #[test]
    fn pictures_come_in_the_order_of_their_names_and_end() {
        let folder = folder(&[("b.JPG", 20), ("a.png", 10), ("c.jpeg", 30), ("d.Png", 40)]);
        fs::write(folder.path().join("a.txt"), "not a picture").unwrap();
        fs::write(folder.path().join(".hidden.png"), "of another program").unwrap();
        fs::create_dir(folder.path().join("folder.png")).unwrap();
        let mut source = ImageSource::open(&camera(folder.path(), false), Pace::Lossless, 0).unwrap();
        assert_eq!(frames(&mut source, 9), [(0, 0, 10), (1, 0, 20), (2, 0, 30), (3, 0, 40)]);
        assert!(source.next(soon()).unwrap().is_none());
        let mut source = ImageSource::open(&camera(folder.path(), false), Pace::Lossless, 3).unwrap();
        assert_eq!(frames(&mut source, 9), [(3, 0, 40)]);
    }

    #[test]
    fn a_folder_repeats_with_numbers_that_go_on() {
        let folder = folder(&[("0.png", 1), ("1.png", 2)]);
        let mut source = ImageSource::open(&camera(folder.path(), true), Pace::Lossless, 5).unwrap();
        assert_eq!(frames(&mut source, 3), [(5, 0, 2), (6, 0, 1), (7, 0, 2)]);
    }

    #[test]
    fn lossless_stamps_are_the_same_in_every_run() {
        let folder = folder(&[("0.png", 1), ("1.png", 2), ("2.png", 3)]);
        let mut source = ImageSource::open(&camera(folder.path(), false), Pace::Lossless, 0).unwrap();
        let stamps: Vec<_> = std::iter::from_fn(|| source.next(soon()).unwrap()).map(|f| f.meta.captured_at).collect();
        let at = |ns| Timestamp { mono_ns: ns, real_ns: ns };
        assert_eq!(stamps, [at(0), at(40_000_000), at(80_000_000)]);
    }

    #[test]
    fn a_live_folder_keeps_its_rate_and_its_deadline() {
        let folder = folder(&[("0.png", 1), ("1.png", 2), ("2.png", 3)]);
        let mut source = ImageSource::open(&camera(folder.path(), false), Pace::Live, 0).unwrap();
        let start = Instant::now();
        let first = source.next(soon()).unwrap().unwrap().meta.captured_at;
        let early = source.next(Instant::now() + Duration::from_millis(5));
        assert!(matches!(early, Err(SourceError::Timeout(_))), "{early:?}");
        source.next(soon()).unwrap();
        let third = source.next(soon()).unwrap().unwrap().meta.captured_at;
        assert!(start.elapsed() >= Duration::from_millis(80));
        assert!(third.mono_ns - first.mono_ns >= 75_000_000);
    }

    #[test]
    fn a_damaged_picture_is_an_error_or_is_skipped() {
        let folder = folder(&[("0.png", 1), ("2.png", 3)]);
        fs::write(folder.path().join("1.jpg"), b"\xff\xd8\xff garbage").unwrap();
        let mut source = ImageSource::open(&camera(folder.path(), false), Pace::Lossless, 0).unwrap();
        assert_eq!(frames(&mut source, 1), [(0, 0, 1)]);
        let error = source.next(soon()).unwrap_err();
        assert!(matches!(&error, SourceError::Unreadable { path, .. } if path.ends_with("1.jpg")), "{error}");
        assert!(error.to_string().contains("the picture is damaged: "), "{error}");
        let mut source = ImageSource::open(&camera(folder.path(), true), Pace::Lossless, 0).unwrap();
        assert_eq!(frames(&mut source, 4), [(0, 0, 1), (2, 1, 3), (3, 0, 1), (5, 1, 3)]);
        let mut source = ImageSource::open(&camera(folder.path(), false), Pace::Live, 0).unwrap();
        assert_eq!(frames(&mut source, 4), [(0, 0, 1), (2, 1, 3)], "a camera goes on to the end");
    }

    #[test]
    fn a_picture_of_another_size_is_an_error() {
        let folder = folder(&[("0.png", 1)]);
        fs::write(folder.path().join("1.png"), picture::encode_png(&[0; 12], 2, 2).unwrap()).unwrap();
        let mut source = ImageSource::open(&camera(folder.path(), false), Pace::Lossless, 0).unwrap();
        frames(&mut source, 1);
        let error = source.next(soon()).unwrap_err().to_string();
        assert!(error.ends_with("1.png: 2x2 pixels, but the first picture has 8x4"), "{error}");
    }

    #[test]
    fn a_folder_without_pictures_is_refused() {
        let empty = folder(&[]);
        let open = |path: &Path| ImageSource::open(&camera(path, true), Pace::Live, 0).err().unwrap().to_string();
        assert!(open(empty.path()).ends_with("the folder holds no JPEG or PNG picture"));
        assert!(open(&empty.path().join("missing")).contains("missing: "));
        fs::write(empty.path().join("0.png"), "garbage").unwrap();
        assert!(open(empty.path()).ends_with("0.png: this is neither a JPEG nor a PNG picture"));
    }

    #[test]
    fn pictures_that_vanish_end_in_an_error_even_when_repeating() {
        let folder = folder(&[("0.png", 1), ("1.png", 2)]);
        let mut source = ImageSource::open(&camera(folder.path(), true), Pace::Lossless, 0).unwrap();
        fs::remove_file(folder.path().join("0.png")).unwrap();
        fs::remove_file(folder.path().join("1.png")).unwrap();
        assert!(matches!(source.next(soon()), Err(SourceError::Unreadable { .. })));
    }
}
