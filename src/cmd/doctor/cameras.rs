//! Whether cameras give frames, and what to do where they do not.

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::unistd::{AccessFlags, access};

use super::Finding;
use super::machine::user;
use crate::capture::{self, CameraConfig, Pace, SourceError, SourceKind};
use crate::cmd::exit;
use crate::types::command::Status;

/// What is found of a camera: by a daemon that has it, or by a frame of it.
pub(super) fn camera(config: &CameraConfig, status: Option<&Status>) -> Finding {
    let subject = format!("camera {}", config.name);
    let followed = status.and_then(|status| status.cameras.iter().find(|camera| camera.name == config.name));
    if let Some(camera) = followed {
        const OF: &str = "the daemon that runs has it";
        return match (&camera.problem, camera.state.as_str()) {
            (Some(problem), _) => {
                Finding::fault(subject, format!("{OF}: {}", advised(config, problem)), exit::Kind::Io)
            }
            (None, "waiting") => Finding::warning(subject, format!("{OF}, and waits for its first frame")),
            (None, state) => {
                Finding::good(subject, format!("{OF}: {state}, {}", camera.format.clone().unwrap_or_default()))
            }
        };
    }
    if config.source == SourceKind::Pipe {
        return pipe(subject, config);
    }
    // A camera takes a moment to begin, and a stream from a network some more.
    let beginning = Duration::from_secs(if config.source == SourceKind::Gstreamer { 15 } else { 1 });
    let deadline = Instant::now() + Duration::from_millis(config.timeout_ms) + beginning;
    let seen = capture::open(config, Pace::Live, 0)
        .and_then(|mut source| source.next(deadline).map(|frame| frame.map(|_| source.format())));
    match seen {
        Ok(Some(format)) => match format.unmet(config) {
            None => Finding::good(subject, format!("gives {format}")),
            Some(asked) => Finding::warning(
                subject,
                format!("gives {format} and not {asked}; `tagalong devices` lists what it can"),
            ),
        },
        Ok(None) => Finding::fault(subject, "has no frame at all", exit::Kind::NoInput),
        Err(error) => {
            let kind = exit::kind_of_source(&error);
            let told = match &error {
                SourceError::Busy(_) => {
                    format!("{error}{}; stop that, or name another camera", holders(config))
                }
                SourceError::Permission(_) => format!("{error} ({}), and begin a new session", user()),
                SourceError::Timeout(_) if config.source != SourceKind::Gstreamer => {
                    format!(
                        "{error}, though it opens; try another cable or port, and where a program feeds it, start that"
                    )
                }
                _ => advised(config, &error.to_string()),
            };
            Finding::fault(subject, told, kind)
        }
    }
}

/// What is found of a pipe, which is not read, and of a command, which is not run: whoever writes would lose what is taken away here.
fn pipe(subject: String, config: &CameraConfig) -> Finding {
    let Some(program) = config.command.first() else {
        let path = Path::new(&config.device);
        let told = match fs::metadata(path) {
            Err(error) => format!("{}: {error}; `mkfifo` makes it", path.display()),
            Ok(found) if !found.file_type().is_fifo() => {
                format!("{} is no named pipe; `mkfifo` makes one", path.display())
            }
            Ok(_) if access(path, AccessFlags::R_OK).is_err() => {
                format!("{} may not be read ({})", path.display(), user())
            }
            Ok(_) => return Finding::good(subject, format!("{} is a named pipe; it is not read here", path.display())),
        };
        return Finding::fault(subject, told, exit::Kind::NoInput);
    };
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let mut places: Vec<PathBuf> = std::env::split_paths(&folders).map(|folder| folder.join(program)).collect();
    if program.contains('/') {
        places = vec![program.into()];
    }
    match places.iter().find(|place| place.is_file() && access(*place, AccessFlags::X_OK).is_ok()) {
        Some(place) => Finding::good(subject, format!("{} is there; it is not run here", place.display())),
        None => Finding::fault(subject, format!("there is no program `{program}`; install it"), exit::Kind::NoInput),
    }
}

/// A problem, and what else to look at: who has a device that is in use, and the kernel where there is no camera at all.
fn advised(config: &CameraConfig, problem: &str) -> String {
    let has_devices = fs::read_dir("/sys/class/video4linux").is_ok_and(|mut devices| devices.next().is_some());
    if problem.contains("in use") {
        format!("{problem}{}", holders(config))
    } else if config.source == SourceKind::V4l2 && !has_devices {
        format!(
            "{problem}; the kernel knows no camera: plug it in, and see `dmesg`; a USB camera needs the module uvcvideo"
        )
    } else {
        problem.to_owned()
    }
}

/// The programs that have a device open, as " (v4l2-ctl, process 12)", as far as this user may see them.
fn holders(config: &CameraConfig) -> String {
    if config.source != SourceKind::V4l2 {
        return String::new();
    }
    #[cfg(target_os = "linux")]
    let found = capture::v4l2::devices::find(&config.device).ok();
    #[cfg(not(target_os = "linux"))]
    let found: Option<PathBuf> = None;
    let Some(node) = found.and_then(|path| path.canonicalize().ok()) else { return String::new() };
    let Ok(processes) = fs::read_dir("/proc") else { return String::new() };
    let holds = |process: &Path| {
        let open = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
        open.filter_map(|fd| fs::read_link(fd.path()).ok()).any(|link| link == node)
    };
    let named = processes.flatten().filter_map(|process| {
        let id: u32 = process.file_name().to_str()?.parse().ok()?;
        let name = fs::read_to_string(process.path().join("comm")).ok()?;
        (id != std::process::id() && holds(&process.path())).then(|| format!("{}, process {id}", name.trim()))
    });
    match named.collect::<Vec<_>>() {
        none if none.is_empty() => String::new(),
        some => format!(" ({})", some.join("; ")),
    }
}
