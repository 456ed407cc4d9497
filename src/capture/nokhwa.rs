//! Cameras of the platforms that V4L2 does not serve, by the crate `nokhwa`; on Linux only where asked for.
//!
//! The crate waits for frames without end, so it gets a thread of its own, and whoever reads from here waits for
//! that thread no longer than it wants to. A thread that never comes back is left behind; until it does, its
//! camera counts as in use, so that there is never more than one such thread a camera.
//!
//! A frame's stamp is the moment at which it was received: the crate's own are of the wall clock, which may step.
//! Rows are taken to be without padding, since the crate does not tell. On Linux the crate takes no camera that was
//! left in a format that it does not know, GREY among them, or at a rate such as 29.97.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use ::nokhwa::utils::{
    ApiBackend, CameraFormat, CameraIndex, FrameFormat, RequestedFormat, RequestedFormatType, Resolution,
};
use ::nokhwa::{Buffer, Camera, NokhwaError};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};

use crate::clock;
use crate::types::frame::BufferPool;
use crate::types::{Frame, FrameMeta, PixelBuf, PixelFormat};

use super::devices::DeviceInfo;
use super::modes::{Mode, Wanted, choose};
use super::sequence::{SequenceCounter, StampKeeper};
use super::{CameraConfig, FrameSource, SourceError, StreamFormat};

/// The longest that opening a camera may take.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);

/// A camera behind its thread. The newest frame is given, and older ones that wait count as dropped.
pub struct NokhwaSource {
    camera: Arc<str>,
    format: StreamFormat,
    frames: Receiver<Received>,
    stop: Arc<AtomicBool>,
    sequence: SequenceCounter,
    stamps: StampKeeper,
}

/// A frame as the thread hands it over, or why there are no more.
type Received = Result<Delivery, SourceError>;

struct Delivery {
    pixels: PixelBuf,
    /// Monotonic clock at receipt, nanoseconds.
    mono_ns: u64,
    /// Frames that were replaced by newer ones before anyone took them.
    replaced: u64,
}

impl NokhwaSource {
    /// Opens the camera of number `config.device`, or the first for `auto`. Its first frame is number `resume_from`.
    ///
    /// # Errors
    /// When there is no such camera, it does not open within 5 seconds, or gives nothing that is understood.
    pub fn open(config: &CameraConfig, resume_from: u64) -> Result<NokhwaSource, SourceError> {
        let wanted = Wanted::new(config)?;
        let number = match config.device.as_str() {
            "auto" => None,
            device => Some(device.parse::<u32>().map_err(|_| {
                SourceError::Unsupported(format!("nokhwa knows cameras by number, and `{device}` is none"))
            })?),
        };
        let (opened, opening) = bounded(1);
        let (frames, received) = bounded(1);
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, oldest) = (stop.clone(), received.clone());
        thread::Builder::new()
            .name(format!("nokhwa {}", config.name))
            .spawn(move || run(number, &wanted, &opened, &frames, &oldest, &stopped))
            .map_err(|source| SourceError::Io { what: "starting a thread for the camera".into(), source })?;
        let format = opening.recv_timeout(OPEN_TIMEOUT).unwrap_or_else(|error| {
            stop.store(true, Ordering::Relaxed);
            Err(match error {
                RecvTimeoutError::Timeout => SourceError::Timeout(format!("camera {}", config.device)),
                RecvTimeoutError::Disconnected => SourceError::Unsupported("the camera library failed".into()),
            })
        })?;
        Ok(NokhwaSource {
            camera: config.name.as_str().into(),
            format,
            frames: received,
            stop,
            sequence: SequenceCounter::resume_from(resume_from),
            stamps: StampKeeper::default(),
        })
    }
}

impl FrameSource for NokhwaSource {
    fn format(&self) -> StreamFormat {
        self.format.clone()
    }

    fn next(&mut self, deadline: Instant) -> Result<Option<Frame>, SourceError> {
        let Delivery { pixels, mono_ns, replaced } = match self.frames.recv_deadline(deadline) {
            Ok(received) => received?,
            Err(RecvTimeoutError::Timeout) => return Err(SourceError::Timeout(self.format.source.clone())),
            Err(RecvTimeoutError::Disconnected) => return Err(SourceError::Disconnected(self.format.source.clone())),
        };
        (0..replaced).for_each(|_| self.sequence.lose());
        let numbered = self.sequence.keep(None);
        let captured_at = clock::at(self.stamps.keep(Some(mono_ns), clock::mono_ns()));
        let (width, height) = (pixels.width, pixels.height);
        let (seq, dropped) = (numbered.seq, numbered.dropped);
        let meta = FrameMeta { camera: self.camera.clone(), seq, captured_at, dropped, width, height };
        Ok(Some(Frame { meta, pixels }))
    }
}

impl Drop for NokhwaSource {
    fn drop(&mut self) {
        // The thread looks after each frame; it is not waited for, since it may have none to come.
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Every camera that the crate knows of.
pub fn list() -> Vec<DeviceInfo> {
    let cameras = std::panic::catch_unwind(|| ::nokhwa::query(ApiBackend::Auto));
    let device = |camera: ::nokhwa::utils::CameraInfo| DeviceInfo {
        device: camera.index().as_string(),
        card: camera.human_name(),
        bus: camera.description().into(),
        usable: true,
        ..DeviceInfo::default()
    };
    cameras.ok().and_then(Result::ok).unwrap_or_default().into_iter().map(device).collect()
}

/// The thread: opens the camera, tells of it, and sends frames until it is stopped or the camera fails.
fn run(
    number: Option<u32>,
    wanted: &Wanted,
    opened: &Sender<Result<StreamFormat, SourceError>>,
    frames: &Sender<Received>,
    oldest: &Receiver<Received>,
    stop: &AtomicBool,
) {
    let (mut camera, source, _claim) = match open(number, wanted) {
        Ok(open) => open,
        // Nobody listens who has given up waiting.
        Err(error) => return drop(opened.send(Err(error))),
    };
    let _ = opened.send(Ok(format_of(&camera, &source)));
    let pool = BufferPool::default();
    while !stop.load(Ordering::Relaxed) {
        let received = camera.frame().map_err(|error| failure(&source, &error));
        let mono_ns = clock::mono_ns();
        let pixels = received.and_then(|buffer| pixels_of(&buffer, &pool, &source));
        let failed = pixels.is_err();
        let mut next = pixels.map(|pixels| Delivery { pixels, mono_ns, replaced: 0 });
        // The newest takes the place of one that was not fetched.
        while let Err(TrySendError::Full(again)) = frames.try_send(next) {
            let lost = oldest.try_recv().ok().and_then(Result::ok).map_or(0, |old| old.replaced + 1);
            next = again.map(|delivery| Delivery { replaced: delivery.replaced + lost, ..delivery });
        }
        if failed {
            break;
        }
    }
    // Some platforms' libraries misbehave when a stream is dropped without being stopped.
    let _ = camera.stop_stream();
}

/// Opens a camera and starts it; returns it with its name and the claim on its number.
fn open(number: Option<u32>, wanted: &Wanted) -> Result<(Camera, String, Claim), SourceError> {
    #[cfg(target_os = "macos")]
    ::nokhwa::nokhwa_initialize(|_| {});
    let number = match number {
        Some(number) => number,
        None => first().ok_or_else(|| SourceError::NotFound("a camera".into()))?,
    };
    let source = format!("camera {number}");
    let claim = Claim::new(number).ok_or_else(|| SourceError::Busy(source.clone()))?;
    let fail = |error: NokhwaError| failure(&source, &error);
    let any = RequestedFormat::with_formats(RequestedFormatType::None, &FORMATS);
    let mut camera = Camera::new(CameraIndex::Index(number), any).map_err(fail)?;
    let offered = camera.compatible_camera_formats().map_err(fail)?;
    let modes: Vec<_> = offered.iter().map(mode_of).collect();
    let mode = choose(&modes, wanted).ok_or_else(|| {
        SourceError::Unsupported(format!("{source} does not give the format that is asked for, or none that is known"))
    })?;
    // The crate takes only rates that it offered itself.
    let rates = modes.iter().filter(|m| (m.format, m.width, m.height) == (mode.format, mode.width, mode.height));
    let rate = rates.filter_map(|mode| mode.max_fps).min_by(|a, b| {
        let distance = |fps: f32| (fps - wanted.fps).abs();
        distance(*a).total_cmp(&distance(*b))
    });
    let format = foreign(mode.format);
    let resolution = Resolution::new(mode.width as u32, mode.height as u32);
    let exact = CameraFormat::new(resolution, format, rate.unwrap_or(wanted.fps) as u32);
    let exact = RequestedFormat::with_formats(RequestedFormatType::Exact(exact), &FORMATS);
    camera.set_camera_requset(exact).map_err(fail)?;
    camera.open_stream().map_err(fail)?;
    Ok((camera, source, claim))
}

fn first() -> Option<u32> {
    let cameras = ::nokhwa::query(ApiBackend::Auto).ok()?;
    cameras.iter().filter_map(|camera| camera.index().as_index().ok()).min()
}

const FORMATS: [FrameFormat; 6] = [
    FrameFormat::YUYV,
    FrameFormat::NV12,
    FrameFormat::RAWRGB,
    FrameFormat::RAWBGR,
    FrameFormat::MJPEG,
    FrameFormat::GRAY,
];

fn ours(format: FrameFormat) -> PixelFormat {
    match format {
        FrameFormat::YUYV => PixelFormat::Yuyv,
        FrameFormat::NV12 => PixelFormat::Nv12,
        FrameFormat::RAWRGB => PixelFormat::Rgb3,
        FrameFormat::RAWBGR => PixelFormat::Bgr3,
        FrameFormat::MJPEG => PixelFormat::Mjpg,
        FrameFormat::GRAY => PixelFormat::Grey,
    }
}

/// What the crate calls `format`. It has no name for UYVY, which it therefore never offers either.
fn foreign(format: PixelFormat) -> FrameFormat {
    FORMATS.into_iter().find(|foreign| ours(*foreign) == format).unwrap_or(FrameFormat::YUYV)
}

fn mode_of(format: &CameraFormat) -> Mode {
    Mode {
        format: ours(format.format()),
        width: format.width() as usize,
        height: format.height() as usize,
        max_fps: Some(format.frame_rate() as f32),
    }
}

fn format_of(camera: &Camera, source: &str) -> StreamFormat {
    let mode = mode_of(&camera.camera_format());
    StreamFormat {
        source: format!("{source} ({})", camera.info().human_name()),
        pixels: mode.format.to_string(),
        width: mode.width,
        height: mode.height,
        fps: mode.max_fps,
    }
}

/// Copies a frame into a buffer of ours.
fn pixels_of(buffer: &Buffer, pool: &BufferPool, source: &str) -> Result<PixelBuf, SourceError> {
    let format = ours(buffer.source_frame_format());
    let (width, height) = (buffer.resolution().width() as usize, buffer.resolution().height() as usize);
    let stride = format.min_stride(width).unwrap_or(0);
    let contents = buffer.buffer();
    let used = format.frame_bytes(stride, height).map_or(contents.len(), |bytes| bytes.min(contents.len()));
    let mut bytes = pool.take();
    bytes.as_mut_vec().extend_from_slice(&contents[..used]);
    PixelBuf::new(format, width, height, stride, bytes)
        .map_err(|error| SourceError::Unsupported(format!("{source}: {error}")))
}

fn failure(source: &str, error: &NokhwaError) -> SourceError {
    SourceError::Unreadable { path: source.into(), problem: error.to_string() }
}

/// The right to use a camera, held by at most one thread.
struct Claim(u32);

static CLAIMED: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

impl Claim {
    fn new(number: u32) -> Option<Claim> {
        let mut claimed = CLAIMED.lock().unwrap_or_else(PoisonError::into_inner);
        // Lazily: a claim that is made in vain would be given up at once, and the other thread's with it.
        claimed.insert(number).then(|| Claim(number))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        CLAIMED.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::SourceKind;
    use crate::capture::tests::config;

    #[test]
    fn every_format_of_the_crate_is_one_of_ours() {
        for format in FORMATS {
            assert_eq!(foreign(ours(format)), format);
        }
    }

    #[test]
    fn frames_are_copied_as_they_are_and_checked() {
        let pool = BufferPool::default();
        let buffer = |bytes: usize, format| Buffer::new(Resolution::new(4, 2), &vec![7; bytes], format);
        let pixels = pixels_of(&buffer(20, FrameFormat::YUYV), &pool, "camera 0").unwrap();
        assert_eq!((pixels.format, pixels.stride, pixels.bytes()), (PixelFormat::Yuyv, 8, &[7; 16][..]));
        let pixels = pixels_of(&buffer(9, FrameFormat::MJPEG), &pool, "camera 0").unwrap();
        assert_eq!((pixels.format, pixels.bytes().len()), (PixelFormat::Mjpg, 9));
        let error = pixels_of(&buffer(11, FrameFormat::NV12), &pool, "camera 0").unwrap_err();
        assert_eq!(error.to_string(), "camera 0: a 4x2 NV12 frame needs 12 bytes, but there are 11");
    }

    #[test]
    fn a_camera_has_at_most_one_thread() {
        let claim = Claim::new(4_000_000).unwrap();
        assert!(Claim::new(4_000_000).is_none());
        assert!(Claim::new(4_000_001).is_some());
        drop(claim);
        assert!(Claim::new(4_000_000).is_some());
    }

    #[test]
    fn a_camera_that_is_not_there_is_an_error() {
        let camera = |device: &str| CameraConfig { device: device.into(), ..config(SourceKind::Nokhwa) };
        let error = NokhwaSource::open(&camera("/dev/video0"), 0).err().unwrap().to_string();
        assert_eq!(error, "nokhwa knows cameras by number, and `/dev/video0` is none");
        assert!(NokhwaSource::open(&camera("987654"), 0).is_err());
    }
}
