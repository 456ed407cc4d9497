//! A camera that films a [`Scene`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Scene, SceneError, SceneFrame, SceneOptions};
use crate::capture::{CameraConfig, FrameSource, SourceError, StreamFormat};
use crate::clock::{self, RealTime, Time};
use crate::types::frame::{BufferPool, PooledBytes};
use crate::types::{Frame, FrameMeta, PixelBuf, PixelFormat, Timestamp};

/// A camera that films a scene and never ends. A frame's `seq` is the scene's frame index, so
/// [`Scene::truth`] of it is that frame's truth.
pub struct SyntheticSource {
    camera: Arc<str>,
    scene: Arc<Scene>,
    format: PixelFormat,
    pace: Pace,
    /// Index of the frame that it began with.
    first: u64,
    /// The next frame's index.
    next: u64,
    rendered: SceneFrame,
    pool: BufferPool,
}

enum Pace {
    /// At the scene's rate from the first call on; what the reader is too slow for is skipped and counted.
    Real { time: Box<dyn Time>, start: Option<Instant> },
    /// Every frame as soon as it is asked for, stamped with the scene's own time.
    Lossless,
}

impl SyntheticSource {
    /// A camera that delivers at its rate, in the format that the configuration asks for: `auto` (RGB3), `RGB3` or
    /// `YUYV`. A reader that is too slow loses frames, as it does with a real camera.
    ///
    /// # Errors
    /// When the scene cannot be made, or the format is another.
    pub fn new(config: &CameraConfig) -> Result<SyntheticSource, SourceError> {
        SyntheticSource::with_time(config, Box::new(RealTime))
    }

    /// A camera that delivers every frame as fast as it is read. Its stamps are the scene's own time, so that two
    /// runs are the same to the last bit.
    ///
    /// # Errors
    /// As for [`SyntheticSource::new`].
    pub fn lossless(config: &CameraConfig) -> Result<SyntheticSource, SourceError> {
        SyntheticSource::open(config, Pace::Lossless)
    }

    fn with_time(config: &CameraConfig, time: Box<dyn Time>) -> Result<SyntheticSource, SourceError> {
        SyntheticSource::open(config, Pace::Real { time, start: None })
    }

    fn open(config: &CameraConfig, pace: Pace) -> Result<SyntheticSource, SourceError> {
        let format = match config.format.as_str() {
            "auto" | "RGB3" => PixelFormat::Rgb3,
            "YUYV" => PixelFormat::Yuyv,
            other => {
                let problem = format!("a synthetic camera gives RGB3 or YUYV, not {other}; set format = \"auto\"");
                return Err(SourceError::Unsupported(problem));
            }
        };
        let CameraConfig { width, height, seed, objects, fps, .. } = *config;
        let options = SceneOptions { width, height, seed, objects, fps, ..SceneOptions::default() };
        let scene = Scene::new(options).map_err(|error: SceneError| SourceError::Unsupported(error.to_string()))?;
        Ok(SyntheticSource {
            camera: config.name.as_str().into(),
            scene: Arc::new(scene),
            format,
            pace,
            first: 0,
            next: 0,
            rendered: SceneFrame::default(),
            pool: BufferPool::default(),
        })
    }

    /// The same camera, with `index` for its first frame.
    pub fn from_frame(self, index: u64) -> SyntheticSource {
        SyntheticSource { first: index, next: index, ..self }
    }

    /// The scene that is filmed, for its truth.
    pub fn scene(&self) -> Arc<Scene> {
        Arc::clone(&self.scene)
    }

    /// Renders frame `index` in the camera's format.
    fn film(&mut self, index: u64) -> PixelBuf {
        self.scene.render(index, &mut self.rendered);
        let SceneOptions { width, .. } = *self.scene.options();
        let mut bytes = self.pool.take();
        match self.format {
            PixelFormat::Yuyv => write_yuyv(&self.rendered.rgb, width, bytes.as_mut_vec()),
            _ => bytes.as_mut_vec().extend_from_slice(&self.rendered.rgb),
        }
        self.packed(bytes)
    }

    fn packed(&self, bytes: PooledBytes) -> PixelBuf {
        let SceneOptions { width, height, .. } = *self.scene.options();
        let stride = self.format.min_stride(width).expect("RGB3 and YUYV have rows");
        PixelBuf::new(self.format, width, height, stride, bytes).expect("a whole frame was written")
    }

    /// How long after the first frame frame `index` is due.
    fn due(&self, index: u64) -> Duration {
        let us = self.scene.time_us(index) - self.scene.time_us(self.first);
        Duration::from_micros(u64::try_from(us).unwrap_or(u64::MAX))
    }

    /// Which frame is to be filmed, and the stamp once it is: waits until its time has come.
    fn await_turn(&mut self, deadline: Instant) -> Result<(u64, PixelBuf, Timestamp), SourceError> {
        let Pace::Real { time, start } = &mut self.pace else {
            let index = self.next;
            let ns = u64::try_from(self.scene.time_us(index) * 1000).unwrap_or(u64::MAX);
            return Ok((index, self.film(index), Timestamp { mono_ns: ns, real_ns: ns }));
        };
        let now = time.now();
        let start = *start.get_or_insert(now);
        // The newest frame whose time has come; the one after the last delivered where that is later.
        let elapsed_us = self.scene.time_us(self.first) + now.saturating_duration_since(start).as_micros();
        let newest = self.scene.newest_at(elapsed_us);
        let index = newest.max(self.next);
        let due = start + self.due(index);
        if due > deadline {
            self.sleep_until(deadline);
            return Err(SourceError::Timeout(self.describe()));
        }
        // Rendering comes before the wait, so that it takes nothing from the frame's own time.
        let pixels = self.film(index);
        self.sleep_until(due);
        Ok((index, pixels, clock::now()))
    }

    fn sleep_until(&self, moment: Instant) {
        if let Pace::Real { time, .. } = &self.pace {
            let wait = moment.saturating_duration_since(time.now());
            if !wait.is_zero() {
                time.sleep(wait);
            }
        }
    }

    fn describe(&self) -> String {
        let options = self.scene.options();
        let objects = if options.objects == 1 { "1 object".into() } else { format!("{} objects", options.objects) };
        format!("synthetic scene {} of {objects}", options.seed)
    }
}

impl FrameSource for SyntheticSource {
    fn format(&self) -> StreamFormat {
        let options = self.scene.options();
        StreamFormat {
            source: self.describe(),
            pixels: self.format.to_string(),
            width: options.width,
            height: options.height,
            fps: Some(options.fps),
        }
    }

    fn next(&mut self, deadline: Instant) -> Result<Option<Frame>, SourceError> {
        let (seq, pixels, captured_at) = self.await_turn(deadline)?;
        let dropped = seq - self.next;
        self.next = seq + 1;
        let (width, height) = (pixels.width, pixels.height);
        let meta = FrameMeta { camera: Arc::clone(&self.camera), seq, captured_at, dropped, width, height };
        Ok(Some(Frame { meta, pixels }))
    }
}

/// Writes `rgb`, (height, width, 3), as packed 4:2:2 of BT.601 limited range. Each pair of pixels shares the mean
/// of its colours; the last pixel of an odd row is its own pair.
fn write_yuyv(rgb: &[u8], width: usize, out: &mut Vec<u8>) {
    out.clear();
    out.resize(rgb.len() / (width * 3) * width.div_ceil(2) * 4, 0);
    for (row, out) in rgb.chunks_exact(width * 3).zip(out.chunks_exact_mut(width.div_ceil(2) * 4)) {
        for (pair, out) in row.chunks(6).zip(out.chunks_exact_mut(4)) {
            let left = [pair[0], pair[1], pair[2]].map(i32::from);
            let right = if let [_, _, _, r, g, b] = *pair { [r, g, b].map(i32::from) } else { left };
            // BT.601's weights as 65,536ths, scaled to [16, 235] and [16, 240].
            let luma =
                |[r, g, b]: [i32; 3]| ((16_829 * r + 33_039 * g + 6_416 * b + (16 << 16) + (1 << 15)) >> 16) as u8;
            let [r, g, b] = [left[0] + right[0], left[1] + right[1], left[2] + right[2]];
            let chroma = |sum: i32| ((sum + (128 << 17) + (1 << 16)) >> 17) as u8;
            let blue = chroma(-9_714 * r - 19_070 * g + 28_784 * b);
            let red = chroma(28_784 * r - 24_103 * g - 4_681 * b);
            out.copy_from_slice(&[luma(left), blue, luma(right), red]);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::capture::SourceKind;

    fn config(format: &str, fps: f32) -> CameraConfig {
        CameraConfig {
            name: "test".into(),
            source: SourceKind::Synthetic,
            device: "auto".into(),
            command: Vec::new(),
            pipeline: String::new(),
            format: format.into(),
            width: 65,
            height: 48,
            fps,
            timeout_ms: 1000,
            folder: "".into(),
            repeat: false,
            seed: 3,
            objects: 2,
        }
    }

    /// Time that passes only by sleeping, and when a test says so.
    #[derive(Clone)]
    struct TestTime(Arc<Mutex<Instant>>);

    impl Time for TestTime {
        fn now(&self) -> Instant {
            *self.0.lock().unwrap()
        }

        fn sleep(&self, duration: Duration) {
            *self.0.lock().unwrap() += duration;
        }
    }

    #[test]
    fn a_reader_in_time_gets_every_frame_at_its_time() {
        for fps in [30.0, 29.97, 0.5, 1000.0] {
            let start = Instant::now();
            let time = TestTime(Arc::new(Mutex::new(start)));
            let mut source = SyntheticSource::with_time(&config("auto", fps), Box::new(time.clone())).unwrap();
            for seq in 0..50 {
                let frame = source.next(time.now() + Duration::from_secs(10)).unwrap().unwrap();
                assert_eq!((frame.meta.seq, frame.meta.dropped), (seq, 0), "{fps} frames a second");
                let late = time.now().duration_since(start).as_secs_f64() - seq as f64 / f64::from(fps);
                assert!(late.abs() < 1e-4, "{fps} frames a second: frame {seq} is {late} s late");
            }
        }
    }

    #[test]
    fn a_late_reader_gets_the_newest_frame_and_learns_what_it_lost() {
        let time = TestTime(Arc::new(Mutex::new(Instant::now())));
        let mut source = SyntheticSource::with_time(&config("RGB3", 10.0), Box::new(time.clone())).unwrap();
        let mut read = |late: Duration| {
            time.sleep(late);
            let frame = source.next(time.now() + Duration::from_secs(1)).unwrap().unwrap();
            (frame.meta.seq, frame.meta.dropped, frame)
        };
        assert_eq!(read(Duration::ZERO).0, 0);
        let (seq, dropped, frame) = read(Duration::from_millis(450));
        assert_eq!((seq, dropped), (4, 3));
        let (seq, dropped, _) = read(Duration::ZERO);
        assert_eq!((seq, dropped), (5, 0));
        let mut expected = SceneFrame::default();
        source.scene().render(4, &mut expected);
        assert_eq!(frame.pixels.bytes(), expected.rgb, "the picture is that of its seq");
    }

    #[test]
    fn a_deadline_before_the_next_frame_is_a_timeout_that_loses_nothing() {
        let time = TestTime(Arc::new(Mutex::new(Instant::now())));
        let mut source = SyntheticSource::with_time(&config("auto", 1.0), Box::new(time.clone())).unwrap();
        source.next(time.now()).unwrap();
        let deadline = time.now() + Duration::from_millis(300);
        assert!(matches!(source.next(deadline), Err(SourceError::Timeout(_))));
        assert_eq!(time.now(), deadline, "it waits, and not for longer");
        let frame = source.next(deadline + Duration::from_secs(1)).unwrap().unwrap();
        assert_eq!((frame.meta.seq, frame.meta.dropped), (1, 0));
    }

    #[test]
    fn a_camera_that_is_opened_again_goes_on_counting_and_does_not_wait() {
        let time = TestTime(Arc::new(Mutex::new(Instant::now())));
        let source = SyntheticSource::with_time(&config("RGB3", 10.0), Box::new(time.clone())).unwrap();
        let mut source = source.from_frame(1_000);
        let opened = time.now();
        for (seq, after_ms) in [(1_000, 0), (1_001, 100), (1_002, 200)] {
            let frame = source.next(time.now() + Duration::from_secs(1)).unwrap().unwrap();
            assert_eq!((frame.meta.seq, frame.meta.dropped), (seq, 0));
            assert_eq!(time.now(), opened + Duration::from_millis(after_ms));
        }
        time.sleep(Duration::from_millis(350));
        let frame = source.next(time.now() + Duration::from_secs(1)).unwrap().unwrap();
        assert_eq!((frame.meta.seq, frame.meta.dropped), (1_005, 2));
    }

    #[test]
    fn lossless_frames_are_all_there_and_stamped_by_the_scene() {
        let mut source = SyntheticSource::lossless(&config("auto", 25.0)).unwrap();
        for seq in 0..5 {
            let meta = source.next(Instant::now()).unwrap().unwrap().meta;
            assert_eq!((meta.seq, meta.dropped, meta.captured_at.mono_ns), (seq, 0, seq * 40_000_000));
        }
    }

    #[test]
    fn yuyv_is_that_of_bt_601() {
        // The 8-bit code values of the primaries at full amplitude, after ITU-R BT.601.
        struct Case([u8; 3], [u8; 3]);
        for Case(rgb, [y, u, v]) in [
            Case([0, 0, 0], [16, 128, 128]),
            Case([255, 255, 255], [235, 128, 128]),
            Case([255, 0, 0], [81, 90, 240]),
            Case([0, 255, 0], [145, 54, 34]),
            Case([0, 0, 255], [41, 240, 110]),
        ] {
            let mut out = Vec::new();
            write_yuyv(&rgb.repeat(6), 3, &mut out);
            assert_eq!(out, [y, u, y, v].repeat(4), "{rgb:?} in two rows of three pixels");
        }
        let frame = SyntheticSource::lossless(&config("YUYV", 30.0)).unwrap().next(Instant::now()).unwrap().unwrap();
        assert_eq!((frame.pixels.stride, frame.pixels.bytes().len()), (132, 132 * 48), "an odd width is rounded up");
    }

    #[test]
    fn what_cannot_be_filmed_is_refused_with_a_reason() {
        let error =
            |config: CameraConfig| SyntheticSource::new(&config).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(error(config("MJPG", 30.0)).contains("MJPG"));
        assert!(error(CameraConfig { objects: 65, ..config("auto", 30.0) }).contains("65"));
    }
}
