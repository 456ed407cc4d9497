//! Frames that another program writes: into a named pipe, or to the standard output of a command of the configuration. So whatever
//! gives frames can feed a camera here, as raw pixels or as JPEGs: ffmpeg, GStreamer, libcamera.
//!
//! A frame bears the time at which its first bytes came.

mod feed;
pub mod jpeg;

use std::sync::Arc;
use std::time::Instant;

use super::sequence::{SequenceCounter, StampKeeper};
use super::{CameraConfig, FrameSource, SourceError, StreamFormat};
use crate::clock;
use crate::types::frame::{BufferPool, PooledBytes};
use crate::types::{Frame, FrameMeta, PixelBuf, PixelFormat};
use feed::{Fed, Feed};
use jpeg::Splitter;

/// Bytes that are read at once where a frame's size is not known.
const PIECE: usize = 1 << 16;

/// A program that writes frames.
pub struct PipeSource {
    camera: Arc<str>,
    feed: Feed,
    format: PixelFormat,
    /// Pixels; of JPEGs those of the first one.
    size: Option<[usize; 2]>,
    fps: f32,
    /// What came of the next frame so far, and when its first bytes did.
    pending: PooledBytes,
    began: Option<u64>,
    splitter: Splitter,
    sequence: SequenceCounter,
    stamps: StampKeeper,
    pool: BufferPool,
}

impl PipeSource {
    /// Opens the named pipe `config.device`, or starts `config.command` where there is one. The first frame is number `resume_from`.
    ///
    /// # Errors
    /// When there is no such pipe or program, or this user may not use it.
    pub fn open(config: &CameraConfig, resume_from: u64) -> Result<PipeSource, SourceError> {
        let format = config.format.as_bytes().try_into().ok().and_then(PixelFormat::from_fourcc);
        let format = format.ok_or_else(|| SourceError::Unsupported("a pipe's `format` must be named".into()))?;
        let pool = BufferPool::default();
        Ok(PipeSource {
            camera: config.name.as_str().into(),
            feed: Feed::open(config)?,
            format,
            size: (format != PixelFormat::Mjpg).then_some([config.width, config.height]),
            fps: config.fps,
            pending: pool.take(),
            began: None,
            splitter: Splitter::default(),
            sequence: SequenceCounter::resume_from(resume_from),
            stamps: StampKeeper::default(),
            pool,
        })
    }

    /// Bytes that the next frame lacks, or as many as may be read.
    fn wanted(&self) -> usize {
        let [width, height] = self.size.unwrap_or_default();
        let stride = self.format.min_stride(width);
        let whole = stride.and_then(|stride| self.format.frame_bytes(stride, height));
        whole.map_or(PIECE, |whole| whole - self.pending.as_slice().len())
    }

    /// The next frame, where all of it has come.
    fn whole(&mut self) -> Result<Option<Frame>, SourceError> {
        let bytes = match self.format {
            PixelFormat::Mjpg => {
                let Some(picture) = self.splitter.find(self.pending.as_slice()) else {
                    let useless = self.splitter.useless();
                    self.pending.as_mut_vec().drain(..useless);
                    self.splitter.taken_away(useless);
                    // What stands between pictures is of none.
                    self.began = self.began.filter(|_| self.splitter.has_begun());
                    return Ok(None);
                };
                let before = *self.size.get_or_insert(picture.size);
                if before != picture.size {
                    let [[w0, h0], [w1, h1]] = [before, picture.size];
                    let told =
                        format!("{}: pictures of {w1}x{h1} pixels come after some of {w0}x{h0}", self.feed.name());
                    return Err(SourceError::Unsupported(told));
                }
                let mut rest = self.pool.take();
                rest.as_mut_vec().extend_from_slice(&self.pending.as_slice()[picture.bytes.end..]);
                let mut bytes = std::mem::replace(&mut self.pending, rest);
                bytes.as_mut_vec().truncate(picture.bytes.end);
                bytes.as_mut_vec().drain(..picture.bytes.start);
                self.splitter.restart();
                bytes
            }
            _ if self.wanted() > 0 => return Ok(None),
            _ => std::mem::replace(&mut self.pending, self.pool.take()),
        };
        let now = clock::mono_ns();
        let began = self.began.take();
        // What came with the end of this frame began with it.
        self.began = (!self.pending.as_slice().is_empty()).then_some(now);
        let captured_at = clock::at(self.stamps.keep(began, now));
        let [width, height] = self.size.unwrap_or_default();
        let stride = self.format.min_stride(width).unwrap_or(0);
        let pixels = PixelBuf::new(self.format, width, height, stride, bytes)
            .map_err(|error| SourceError::Unsupported(format!("{}: {error}", self.feed.name())))?;
        let numbered = self.sequence.keep(None);
        let (camera, seq, dropped) = (self.camera.clone(), numbered.seq, numbered.dropped);
        Ok(Some(Frame { meta: FrameMeta { camera, seq, captured_at, dropped, width, height }, pixels }))
    }
}

impl FrameSource for PipeSource {
    fn format(&self) -> StreamFormat {
        let [width, height] = self.size.unwrap_or_default();
        StreamFormat {
            source: self.feed.name().to_owned(),
            pixels: self.format.to_string(),
            width,
            height,
            fps: Some(self.fps),
        }
    }

    /// Whoever writes to a named pipe fails where nobody reads it, and half a frame that is lost shifts all that follow.
    fn outlasts_silence(&self) -> bool {
        self.feed.is_named()
    }

    fn next(&mut self, deadline: Instant) -> Result<Option<Frame>, SourceError> {
        loop {
            if let Some(frame) = self.whole()? {
                return Ok(Some(frame));
            }
            // Whatever comes may never be a frame.
            if Instant::now() >= deadline {
                return Err(SourceError::Timeout(self.feed.name().to_owned()));
            }
            let wanted = self.wanted();
            match self.feed.read(self.pending.as_mut_vec(), wanted, deadline)? {
                Fed::Bytes => self.began = self.began.or_else(|| Some(clock::mono_ns())),
                Fed::Nothing => return Err(SourceError::Timeout(self.feed.name().to_owned())),
            }
        }
    }
}
