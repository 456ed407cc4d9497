//! Frames of a GStreamer pipeline of the configuration: a CSI camera behind its vendor's elements, a stream, a film.
//!
//! A frame bears the time at which its pipeline says that it was captured: GStreamer's clock is made the monotonic one, on which
//! sources stamp what they give.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded};
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::AppSink;
use gstreamer_video::{VideoFormat, VideoFrameExt, VideoFrameRef, VideoInfo};

use super::pipe::jpeg::Splitter;
use super::sequence::{SequenceCounter, StampKeeper};
use super::{CameraConfig, FrameSource, Pace, SourceError, StreamFormat};
use crate::clock;
use crate::types::frame::{BufferPool, PooledBytes};
use crate::types::{Frame, FrameMeta, PixelBuf, PixelFormat, Timestamp};

/// How long the first frame may take: a server is looked up, asked, and sends a key frame at some time.
const BEGINNING: Duration = Duration::from_secs(15);
/// What is waited for at once: an element that fails says so beside the frames, not among them.
const GLANCE: Duration = Duration::from_millis(20);
/// Frames that wait in a live pipeline, at most; the oldest is dropped.
const WAITING: u32 = 2;
/// How long a pipeline may take to end. One that hangs is left behind.
const ENDING: Duration = Duration::from_secs(2);
/// A live frame that says it is older was stamped by a clock that runs off.
const OLDEST_NS: u64 = 10_000_000_000;

type StateChange = Result<gst::StateChangeSuccess, gst::StateChangeError>;

/// A pipeline that runs.
pub struct GstreamerSource {
    camera: Arc<str>,
    /// Its first element, for people. The whole may hold a password.
    name: String,
    pipeline: gst::Pipeline,
    /// What came of its start, which may take long: some elements reach for a server first.
    started: Receiver<StateChange>,
    sink: AppSink,
    bus: gst::Bus,
    pace: Pace,
    repeat: bool,
    /// Frames a second of a film that does not tell.
    rate: f32,
    opened: Instant,
    /// Frames since a film began.
    shown: u64,
    /// When the next frame is due of a film whose pictures bear no times.
    due: Option<Instant>,
    /// Whether frames come as they are made; `None` until the pipeline knows.
    live: Option<bool>,
    /// Of the first frame: what all others must be.
    format: Option<(PixelFormat, [usize; 2])>,
    fps: Option<f32>,
    sequence: SequenceCounter,
    stamps: StampKeeper,
    pool: BufferPool,
}

impl GstreamerSource {
    /// Starts the pipeline `config.pipeline`. The first frame is number `resume_from`.
    ///
    /// # Errors
    /// When it is no pipeline with one `appsink`, or an element is not installed or refuses to start.
    pub fn open(config: &CameraConfig, pace: Pace, resume_from: u64) -> Result<GstreamerSource, SourceError> {
        let name = without_addresses(config.pipeline.split_whitespace().next().unwrap_or_default());
        let refused = |problem: String| SourceError::Unsupported(format!("{name}: {}", without_addresses(&problem)));
        gst::init().map_err(|error| refused(format!("GStreamer does not start: {error}")))?;
        let parsed = gst::parse::launch_full(&config.pipeline, None, gst::ParseFlags::FATAL_ERRORS);
        let parsed = parsed.map_err(|error| refused(format!("{error}; `gst-inspect-1.0` lists what is installed")))?;
        let sinks = |pipeline: &gst::Pipeline| -> Vec<AppSink> {
            pipeline.iterate_recurse().into_iter().flatten().filter_map(|element| element.downcast().ok()).collect()
        };
        let found = parsed.downcast::<gst::Pipeline>().ok().map(|pipeline| (sinks(&pipeline), pipeline));
        let (sink, pipeline) = match found {
            Some((sinks, pipeline)) if sinks.len() == 1 => (sinks.into_iter().next(), pipeline),
            _ => return Err(refused("the pipeline must end in `! appsink`, and have no other".into())),
        };
        let (Some(sink), Some(bus)) = (sink, pipeline.bus()) else { return Err(refused("has no bus".into())) };
        sink.set_caps(Some(&readable(&config.format)));
        sink.set_property("enable-last-sample", false);
        sink.set_max_buffers(WAITING);
        pipeline.use_clock(Some(&gst::SystemClock::obtain()));
        let (tell, started) = bounded(1);
        pipeline.call_async(move |pipeline| {
            // Nobody listens any more where the source was given up.
            let _ = tell.send(pipeline.set_state(gst::State::Paused));
        });
        Ok(GstreamerSource {
            camera: config.name.as_str().into(),
            name,
            pipeline,
            started,
            sink,
            bus,
            pace,
            repeat: config.repeat,
            rate: config.fps,
            opened: Instant::now(),
            shown: 0,
            due: None,
            live: None,
            format: None,
            fps: None,
            sequence: SequenceCounter::resume_from(resume_from),
            stamps: StampKeeper::default(),
            pool: BufferPool::default(),
        })
    }

    /// What has come of the start until now.
    fn start(&mut self, patience: Duration) -> Result<(), SourceError> {
        match self.started.recv_timeout(patience) {
            Ok(state) => self.begin(state),
            Err(error) if error.is_timeout() => Ok(()),
            // It was told before that there is more to wait for.
            Err(_) => {
                let (state, ..) = self.pipeline.state(gst::ClockTime::from_nseconds(patience.as_nanos() as u64));
                self.begin(state)
            }
        }
    }

    /// Lets frames flow once it is known whether they come as they are made: those of a camera that is late are worth nothing, those
    /// of a film are shown when their time comes.
    fn begin(&mut self, state: StateChange) -> Result<(), SourceError> {
        let live = match state {
            Ok(gst::StateChangeSuccess::Async) => return Ok(()),
            Ok(success) => success == gst::StateChangeSuccess::NoPreroll,
            Err(_) => return Err(self.did_not_start()),
        };
        self.live = Some(live);
        self.sink.set_drop(live);
        if live || self.pace == Pace::Lossless {
            self.sink.set_sync(false);
        }
        match self.pipeline.set_state(gst::State::Playing) {
            Ok(_) => Ok(()),
            Err(_) => Err(self.did_not_start()),
        }
    }

    /// What an element said of its failure, if one failed. Takes away all else that elements say.
    fn failure(&self) -> Option<SourceError> {
        self.failure_within(Duration::ZERO)
    }

    /// Why it did not start. An element may say so a moment later.
    fn did_not_start(&self) -> SourceError {
        self.failure_within(Duration::from_millis(200)).unwrap_or_else(|| self.ended("does not start"))
    }

    fn failure_within(&self, patience: Duration) -> Option<SourceError> {
        let errors = [gst::MessageType::Error];
        let patience = gst::ClockTime::from_nseconds(patience.as_nanos() as u64);
        // The second alone would leave off at whatever else comes first.
        let message = self.bus.pop_filtered(&errors).or_else(|| self.bus.timed_pop_filtered(patience, &errors))?;
        let gst::MessageView::Error(error) = message.view() else { return None };
        // Its own name has a number, another one each time that it is opened.
        let element = error.src().and_then(|source| source.downcast_ref::<gst::Element>()?.factory());
        let element = element.map(|factory| factory.name().to_string()).unwrap_or_default();
        let debug = error.debug().unwrap_or_default();
        // Its last line is the cause; those before name places in GStreamer's sources.
        let cause = debug.lines().skip(1).last().map(|line| format!(" ({})", line.trim())).unwrap_or_default();
        let advice = if debug.contains("not-negotiated") || debug.contains("not-linked") {
            "; before the `appsink`, `videoconvert` gives pixels that are read here"
        } else {
            ""
        };
        let (name, error) = (&self.name, error.error());
        Some(match error.matches(gst::ResourceError::Busy) {
            true => SourceError::Busy(name.clone()),
            false => SourceError::Ended(without_addresses(&format!("{name}: {element}: {error}{cause}{advice}"))),
        })
    }

    fn ended(&self, how: &str) -> SourceError {
        SourceError::Ended(format!("{}: {how}", self.name))
    }

    /// What the end of the stream means: a camera's is its loss, a film's the end, or its beginning.
    fn end(&mut self) -> Result<Ended, SourceError> {
        // An element that fails ends the stream as well, and says so first.
        if let Some(failure) = self.failure() {
            return Err(failure);
        }
        if self.live == Some(true) {
            return Err(self.ended("the live stream has ended"));
        }
        if std::mem::take(&mut self.shown) == 0 {
            return Err(self.ended("has ended without a frame"));
        }
        if !self.repeat || self.pace == Pace::Lossless {
            return Ok(Ended::ForGood);
        }
        let again = gst::SeekFlags::FLUSH | gst::SeekFlags::KEY_UNIT;
        self.pipeline.seek_simple(again, gst::ClockTime::ZERO).map(|()| Ended::ToBeginAgain).map_err(|_| {
            self.ended(
                "has ended, and cannot be sought: a stream needs `is-live=true` at its source, a film `repeat = false`",
            )
        })
    }

    /// The frame of a sample; `None` where it is damaged: cameras send such while they start, and networks at any time.
    fn frame(&mut self, sample: &gst::Sample) -> Result<Option<Frame>, SourceError> {
        let now = clock::mono_ns();
        let unreadable = |what: &str| SourceError::Unsupported(format!("{}: {what}", self.name));
        let (Some(caps), Some(buffer)) = (sample.caps(), sample.buffer()) else {
            return Err(unreadable("a sample without a picture"));
        };
        if buffer.flags().contains(gst::BufferFlags::CORRUPTED) {
            return Ok(None);
        }
        let mut bytes = self.pool.take();
        let rate = caps.structure(0).and_then(|caps| caps.get::<gst::Fraction>("framerate").ok());
        let rate = rate.map(|rate| rate.numer() as f32 / rate.denom().max(1) as f32).filter(|rate| *rate > 0.0);
        if self.live == Some(false) && buffer.pts().is_none() {
            let interval = 1.0 / f64::from(rate.unwrap_or(self.rate));
            // A reader that is late gets the pictures later, and not in a hurry.
            let due = self.due.map_or_else(Instant::now, |due| due.max(Instant::now()));
            self.due = Some(due + Duration::try_from_secs_f64(interval).unwrap_or_default());
        }
        let (format, size) = if caps.structure(0).is_some_and(|caps| caps.name() == "image/jpeg") {
            let map = buffer.map_readable().map_err(|_| unreadable("a picture that cannot be read"))?;
            let Some(picture) = Splitter::default().find(&map) else { return Ok(None) };
            bytes.as_mut_vec().extend_from_slice(&map[picture.bytes]);
            (PixelFormat::Mjpg, picture.size)
        } else {
            let info = VideoInfo::from_caps(caps).map_err(|_| unreadable("a sample that is no picture"))?;
            let frame = VideoFrameRef::from_buffer_ref_readable(buffer, &info)
                .map_err(|_| unreadable("a picture that is shorter than its size says"))?;
            let format = FORMATS.iter().find(|(theirs, ..)| *theirs == info.format());
            let (_, _, format) = format.ok_or_else(|| unreadable("a picture of another format than was asked for"))?;
            pack(&frame, *format, &mut bytes).ok_or_else(|| unreadable("rows that lie outside of their picture"))?;
            (*format, [info.width() as usize, info.height() as usize])
        };
        let before = *self.format.get_or_insert((format, size));
        if before != (format, size) {
            let [[w0, h0], [w1, h1]] = [before.1, size];
            return Err(self.ended(&format!("frames of {w1}x{h1} {format} come after some of {w0}x{h0} {}", before.0)));
        }
        self.fps = rate;
        let captured_at = self.captured_at(sample, buffer, now);
        let [width, height] = size;
        let stride = format.min_stride(width).unwrap_or(0);
        let pixels = PixelBuf::new(format, width, height, stride, bytes)
            .map_err(|error| SourceError::Unsupported(format!("{}: {error}", self.name)))?;
        let numbered = self.sequence.keep(None);
        let (camera, seq, dropped) = (self.camera.clone(), numbered.seq, numbered.dropped);
        Ok(Some(Frame { meta: FrameMeta { camera, seq, captured_at, dropped, width, height }, pixels }))
    }

    /// When the frame was captured, as far as its pipeline tells; of a film, when it is shown, or without a clock when it would be.
    fn captured_at(&mut self, sample: &gst::Sample, buffer: &gst::BufferRef, now: u64) -> Timestamp {
        let segment = sample.segment().and_then(|segment| segment.downcast_ref::<gst::ClockTime>());
        let running = segment.zip(buffer.pts()).and_then(|(segment, pts)| segment.to_running_time(pts));
        match self.pace {
            Pace::Lossless => {
                let by_rate = || (self.shown as f64 * 1e9 / f64::from(self.fps.unwrap_or(self.rate))) as u64;
                let ns = running.map_or_else(by_rate, gst::ClockTime::nseconds);
                Timestamp { mono_ns: ns, real_ns: ns }
            }
            Pace::Live => {
                let base = self.sink.base_time().filter(|_| self.live == Some(true));
                let captured = running.zip(base).map(|(running, base)| running.nseconds() + base.nseconds());
                let captured = captured.filter(|captured| captured.saturating_add(OLDEST_NS) > now);
                clock::at(self.stamps.keep(captured, now))
            }
        }
    }
}

impl FrameSource for GstreamerSource {
    fn format(&self) -> StreamFormat {
        let (pixels, [width, height]) =
            self.format.map_or((String::new(), [0, 0]), |(format, size)| (format.to_string(), size));
        StreamFormat { source: self.name.clone(), pixels, width, height, fps: self.fps }
    }

    fn next(&mut self, deadline: Instant) -> Result<Option<Frame>, SourceError> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let glance = left.min(GLANCE);
            if let Some(failure) = self.failure() {
                return Err(failure);
            }
            if self.pace == Pace::Live
                && let Some(due) = self.due
            {
                std::thread::sleep(due.min(deadline).saturating_duration_since(Instant::now()));
                if due > deadline {
                    return Err(SourceError::Timeout(self.name.clone()));
                }
            }
            if self.live.is_none() {
                self.start(glance)?;
            } else if let Some(sample) =
                self.sink.try_pull_sample(gst::ClockTime::from_nseconds(glance.as_nanos() as u64))
            {
                if let Some(frame) = self.frame(&sample)? {
                    self.shown += 1;
                    return Ok(Some(frame));
                }
                self.sequence.lose();
            } else if self.sink.is_eos() {
                match self.end()? {
                    Ended::ForGood => return Ok(None),
                    Ended::ToBeginAgain => {}
                }
            }
            if left.is_zero() {
                return Err(SourceError::Timeout(self.name.clone()));
            }
        }
    }

    /// A stream from the network may take longer to begin than a camera may be silent.
    fn outlasts_silence(&self) -> bool {
        self.format.is_none() && self.opened.elapsed() < BEGINNING
    }
}

impl Drop for GstreamerSource {
    fn drop(&mut self) {
        let (tell, ended) = bounded(1);
        self.pipeline.call_async(move |pipeline| {
            // Nobody is left to tell of a failure, and after a while nobody waits.
            let _ = pipeline.set_state(gst::State::Null);
            let _ = tell.send(());
        });
        let _ = ended.recv_timeout(ENDING);
    }
}

/// What the end of a stream is.
enum Ended {
    ForGood,
    ToBeginAgain,
}

/// A message without the words that hold an address, which may hold a password.
fn without_addresses(message: &str) -> String {
    let hidden = |word: &str| if word.contains("://") { "...".to_owned() } else { word.to_owned() };
    message.split(' ').map(hidden).collect::<Vec<_>>().join(" ")
}

/// Pixel formats under GStreamer's names and ours, the cheapest to read first.
const FORMATS: [(VideoFormat, &str, PixelFormat); 6] = [
    (VideoFormat::Nv12, "NV12", PixelFormat::Nv12),
    (VideoFormat::Yuy2, "YUY2", PixelFormat::Yuyv),
    (VideoFormat::Uyvy, "UYVY", PixelFormat::Uyvy),
    (VideoFormat::Rgb, "RGB", PixelFormat::Rgb3),
    (VideoFormat::Bgr, "BGR", PixelFormat::Bgr3),
    (VideoFormat::Gray8, "GRAY8", PixelFormat::Grey),
];

/// What the sink takes, by a four-character code or `auto`.
fn readable(format: &str) -> gst::Caps {
    let is_wanted = |ours: PixelFormat| format == "auto" || format == ours.to_string();
    let wanted: Vec<_> = FORMATS.iter().filter(|(.., ours)| is_wanted(*ours)).map(|(_, theirs, _)| *theirs).collect();
    let mut caps = gst::Caps::builder_full();
    if !wanted.is_empty() {
        caps = caps.structure(gst::Structure::builder("video/x-raw").field("format", gst::List::new(wanted)).build());
    }
    if is_wanted(PixelFormat::Mjpg) {
        caps = caps.structure(gst::Structure::new_empty("image/jpeg"));
    }
    caps.build()
}

/// Copies a frame's rows without what pads them; `None` where a plane is shorter than its rows.
fn pack(frame: &VideoFrameRef<&gst::BufferRef>, format: PixelFormat, into: &mut PooledBytes) -> Option<()> {
    let row = format.min_stride(frame.width() as usize)?;
    let height = frame.height() as usize;
    let rows = [height, height.div_ceil(2)];
    for (plane, rows) in rows.into_iter().enumerate().take(frame.n_planes() as usize) {
        let stride = usize::try_from(*frame.plane_stride().get(plane)?).ok()?;
        let data = frame.plane_data(plane as u32).ok()?;
        for y in 0..rows {
            into.as_mut_vec().extend_from_slice(data.get(y * stride..y * stride + row)?);
        }
    }
    Some(())
}
