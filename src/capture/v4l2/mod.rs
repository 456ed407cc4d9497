//! Cameras of Linux, by the kernel's Video4Linux interface, version 2.
//!
//! A frame's stamp is the driver's own, on the monotonic clock. What it marks is the driver's choice: for USB
//! cameras mostly the moment at which the first packet of the picture came, some milliseconds after its exposure.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use crate::clock;
use crate::types::frame::BufferPool;
use crate::types::{Frame, FrameMeta, PixelBuf, PixelFormat};

use super::modes::Wanted;
use super::sequence::{SequenceCounter, StampKeeper};
use super::{CameraConfig, FrameSource, SourceError, StreamFormat};

pub mod devices;
mod negotiate;
mod stream;

use negotiate::{Agreed, negotiate};
use stream::{Filled, MmapStream};

/// A camera that streams. Its newest frame is given, and older ones that wait count as dropped.
pub struct V4l2Source {
    camera: Arc<str>,
    /// The device node's path.
    device: String,
    /// The device's name for itself.
    card: String,
    agreed: Agreed,
    stream: MmapStream,
    sequence: SequenceCounter,
    stamps: StampKeeper,
    pool: BufferPool,
}

impl V4l2Source {
    /// Opens `config.device`, agrees on a format and starts it. Its first frame is number `resume_from`.
    ///
    /// # Errors
    /// When there is no such device, it may not be used or is in use, or it gives nothing that is understood.
    pub fn open(config: &CameraConfig, resume_from: u64) -> Result<V4l2Source, SourceError> {
        let wanted = Wanted::new(config)?;
        let path = devices::find(&config.device)?;
        let device = path.display().to_string();
        let (stream, agreed, card) = devices::guarded(|| start(&path, &device, &wanted))
            .unwrap_or_else(|problem| Err(SourceError::Unsupported(format!("{device}: {problem}"))))?;
        log::debug!("{}: {device} ({card}) was asked for {wanted:?} and gave {agreed:?}", config.name);
        Ok(V4l2Source {
            camera: config.name.as_str().into(),
            device,
            card,
            agreed,
            stream,
            sequence: SequenceCounter::resume_from(resume_from),
            stamps: StampKeeper::default(),
            pool: BufferPool::default(),
        })
    }

    /// The newest whole frame that waits, if any does. Those before it, and damaged ones, count as lost.
    fn newest(&mut self, first: Filled) -> Result<Option<Filled>, SourceError> {
        let mut newest = None;
        let mut next = Some(first);
        while let Some(filled) = next {
            let rejected = if self.is_whole(&filled) { newest.replace(filled) } else { Some(filled) };
            if let Some(rejected) = rejected {
                self.sequence.lose();
                self.stream.requeue(rejected).map_err(self.fail())?;
            }
            next = self.stream.dequeue_ready().map_err(self.fail())?;
        }
        Ok(newest)
    }

    /// Whether the driver filled a buffer as the format demands.
    fn is_whole(&self, filled: &Filled) -> bool {
        let enough = match self.agreed.format {
            // Cameras send empty and headless pictures while they start.
            PixelFormat::Mjpg => self.stream.bytes(filled).starts_with(&[0xff, 0xd8]),
            _ => self.stream.bytes(filled).len() >= self.agreed.frame_bytes,
        };
        enough && !filled.damaged
    }

    /// Copies a frame out of the driver's buffer: the one copy that there is.
    fn copy(&mut self, filled: Filled) -> Result<Frame, SourceError> {
        let Agreed { format, width, height, stride, frame_bytes, .. } = self.agreed;
        let mut bytes = self.pool.take();
        let contents = self.stream.bytes(&filled);
        let used = if format == PixelFormat::Mjpg { contents.len() } else { frame_bytes };
        bytes.as_mut_vec().extend_from_slice(&contents[..used]);
        self.stream.requeue(filled).map_err(self.fail())?;
        let numbered = self.sequence.keep(Some(filled.sequence));
        let captured_at = clock::at(self.stamps.keep(filled.mono_ns, clock::mono_ns()));
        let pixels = PixelBuf::new(format, width, height, stride, bytes)
            .map_err(|error| SourceError::Unsupported(format!("{}: {error}", self.device)))?;
        let (seq, dropped) = (numbered.seq, numbered.dropped);
        let meta = FrameMeta { camera: self.camera.clone(), seq, captured_at, dropped, width, height };
        Ok(Frame { meta, pixels })
    }

    fn fail(&self) -> impl Fn(std::io::Error) -> SourceError + use<> {
        let device = self.device.clone();
        move |error| SourceError::from_io(&device, "streaming", error)
    }
}

impl FrameSource for V4l2Source {
    fn format(&self) -> StreamFormat {
        StreamFormat {
            source: format!("{} ({})", self.device, self.card),
            pixels: self.agreed.format.to_string(),
            width: self.agreed.width,
            height: self.agreed.height,
            fps: self.agreed.fps,
        }
    }

    fn next(&mut self, deadline: Instant) -> Result<Option<Frame>, SourceError> {
        loop {
            let Some(filled) = self.stream.dequeue(deadline).map_err(self.fail())? else {
                return Err(SourceError::Timeout(self.device.clone()));
            };
            if let Some(newest) = self.newest(filled)? {
                return self.copy(newest).map(Some);
            }
            // A camera that gives nothing but damaged frames must not be listened to for ever.
            if Instant::now() >= deadline {
                return Err(SourceError::Timeout(self.device.clone()));
            }
        }
    }
}

/// Opens a device node, agrees on a format and starts it. Returns also what the device calls itself.
fn start(path: &Path, name: &str, wanted: &Wanted) -> Result<(MmapStream, Agreed, String), SourceError> {
    let fail = |doing: &'static str| move |error| SourceError::from_io(name, doing, error);
    let device = devices::open(path).map_err(fail("opening"))?;
    let capabilities = device.query_caps().map_err(fail("asking for its capabilities"))?;
    if let Some(problem) = devices::problem_of(capabilities.capabilities) {
        return Err(SourceError::Unsupported(format!("{name} cannot be used: {problem}")));
    }
    let agreed = negotiate(&device, name, wanted)?;
    let stream = MmapStream::start(&device).map_err(fail("starting the stream"))?;
    Ok((stream, agreed, devices::until_nul(&capabilities.card)))
}
