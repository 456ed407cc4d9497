//! Frames that other programs write: into a named pipe, and to the standard output of a command.
#![cfg(target_os = "linux")]

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use tagalong::capture::{self, CameraConfig, Event, FrameSource, Pace, Reopening, SourceError, SourceKind, State};
use tagalong::config::Config;
use tagalong::picture;
use tagalong::types::PixelFormat;

const WIDTH: usize = 48;
const HEIGHT: usize = 32;
const BYTES: usize = WIDTH * HEIGHT * 3;

fn config(format: &str) -> CameraConfig {
    CameraConfig {
        source: SourceKind::Pipe,
        format: format.into(),
        width: WIDTH,
        height: HEIGHT,
        timeout_ms: 500,
        ..Config::builtin().camera[0].clone()
    }
}

fn named(folder: &Path, format: &str) -> CameraConfig {
    let path = folder.join("frames");
    if !path.exists() {
        mkfifo(&path, Mode::S_IRWXU).unwrap();
    }
    CameraConfig { device: path.display().to_string(), ..config(format) }
}

fn command(format: &str, script: &str) -> CameraConfig {
    CameraConfig { command: ["sh", "-c", script].map(str::to_owned).to_vec(), ..config(format) }
}

fn open(config: &CameraConfig) -> Box<dyn FrameSource> {
    capture::open(config, Pace::Live, 0).unwrap()
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

/// A frame whose every byte tells which it is.
fn raw(number: u8) -> Vec<u8> {
    (0..BYTES).map(|i| (i % 241) as u8 ^ number).collect()
}

fn jpeg(width: usize, height: usize, number: u8) -> Vec<u8> {
    let rgb: Vec<u8> = (0..width * height * 3).map(|i| (i / 64 % 241) as u8 ^ number).collect();
    picture::encode_jpeg(&rgb, width, height, 90).unwrap()
}

#[test]
fn raw_frames_of_a_named_pipe_come_to_the_byte_in_whatever_pieces() {
    let folder = tempfile::tempdir().unwrap();
    let config = named(folder.path(), "RGB3");
    let mut source = open(&config);
    // Nobody writes yet.
    let started = Instant::now();
    assert!(matches!(source.next(started + Duration::from_millis(60)), Err(SourceError::Timeout(_))));
    assert!((50..500).contains(&started.elapsed().as_millis()), "{:?}", started.elapsed());
    let path = config.device.clone();
    let writer = thread::spawn(move || {
        let mut pipe = File::options().write(true).open(path).unwrap();
        let all: Vec<u8> = (0..20).flat_map(raw).collect();
        for piece in all.chunks(1777) {
            pipe.write_all(piece).unwrap();
        }
        // Half a frame is none.
        pipe.write_all(&raw(20)[..BYTES / 2]).unwrap();
    });
    let mut last = 0;
    for number in 0..20 {
        let frame = source.next(soon()).unwrap().unwrap();
        assert_eq!((frame.pixels.format, frame.meta.width, frame.meta.height), (PixelFormat::Rgb3, WIDTH, HEIGHT));
        assert_eq!((frame.meta.seq, frame.meta.dropped), (u64::from(number), 0));
        assert!(frame.pixels.bytes() == raw(number), "frame {number}");
        assert!(frame.meta.captured_at.mono_ns > last);
        last = frame.meta.captured_at.mono_ns;
    }
    writer.join().unwrap();
    let error = source.next(soon()).unwrap_err();
    assert!(matches!(&error, SourceError::Ended(told) if told.contains("has closed it")), "{error}");
}

/// The pipe stays open and half a frame is kept: else the writer would fail, and all that follows be shifted.
#[test]
fn a_writer_that_pauses_in_the_middle_of_a_frame_goes_on_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let config = CameraConfig { fps: 30.0, ..named(folder.path(), "RGB3") };
    let path = config.device.clone();
    let writer = thread::spawn(move || {
        let mut pipe = File::options().write(true).open(path).unwrap();
        // Longer than `timeout_ms`, before the first frame and within it, and written to in the gap.
        thread::sleep(Duration::from_millis(700));
        let all: Vec<u8> = (0..4).flat_map(raw).collect();
        pipe.write_all(&all[..BYTES / 3]).unwrap();
        for piece in [&all[BYTES / 3..2 * BYTES / 3], &all[2 * BYTES / 3..]] {
            thread::sleep(Duration::from_millis(800));
            pipe.write_all(piece).unwrap();
        }
    });
    let mut source = Reopening::camera(config, Pace::Live);
    let (mut frames, mut told, until) = (0, Vec::new(), soon());
    while frames < 4 && Instant::now() < until {
        match source.next(Instant::now() + Duration::from_millis(100)) {
            Some(Event::Frame(frame)) => {
                assert!(frame.pixels.bytes() == raw(frames), "frame {frames}");
                frames += 1;
            }
            Some(Event::State(state)) => told.push(state),
            None => {}
        }
    }
    writer.join().unwrap();
    assert_eq!(frames, 4, "{told:?}");
    assert!(matches!(&told[..], [State::Waiting, State::Lost { .. }, State::Streaming(_)]), "{told:?}");
}

#[test]
fn jpegs_are_told_apart_and_have_their_own_size() {
    let folder = tempfile::tempdir().unwrap();
    let config = named(folder.path(), "MJPG");
    let mut source = open(&config);
    let pictures: Vec<Vec<u8>> = (0..5).map(|number| jpeg(80, 64, number)).collect();
    let (path, sent) = (config.device.clone(), pictures.clone());
    let writer = thread::spawn(move || {
        let mut pipe = File::options().write(true).open(path).unwrap();
        for picture in sent {
            // As servers of such streams do.
            write!(pipe, "--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n", picture.len()).unwrap();
            pipe.write_all(&picture).unwrap();
            pipe.write_all(b"\r\n").unwrap();
        }
        pipe.write_all(&jpeg(64, 48, 9)).unwrap();
    });
    for picture in pictures {
        let frame = source.next(soon()).unwrap().unwrap();
        assert!(frame.pixels.bytes() == picture);
        assert_eq!((frame.meta.width, frame.meta.height), (80, 64));
    }
    assert_eq!(source.format().unmet(&config), None, "what is asked for is not asked of JPEGs");
    let error = source.next(soon()).unwrap_err();
    assert!(error.to_string().contains("64x48 pixels come after some of 80x64"), "{error}");
    writer.join().unwrap();
}

#[test]
fn a_command_is_started_again_when_it_ends_and_says_why_it_did() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("frames.rgb");
    fs::write(&file, (0..3).flat_map(raw).collect::<Vec<u8>>()).unwrap();
    let script = format!("echo begun >&2; cat {}; printf 'cannot go on\\n\\n' >&2; exit 3", file.display());
    let mut source = Reopening::camera(command("RGB3", &script), Pace::Live);
    let (mut frames, mut problems, mut seqs) = (0, Vec::new(), Vec::new());
    let until = soon();
    while frames < 7 && Instant::now() < until {
        match source.next(Instant::now() + Duration::from_millis(100)) {
            Some(Event::Frame(frame)) => {
                assert!(frame.pixels.bytes() == raw(frames % 3), "frame {frames}");
                seqs.push(frame.meta.seq);
                frames += 1;
            }
            Some(Event::State(State::Lost { problem })) => problems.push(problem),
            _ => {}
        }
    }
    assert_eq!(seqs, (0..7).collect::<Vec<u64>>(), "numbers go on");
    assert_eq!(problems, ["`sh` ended, exit status: 3: cannot go on"; 2]);
}

#[test]
fn what_cannot_be_read_is_told_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let plain = folder.path().join("plain");
    fs::write(&plain, "no pipe").unwrap();
    let problem = |config: &CameraConfig| capture::open(config, Pace::Live, 0).err().unwrap().to_string();
    let at = |path: &Path| CameraConfig { device: path.display().to_string(), ..config("GREY") };
    assert!(problem(&at(&plain)).ends_with("plain is no named pipe; `mkfifo` makes one"));
    assert!(problem(&at(&folder.path().join("none"))).contains("none does not exist"));
    let missing = CameraConfig { command: vec!["/nowhere/ffmpeg".into()], ..config("GREY") };
    assert!(problem(&missing).starts_with("starting `/nowhere/ffmpeg`: No such file"), "{}", problem(&missing));
    // One that says nothing is silent, and not at its end.
    let mut silent = open(&command("GREY", "sleep 100"));
    assert!(matches!(silent.next(Instant::now() + Duration::from_millis(100)), Err(SourceError::Timeout(_))));
    // One that writes without an end what is no frame.
    let mut endless = open(&command("MJPG", "cat /dev/zero"));
    assert!(matches!(endless.next(Instant::now() + Duration::from_millis(300)), Err(SourceError::Timeout(_))));
    // One that talks much and never gives a frame is read all the same, and does not wait for that.
    let mut talkative = open(&command("GREY", "yes no >&2"));
    assert!(matches!(talkative.next(Instant::now() + Duration::from_millis(300)), Err(SourceError::Timeout(_))));
}

#[test]
fn a_command_ends_with_its_camera_and_so_does_what_it_started() {
    let folder = tempfile::tempdir().unwrap();
    let pids = folder.path().join("pids");
    // It does not listen to requests to end.
    let script = format!(
        "trap '' TERM; sleep 1000 & echo $$ $! > {}; head -c {BYTES} /dev/zero; wait; sleep 1000",
        pids.display()
    );
    let mut source = open(&command("RGB3", &script));
    source.next(soon()).unwrap().unwrap();
    let started = fs::read_to_string(&pids).unwrap();
    let is_there = |pid: &&str| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        !stat.is_empty() && !stat.contains(") Z ")
    };
    assert_eq!(started.split_whitespace().filter(is_there).count(), 2);
    let dropping = Instant::now();
    drop(source);
    assert!(dropping.elapsed() < Duration::from_secs(2), "{:?}", dropping.elapsed());
    let until = soon();
    while started.split_whitespace().any(|pid| is_there(&pid)) {
        assert!(Instant::now() < until, "it lives on: {started}");
        thread::sleep(Duration::from_millis(10));
    }
}
