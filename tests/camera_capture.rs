//! Capture from a real kernel's camera: the virtual one of the module `vivid`.
//!
//! It is unplugged and plugged in again here, so these tests touch no other camera, and are skipped where there is
//! none of that driver. They need root, and `v4l2-ctl`; run them with `--test-threads=1`, since they share it.
#![cfg(target_os = "linux")]

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tagalong::capture::{self, CameraConfig, Event, FrameSource, Pace, Reopening, SourceError, SourceKind, State};
use tagalong::clock;
use tagalong::types::{Frame, PixelFormat};

/// The one camera, for one test at a time, if it is there.
fn vivid() -> Option<(MutexGuard<'static, ()>, String)> {
    static CAMERA: Mutex<()> = Mutex::new(());
    let guard = CAMERA.lock().unwrap_or_else(PoisonError::into_inner);
    let device = capture::devices().into_iter().find(|device| device.driver == "vivid");
    if device.is_none() {
        eprintln!("SKIPPED: there is no camera of the driver `vivid` here");
    }
    Some((guard, device?.device))
}

fn config(device: &str, format: &str) -> CameraConfig {
    CameraConfig {
        name: "cam".into(),
        source: SourceKind::V4l2,
        device: device.into(),
        command: Vec::new(),
        pipeline: String::new(),
        format: format.into(),
        width: 640,
        height: 360,
        fps: 30.0,
        timeout_ms: 2000,
        folder: PathBuf::new(),
        repeat: false,
        seed: 0,
        objects: 1,
    }
}

fn open(device: &str, format: &str) -> Result<Box<dyn FrameSource>, SourceError> {
    capture::open(&config(device, format), Pace::Live, 0)
}

fn in_ms(milliseconds: u64) -> Instant {
    Instant::now() + Duration::from_millis(milliseconds)
}

fn frames(source: &mut dyn FrameSource, count: usize) -> Vec<Frame> {
    (0..count).map(|_| source.next(in_ms(3000)).unwrap().unwrap()).collect()
}

fn control(device: &str, setting: &str) {
    let status = Command::new("v4l2-ctl").args(["-d", device, "-c", setting]).status().unwrap();
    assert!(status.success(), "v4l2-ctl -c {setting}");
}

fn plug(what: &str) {
    fs::write(format!("/sys/bus/platform/drivers/vivid/{what}"), "vivid.0").unwrap();
}

/// The second of the colour bars that the camera shows is yellow; this is what it measures there, in the middle of
/// the picture, as luminance and two more values in [0, 255] that are low for blue and high for red.
fn yellow_bar(frame: &Frame) -> Option<(u8, u8, u8)> {
    let (pixels, x, y) = (&frame.pixels, 120, 180);
    let row = &pixels.bytes()[y * pixels.stride..];
    match pixels.format {
        PixelFormat::Yuyv => Some((row[2 * x], row[2 * x + 1], row[2 * x + 3])),
        PixelFormat::Uyvy => Some((row[2 * x + 1], row[2 * x], row[2 * x + 2])),
        PixelFormat::Nv12 => {
            let chroma = &pixels.bytes()[pixels.stride * pixels.height + y / 2 * pixels.stride..];
            Some((row[x], chroma[x], chroma[x + 1]))
        }
        PixelFormat::Rgb3 => Some((row[3 * x + 1], row[3 * x + 2], row[3 * x])),
        PixelFormat::Bgr3 => Some((row[3 * x + 1], row[3 * x], row[3 * x + 2])),
        PixelFormat::Grey | PixelFormat::Mjpg => None,
    }
}

#[test]
fn every_format_streams_with_stamps_and_numbers_that_hold() {
    let Some((_guard, device)) = vivid() else { return };
    struct Case {
        format: PixelFormat,
        /// Of a frame of 640x360 pixels.
        bytes: usize,
    }
    let cases = [
        Case { format: PixelFormat::Yuyv, bytes: 460_800 },
        Case { format: PixelFormat::Uyvy, bytes: 460_800 },
        Case { format: PixelFormat::Nv12, bytes: 345_600 },
        Case { format: PixelFormat::Grey, bytes: 230_400 },
        Case { format: PixelFormat::Rgb3, bytes: 691_200 },
        Case { format: PixelFormat::Bgr3, bytes: 691_200 },
    ];
    for Case { format, bytes } in cases {
        let mut source = open(&device, &format.to_string()).unwrap();
        let told = source.format();
        assert_eq!((told.pixels, told.width, told.height), (format.to_string(), 640, 360));
        assert!((told.fps.unwrap() - 30.0).abs() < 0.1, "{:?}", told.fps);
        let before = clock::now();
        let frames = frames(&mut *source, 30);
        let after = clock::now();
        for frame in &frames {
            assert_eq!((frame.pixels.format, frame.pixels.bytes().len()), (format, bytes));
            assert_eq!((frame.meta.width, frame.meta.height), (640, 360));
            let stamp = frame.meta.captured_at;
            assert!(stamp.mono_ns + 200_000_000 > before.mono_ns && stamp.mono_ns <= after.mono_ns);
            assert!(stamp.real_ns + 200_000_000 > before.real_ns && stamp.real_ns < after.real_ns + 200_000_000);
            if let Some((light, blue, red)) = yellow_bar(frame) {
                assert!(light > 120 && blue < 100 && red > 120, "{format}: {light} {blue} {red}");
            }
        }
        for pair in frames.windows(2) {
            assert_eq!(pair[1].meta.seq, pair[0].meta.seq + 1 + pair[1].meta.dropped);
            assert!(pair[1].meta.captured_at.mono_ns > pair[0].meta.captured_at.mono_ns);
        }
        let (first, last) = (&frames[0].meta, &frames[29].meta);
        let seconds = (last.captured_at.mono_ns - first.captured_at.mono_ns) as f64 / 1e9;
        let rate = (last.seq - first.seq) as f64 / seconds;
        eprintln!("{format}: {rate:.2} frames a second, {} lost", last.seq - first.seq - 29);
        assert!((27.0..33.0).contains(&rate), "numbers and stamps disagree: {rate} frames a second");
    }
}

#[test]
fn the_list_of_devices_tells_what_the_camera_offers() {
    let Some((_guard, path)) = vivid() else { return };
    let device = capture::devices().into_iter().find(|device| device.device == path).unwrap();
    assert!(device.usable && device.problem.is_none() && device.card == "vivid", "{device:?}");
    let format = |name: &str| device.formats.iter().find(|format| format.pixels == name).unwrap();
    assert!(format("YUYV").known && !format("NV21").known && !format("Y16-BE").known);
    let size = format("YUYV").sizes.iter().find(|size| (size.width, size.height) == (640, 360)).unwrap();
    assert!(size.fps.contains(&30.0), "{size:?}");
    assert!(device.formats.iter().all(|format| format.pixels != "MJPG"));
}

#[test]
fn auto_takes_the_camera_and_the_best_format() {
    let Some((_guard, _)) = vivid() else { return };
    let source = open("auto", "auto").unwrap();
    assert_eq!(source.format().to_string(), "YUYV 640x360 at 30 fps from /dev/video0 (vivid)");
    drop(source);
    let source = open("video0", "auto").unwrap();
    assert_eq!(source.format().unmet(&config("video0", "auto")), None);
}

#[test]
fn a_format_that_the_camera_lacks_is_refused() {
    let Some((_guard, device)) = vivid() else { return };
    let error = open(&device, "MJPG").err().unwrap();
    assert!(matches!(error, SourceError::Unsupported(_)));
    assert!(error.to_string().starts_with("/dev/video0 does not give MJPG; it offers YUYV, UYVY, "), "{error}");
}

#[test]
fn a_second_opener_is_told_that_the_camera_is_in_use() {
    let Some((_guard, device)) = vivid() else { return };
    let mut first = open(&device, "YUYV").unwrap();
    for format in ["YUYV", "GREY", "auto"] {
        let error = open(&device, format).err().unwrap();
        assert!(matches!(error, SourceError::Busy(_)), "{error}");
    }
    frames(&mut *first, 5);
    drop(first);
    frames(&mut *open(&device, "GREY").unwrap(), 2);
    assert!(matches!(open("/dev/video77", "auto").err().unwrap(), SourceError::NotFound(_)));
}

/// Descriptors and mappings of the camera that this process holds.
fn held() -> (usize, usize) {
    let links = fs::read_dir("/proc/self/fd").unwrap().flatten().filter_map(|fd| fs::read_link(fd.path()).ok());
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let of_camera = |name: &str| name.contains("/dev/video");
    (
        links.filter(|link| of_camera(&link.to_string_lossy())).count(),
        maps.lines().filter(|line| of_camera(line)).count(),
    )
}

#[test]
fn a_camera_that_is_closed_is_let_go_of() {
    let Some((_guard, device)) = vivid() else { return };
    for _ in 0..20 {
        let mut source = open(&device, "GREY").unwrap();
        frames(&mut *source, 1);
        let (descriptors, mappings) = held();
        assert!(descriptors == 1 && mappings >= 1, "{descriptors} descriptors, {mappings} mappings");
        drop(source);
        assert_eq!(held(), (0, 0));
    }
}

#[test]
fn a_deadline_is_kept_and_the_stream_goes_on_after_it() {
    let Some((_guard, device)) = vivid() else { return };
    let mut source = open(&device, "GREY").unwrap();
    frames(&mut *source, 2);
    let started = Instant::now();
    assert!(matches!(source.next(in_ms(2)), Err(SourceError::Timeout(_))));
    assert!(started.elapsed() < Duration::from_millis(30), "{:?}", started.elapsed());
    frames(&mut *source, 5);
}

#[test]
fn frames_that_nobody_fetched_are_counted_and_the_newest_comes() {
    let Some((_guard, device)) = vivid() else { return };
    let mut source = open(&device, "GREY").unwrap();
    let before = frames(&mut *source, 2).remove(1).meta;
    thread::sleep(Duration::from_millis(1000));
    let late = frames(&mut *source, 3);
    assert!(late[0].meta.dropped >= 2, "older frames were given up: {:?}", late[0].meta);
    let lost: u64 = late.iter().map(|frame| frame.meta.dropped).sum();
    assert!((20..50).contains(&lost), "{lost} frames lost in a second");
    assert_eq!(late[2].meta.seq, before.seq + 3 + lost);
}

#[test]
fn frames_that_the_driver_drops_are_counted() {
    let Some((_guard, device)) = vivid() else { return };
    let mut source = open(&device, "GREY").unwrap();
    control(&device, "percentage_of_dropped_buffers=50");
    let frames = frames(&mut *source, 40);
    control(&device, "percentage_of_dropped_buffers=0");
    let dropped: u64 = frames[1..].iter().map(|frame| frame.meta.dropped).sum();
    assert_eq!(frames[39].meta.seq - frames[0].meta.seq, 39 + dropped);
    assert!(dropped >= 10, "{dropped}");
}

/// Reads until the state is as `wanted`; returns it, what came before it, and how long it took.
fn until(source: &mut Reopening, wanted: impl Fn(&State) -> bool) -> (State, Vec<Frame>, Duration) {
    let (started, mut frames) = (Instant::now(), Vec::new());
    while started.elapsed() < Duration::from_secs(20) {
        match source.next(in_ms(100)) {
            Some(Event::State(state)) => {
                eprintln!("{:?}: {state:?}", started.elapsed());
                if wanted(&state) {
                    return (state, frames, started.elapsed());
                }
            }
            Some(Event::Frame(frame)) => frames.push(frame),
            None => {}
        }
    }
    panic!("it did not come to that; it is {:?}", source.state());
}

fn streaming(state: &State) -> bool {
    matches!(state, State::Streaming(_))
}

fn lost(state: &State) -> bool {
    matches!(state, State::Lost { .. })
}

/// Streams, loses the camera by `lose`, gets it back by `restore` some seconds later, and streams again.
fn comes_back(lose: impl FnOnce(&str), away: Duration, restore: impl FnOnce()) {
    let Some((_guard, device)) = vivid() else { return };
    let mut source = Reopening::camera(config(&device, "auto"), Pace::Live);
    until(&mut source, streaming);
    let Some(Event::Frame(first)) = source.next(in_ms(3000)) else { panic!("no frame") };
    lose(&device);
    let (_, frames, took) = until(&mut source, lost);
    assert!(took < Duration::from_secs(1), "it took {took:?} to see that the camera is lost");
    let last = frames.last().map_or(first.meta.seq, |frame| frame.meta.seq);
    let since = Instant::now();
    while since.elapsed() < away {
        let event = source.next(in_ms(100));
        assert!(!matches!(event, Some(Event::Frame(_) | Event::State(State::Streaming(_)))), "{event:?}");
    }
    restore();
    let (_, _, took) = until(&mut source, streaming);
    assert!(took < Duration::from_secs(2), "it took {took:?} to stream again");
    let Some(Event::Frame(frame)) = source.next(in_ms(3000)) else { panic!("no frame") };
    assert!(frame.meta.seq > last, "numbers go on: {} after {last}", frame.meta.seq);
    assert_eq!(source.reopened(), 1);
}

#[test]
fn a_camera_that_is_disconnected_comes_back() {
    // The driver connects it again by itself once nobody holds it open any more.
    comes_back(|device| control(device, "disconnect=1"), Duration::ZERO, || {});
}

#[test]
fn a_camera_that_is_unplugged_for_a_while_comes_back() {
    // Away for long enough that the wait between two tries is as long as it gets.
    comes_back(|_| plug("unbind"), Duration::from_secs(4), || plug("bind"));
}

#[test]
fn a_camera_that_fails_is_opened_again_at_once() {
    let Some((_guard, device)) = vivid() else { return };
    let mut source = Reopening::camera(config(&device, "auto"), Pace::Live);
    until(&mut source, streaming);
    control(&device, "inject_fatal_streaming_error=1");
    let (state, _, _) = until(&mut source, lost);
    let State::Lost { problem } = state else { unreachable!() };
    assert!(problem.starts_with("/dev/video0: streaming: "), "{problem}");
    let (_, _, took) = until(&mut source, streaming);
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[cfg(feature = "nokhwa")]
#[test]
fn nokhwa_streams_where_it_is_asked_for() {
    let Some((_guard, device)) = vivid() else { return };
    let number = device.strip_prefix("/dev/video").unwrap();
    // The library cannot open a camera that was left in a format that it does not know.
    drop(open(&device, "YUYV").unwrap());
    let config = CameraConfig { source: SourceKind::Nokhwa, ..config(number, "auto") };
    let mut source = capture::open(&config, Pace::Live, 7).unwrap();
    eprintln!("{}", source.format());
    let frames = frames(&mut *source, 10);
    assert!(frames[0].meta.seq >= 7);
    for pair in frames.windows(2) {
        assert_eq!(pair[1].meta.seq, pair[0].meta.seq + 1 + pair[1].meta.dropped);
        assert!(pair[1].meta.captured_at.mono_ns > pair[0].meta.captured_at.mono_ns);
    }
    assert!(frames.iter().all(|frame| frame.pixels.format == PixelFormat::Yuyv));
    assert!(matches!(capture::open(&config, Pace::Live, 0).err().unwrap(), SourceError::Busy(_)));
    drop(source);
    // The library's thread needs a frame to notice that it is no longer wanted.
    thread::sleep(Duration::from_millis(500));
    assert!(open(&device, "auto").is_ok());
}
