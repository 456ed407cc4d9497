//! Frames of GStreamer's pipelines, against what GStreamer's own tools write: `make test-gstreamer`.
#![cfg(all(target_os = "linux", feature = "gstreamer"))]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tagalong::capture::{self, CameraConfig, Event, FrameSource, Pace, Reopening, SourceError, SourceKind, State};
use tagalong::clock;
use tagalong::config::Config;
use tagalong::types::{Frame, PixelFormat};

fn config(pipeline: &str) -> CameraConfig {
    CameraConfig {
        source: SourceKind::Gstreamer,
        pipeline: pipeline.into(),
        timeout_ms: 1000,
        repeat: false,
        ..Config::builtin().camera[0].clone()
    }
}

fn open(config: &CameraConfig, pace: Pace) -> Box<dyn FrameSource> {
    capture::open(config, pace, 0).unwrap()
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

/// What opening a pipeline or reading from it ends with.
fn error(pipeline: &str) -> SourceError {
    let mut source = match capture::open(&config(pipeline), Pace::Live, 0) {
        Ok(source) => source,
        Err(error) => return error,
    };
    loop {
        match source.next(soon()) {
            Ok(frame) => assert!(frame.is_some(), "`{pipeline}` ended without an error"),
            Err(error) => return error,
        }
    }
}

/// All frames of a pipeline that ends.
fn all(source: &mut dyn FrameSource) -> Vec<Frame> {
    std::iter::from_fn(|| source.next(soon()).unwrap()).collect()
}

/// Has GStreamer's own tool run a pipeline to its end.
fn launch(pipeline: &str) {
    let status = Command::new("gst-launch-1.0").arg("-q").args(pipeline.split_whitespace()).status().unwrap();
    assert!(status.success(), "gst-launch-1.0 {pipeline}");
}

/// A film of H.264, 30 pictures at 25 a second.
fn film(folder: &Path, muxer: &str) -> String {
    let path = folder.join(muxer).display().to_string();
    launch(&format!(
        "videotestsrc num-buffers=30 pattern=ball ! video/x-raw,format=I420,width=64,height=48,framerate=25/1 ! \
         x264enc bframes=2 key-int-max=10 ! {muxer} ! filesink location={path}"
    ));
    format!("filesrc location={path} ! decodebin ! videoconvert ! appsink")
}

/// GStreamer pads rows to four bytes, and planes that others of half the height follow to an even number of rows.
fn without_padding(bytes: &[u8], format: PixelFormat, [width, height]: [usize; 2]) -> Vec<u8> {
    let row = format.min_stride(width).unwrap();
    let padded = row.next_multiple_of(4);
    let even = height.next_multiple_of(2);
    let planes =
        if format == PixelFormat::Nv12 { vec![(even, height), (even / 2, even / 2)] } else { vec![(height, height)] };
    assert_eq!(bytes.len(), padded * planes.iter().map(|(rows, _)| rows).sum::<usize>());
    let mut rows = bytes.chunks(padded);
    let mut seen = Vec::new();
    for (all, taken) in planes {
        let plane: Vec<&[u8]> = rows.by_ref().take(all).collect();
        seen.extend(plane[..taken].iter().flat_map(|padded| &padded[..row]));
    }
    seen
}

#[test]
fn pixels_of_every_format_come_to_the_byte_and_without_padding() {
    let folder = tempfile::tempdir().unwrap();
    let formats = [
        ("YUY2", PixelFormat::Yuyv),
        ("UYVY", PixelFormat::Uyvy),
        ("NV12", PixelFormat::Nv12),
        ("GRAY8", PixelFormat::Grey),
        ("RGB", PixelFormat::Rgb3),
        ("BGR", PixelFormat::Bgr3),
    ];
    // Of an odd number of pixels the last byte of a row may be whatever was in memory.
    for [width, height] in [[64, 48], [50, 30], [34, 17]] {
        for (name, format) in formats {
            let scene = format!(
                "videotestsrc num-buffers=3 pattern=ball ! video/x-raw,format={name},width={width},height={height}"
            );
            let written = folder.path().join("frames");
            launch(&format!("{scene} ! filesink location={}", written.display()));
            let written = std::fs::read(written).unwrap();
            let frames = all(&mut *open(&config(&format!("{scene} ! appsink")), Pace::Lossless));
            assert_eq!(frames.len(), 3, "{name} {width}x{height}");
            for (frame, written) in frames.iter().zip(written.chunks(written.len() / 3)) {
                assert_eq!((frame.meta.width, frame.meta.height), (width, height));
                assert_eq!(frame.pixels.format, format);
                assert!(
                    frame.pixels.bytes() == without_padding(written, format, [width, height]),
                    "{name} {width}x{height}"
                );
            }
            assert_ne!(frames[0].pixels.bytes(), frames[2].pixels.bytes(), "the ball stands still");
        }
    }
}

#[test]
fn the_format_of_the_configuration_is_what_the_pipeline_is_asked_for() {
    let scene = "videotestsrc num-buffers=2 ! video/x-raw,width=64,height=48 ! tee ! videoconvert ! appsink";
    for format in ["GREY", "BGR3", "UYVY"] {
        let config = CameraConfig { format: format.into(), ..config(scene) };
        let mut source = open(&config, Pace::Lossless);
        let frames = all(&mut *source);
        assert!(frames.iter().all(|frame| frame.pixels.format.to_string() == format), "{format}");
        assert_eq!((source.format().pixels.as_str(), source.format().source.as_str()), (format, "videotestsrc"));
    }
}

#[test]
fn jpegs_come_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let scene = "videotestsrc num-buffers=3 pattern=ball ! video/x-raw,width=64,height=48,framerate=10/1 ! jpegenc";
    launch(&format!("{scene} ! multifilesink location={}/%d", folder.path().display()));
    let frames = all(&mut *open(&config(&format!("{scene} ! appsink")), Pace::Lossless));
    assert_eq!(frames.len(), 3);
    for (i, frame) in frames.iter().enumerate() {
        assert_eq!((frame.pixels.format, frame.meta.width, frame.meta.height), (PixelFormat::Mjpg, 64, 48));
        assert!(frame.pixels.bytes() == std::fs::read(folder.path().join(i.to_string())).unwrap(), "picture {i}");
    }
}

#[test]
fn all_pictures_of_a_film_come_with_their_times() {
    let folder = tempfile::tempdir().unwrap();
    for muxer in ["mp4mux", "matroskamux"] {
        let mut source = open(&config(&film(folder.path(), muxer)), Pace::Lossless);
        let frames = all(&mut *source);
        assert_eq!(frames.len(), 30, "{muxer}");
        let first = frames[0].meta.captured_at.mono_ns;
        for (i, frame) in frames.iter().enumerate() {
            assert_eq!((frame.meta.seq, frame.meta.dropped), (i as u64, 0));
            let at = (frame.meta.captured_at.mono_ns - first) as f64 / 1e9;
            // Matroska counts milliseconds.
            assert!((at - i as f64 / 25.0).abs() < 0.0015, "{muxer}: picture {i} at {at} s");
        }
        assert!((source.format().fps.unwrap() - 25.0).abs() < 0.1, "{:?}", source.format());
    }
}

#[test]
fn a_film_is_shown_at_its_own_rate_and_may_begin_again() {
    let folder = tempfile::tempdir().unwrap();
    let film = film(folder.path(), "mp4mux");
    let started = Instant::now();
    assert_eq!(all(&mut *open(&config(&film), Pace::Live)).len(), 30);
    assert!(started.elapsed() >= Duration::from_millis(29 * 40), "{:?}", started.elapsed());

    let mut source = open(&CameraConfig { repeat: true, ..config(&film) }, Pace::Live);
    let mut before = 0;
    for seq in 0..70 {
        let frame = source.next(soon()).unwrap().expect("it begins again");
        assert_eq!(frame.meta.seq, seq);
        let stamp = frame.meta.captured_at.mono_ns;
        assert!(stamp > before, "frame {seq} is older than the one before");
        assert!(clock::mono_ns() - stamp < 500_000_000, "frame {seq} is {} ns old", clock::mono_ns() - stamp);
        before = stamp;
    }
}

#[test]
fn live_frames_bear_the_time_of_their_capture() {
    let live = "videotestsrc is-live=true ! video/x-raw,width=64,height=48,framerate=50/1 ! appsink";
    let mut source = open(&config(live), Pace::Live);
    let frames: Vec<Frame> = (0..25).map(|_| source.next(soon()).unwrap().unwrap()).collect();
    let stamps: Vec<u64> = frames.iter().map(|frame| frame.meta.captured_at.mono_ns).collect();
    for pair in stamps.windows(2) {
        // The source's own clock ticks evenly, however late this thread is.
        let step = pair[1] - pair[0];
        assert!(step.is_multiple_of(20_000_000), "{step} ns from one frame to the next");
    }
    let age = clock::mono_ns() - stamps[24];
    assert!(age < 500_000_000, "the last frame is {age} ns old");
    // A reader that pauses gets what is new then, but for what waits.
    std::thread::sleep(Duration::from_secs(1));
    let late: Vec<Frame> = (0..4).map(|_| source.next(soon()).unwrap().unwrap()).collect();
    let age = clock::mono_ns() - late[3].meta.captured_at.mono_ns;
    assert!(age < 500_000_000, "after a pause of a second the fourth frame is {age} ns old");
}

#[test]
fn the_end_of_a_live_stream_is_a_loss_and_it_is_opened_again() {
    let live = "videotestsrc is-live=true num-buffers=5 ! video/x-raw,width=64,height=48,framerate=50/1 ! appsink";
    assert_eq!(error(live).to_string(), "videotestsrc: the live stream has ended");

    let mut camera = Reopening::camera(config(live), Pace::Live);
    let (mut seqs, mut states) = (Vec::new(), Vec::new());
    let deadline = soon();
    while seqs.len() < 12 && Instant::now() < deadline {
        match camera.next(deadline) {
            Some(Event::Frame(frame)) => seqs.push(frame.meta.seq),
            Some(Event::State(state)) => states.push(state),
            None => {}
        }
    }
    assert_eq!(seqs, (0..12).collect::<Vec<u64>>());
    let lost = State::Lost { problem: "videotestsrc: the live stream has ended".into() };
    assert_eq!(states.iter().filter(|state| **state == lost).count(), 2, "{states:?}");
    assert_eq!(states.iter().filter(|state| matches!(state, State::Streaming(_))).count(), 3, "{states:?}");
}

#[test]
fn what_is_wrong_with_a_pipeline_is_told() {
    struct Case(&'static str, &'static [&'static str]);
    let cases = [
        Case("videotestsrc ! fakesink", &["videotestsrc: the pipeline must end in `! appsink`, and have no other"]),
        Case("appsink", &["appsink: the pipeline must end in `! appsink`"]),
        Case("videotestsrc ! tee name=t ! appsink t. ! appsink", &["and have no other"]),
        Case(
            "nosuchsrc ! appsink",
            &["nosuchsrc: no element \"nosuchsrc\"; `gst-inspect-1.0` lists what is installed"],
        ),
        Case("videotestsrc ! ! appsink", &["videotestsrc: ", "syntax error"]),
        Case("filesrc location=/nowhere/film.mp4 ! decodebin ! appsink", &["filesrc: filesrc", "/nowhere/film.mp4"]),
        Case("videotestsrc ! video/x-raw,format=I420 ! appsink", &["videotestsrc: ", "`videoconvert` gives pixels"]),
        Case("audiotestsrc ! appsink", &["audiotestsrc: "]),
        Case("v4l2src device=/dev/video99 ! appsink", &["v4l2src: v4l2src", "/dev/video99"]),
        Case(
            "rtspsrc location=rtsp://127.0.0.1:1/a ! rtpjpegdepay ! appsink",
            &["rtspsrc: rtspsrc", "Failed to connect"],
        ),
    ];
    for Case(pipeline, said) in cases {
        let error = error(pipeline).to_string();
        assert!(said.iter().all(|said| error.contains(said)), "{pipeline}: {error}");
        assert!(!error.contains('\n'), "{pipeline}: {error}");
    }
}

/// An element that fails ends its stream as well: the failure is what is told.
#[test]
fn an_element_that_fails_is_told_and_not_the_end_that_it_brings() {
    for source in ["videotestsrc is-live=true", "videotestsrc"] {
        let failing =
            format!("{source} ! video/x-raw,width=64,height=48,framerate=50/1 ! identity error-after=5 ! appsink");
        for _ in 0..5 {
            let told = error(&failing).to_string();
            assert!(told.starts_with("videotestsrc: identity: "), "{told}");
        }
    }
}

#[test]
fn what_fails_alike_each_time_is_told_once() {
    let mut camera =
        Reopening::camera(config("rtspsrc location=rtsp://127.0.0.1:1/a ! rtpjpegdepay ! appsink"), Pace::Live);
    let (mut states, deadline) = (Vec::new(), Instant::now() + Duration::from_secs(3));
    while let Some(event) = camera.next(deadline) {
        let Event::State(state) = event else { panic!("a frame from nowhere") };
        states.push(state);
    }
    assert!(matches!(&states[..], [State::Waiting, State::Lost { .. }]), "{states:?}");
}

/// An HTTP server to which nobody may come.
fn refusing() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
    });
    port
}

#[test]
fn a_password_in_a_pipeline_is_not_told() {
    let port = refusing();
    for pipeline in [
        "rtspsrc location=rtsp://robot:secret@127.0.0.1:1/a ! rtpjpegdepay ! appsink".to_owned(),
        format!("souphttpsrc location=http://robot:secret@127.0.0.1:{port}/a?key=secret ! jpegparse ! appsink"),
        format!("http://robot:secret@127.0.0.1:{port}/a ! jpegparse ! appsink"),
        "uridecodebin uri=nothing://robot:secret@127.0.0.1/a ! appsink".to_owned(),
    ] {
        let told = error(&pipeline).to_string();
        assert!(!told.contains("secret") && told.len() > 30, "{told}");
    }
}

#[test]
fn frames_that_change_their_size_are_told_and_taken_when_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    for (name, width) in [("0.jpg", 64), ("1.jpg", 32)] {
        launch(&format!(
            "videotestsrc num-buffers=1 ! video/x-raw,width={width},height=48 ! jpegenc ! filesink location={}",
            folder.path().join(name).display()
        ));
    }
    let frames = format!(
        "multifilesrc location={}/%d.jpg stop-index=1 caps=image/jpeg,framerate=10/1 ! appsink",
        folder.path().display()
    );
    let told = "multifilesrc: frames of 32x48 MJPG come after some of 64x48 MJPG";
    assert_eq!(error(&frames).to_string(), told);
    let mut camera = Reopening::camera(config(&frames), Pace::Live);
    let (mut states, deadline) = (Vec::new(), soon());
    while states.len() < 4 {
        if let Event::State(state) = camera.next(deadline).expect("it is opened again") {
            states.push(state);
        }
    }
    let [State::Waiting, State::Streaming(_), State::Lost { problem }, State::Streaming(_)] = &states[..] else {
        panic!("{states:?}")
    };
    assert_eq!(problem, told);
}

#[test]
fn damaged_pictures_are_left_out_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["0.jpg", "1.jpg", "2.jpg"] {
        launch(&format!(
            "videotestsrc num-buffers=1 ! video/x-raw,width=64,height=48 ! jpegenc ! filesink location={}",
            folder.path().join(name).display()
        ));
    }
    let middle = folder.path().join("1.jpg");
    let whole = std::fs::read(&middle).unwrap();
    std::fs::write(&middle, &whole[..whole.len() / 2]).unwrap();
    let pipeline = format!(
        "multifilesrc location={}/%d.jpg stop-index=2 caps=image/jpeg,framerate=10/1 ! appsink",
        folder.path().display()
    );
    let frames = all(&mut *open(&config(&pipeline), Pace::Lossless));
    let numbers: Vec<_> = frames.iter().map(|frame| (frame.meta.seq, frame.meta.dropped)).collect();
    assert_eq!(numbers, [(0, 0), (2, 1)]);
}

#[test]
fn pictures_without_times_are_shown_at_the_rate_of_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let film = folder.path().join("film.mjpeg");
    launch(&format!("videotestsrc num-buffers=3 ! jpegenc ! filesink location={}", film.display()));
    // Its pictures bear no times, and no rate.
    let timeless = format!("filesrc location={} ! jpegparse ! appsink", film.display());
    let timeless = CameraConfig { fps: 10.0, ..config(&timeless) };
    let started = Instant::now();
    assert_eq!(all(&mut *open(&timeless, Pace::Live)).len(), 3);
    assert!(started.elapsed() >= Duration::from_millis(100), "{:?}", started.elapsed());
    let frames = all(&mut *open(&timeless, Pace::Lossless));
    let stamps: Vec<u64> = frames.iter().map(|frame| frame.meta.captured_at.mono_ns).collect();
    assert_eq!(stamps, [0, 100_000_000, 200_000_000]);
}

#[test]
fn a_film_that_cannot_begin_again_is_not_tried_in_a_hurry() {
    let mut repeated = config("videotestsrc num-buffers=5 ! video/x-raw,width=64,height=48,framerate=100/1 ! appsink");
    repeated.repeat = true;
    let mut source = open(&repeated, Pace::Live);
    let end = loop {
        match source.next(soon()) {
            Ok(frame) => assert!(frame.is_some()),
            Err(error) => break error,
        }
    };
    // It says that it can be sought, and gives nothing afterwards.
    assert_eq!(end.to_string(), "videotestsrc: has ended without a frame");
}

#[test]
fn a_camera_that_is_slower_than_its_timeout_is_not_lost() {
    let slow = "videotestsrc is-live=true ! video/x-raw,width=64,height=48,framerate=2/1 ! appsink";
    let mut camera = Reopening::camera(CameraConfig { timeout_ms: 200, ..config(slow) }, Pace::Live);
    let (mut frames, deadline) = (0, soon());
    while frames < 5 {
        match camera.next(deadline).expect("a frame every half second") {
            Event::Frame(_) => frames += 1,
            Event::State(state) => assert!(frames == 0, "{state:?} after {frames} frames"),
        }
    }
}

/// A server that never answers holds up a start, which holds up nobody else.
#[test]
fn a_start_that_hangs_is_waited_for_no_longer_than_asked() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    // Fills its queue, so that the kernel answers no more.
    let address = silent.local_addr().unwrap();
    let waiting: Vec<_> =
        (0..512).map_while(|_| TcpStream::connect_timeout(&address, Duration::from_millis(50)).ok()).collect();
    assert!(waiting.len() < 512, "the queue has no end");
    let pipeline = format!("tcpclientsrc host=127.0.0.1 port={} ! jpegparse ! appsink", address.port());
    let started = Instant::now();
    let mut source = open(&config(&pipeline), Pace::Live);
    let told = source.next(Instant::now() + Duration::from_millis(300));
    assert!(matches!(told, Err(SourceError::Timeout(_))), "{told:?}");
    drop(source);
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

/// A server of a live stream, in a process of its own.
struct Server(Child);

impl Server {
    fn start(port: u16) -> Server {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rtsp_server.py");
        let mut command = Command::new("/usr/bin/python3");
        let mut child = command.arg(script).arg(port.to_string()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "the server does not start");
        Server(child)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        self.0.wait().unwrap();
    }
}

#[test]
fn a_stream_whose_server_dies_is_lost_and_found_within_two_seconds_of_its_return() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for protocol in ["tcp", "udp"] {
        let mut server = Some(Server::start(port));
        let stream = format!(
            "rtspsrc location=rtsp://127.0.0.1:{port}/scene protocols={protocol} latency=0 ! rtpjpegdepay ! jpegdec ! videoconvert ! appsink"
        );
        let mut camera = Reopening::camera(config(&stream), Pace::Live);
        let mut until = |deadline: Instant, mut is_it: Box<dyn FnMut(&Event) -> bool>| {
            loop {
                match camera.next(deadline) {
                    Some(event) if is_it(&event) => return event,
                    Some(_) => {}
                    None => panic!("{protocol}: nothing came of it in time; it is {:?}", camera.state()),
                }
            }
        };
        let mut last = 0;
        for round in 0..3 {
            let mut count = 0;
            let frame = until(
                soon(),
                Box::new(move |event| {
                    count += u32::from(matches!(event, Event::Frame(_)));
                    count == 20
                }),
            );
            let Event::Frame(frame) = frame else { unreachable!() };
            assert_eq!((frame.meta.width, frame.meta.height), (64, 48));
            assert!(round == 0 || frame.meta.seq > last, "{protocol}: number {} after {last}", frame.meta.seq);
            last = frame.meta.seq;

            drop(server.take());
            let is_lost = |event: &Event| matches!(event, Event::State(State::Lost { .. }));
            until(Instant::now() + Duration::from_secs(3), Box::new(is_lost));
            // It is tried again meanwhile.
            std::thread::sleep(Duration::from_millis(500));
            let back = Instant::now();
            server = Some(Server::start(port));
            let (ready, is_frame) = (Instant::now(), |event: &Event| matches!(event, Event::Frame(_)));
            until(ready + Duration::from_secs(2), Box::new(is_frame));
            eprintln!(
                "{protocol}: found again {:?} after the server listened, {:?} after its start",
                ready.elapsed(),
                back.elapsed()
            );
        }
    }
}
