//! Device nodes: which there are, what they are called, and what they can do.

use std::fs;
use std::io;
use std::os::fd::BorrowedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use v4l::capability::Flags;
use v4l::frameinterval::FrameIntervalEnum;
use v4l::framesize::FrameSizeEnum;
use v4l::video::Capture;
use v4l::{Device, FourCC, Fraction};

use crate::capture::SourceError;
use crate::capture::devices::{DeviceFormat, DeviceInfo, DeviceSize, SizeRange};
use crate::types::PixelFormat;

/// Where udev keeps names that tell a device by what it is and by where it is plugged in.
const NAMES: [&str; 2] = ["/dev/v4l/by-id", "/dev/v4l/by-path"];

/// Every video device node, in the order of their numbers.
pub fn list() -> Vec<DeviceInfo> {
    nodes().iter().map(|path| describe(path)).collect()
}

/// The device node that `device` stands for: a path, a name under `/dev/v4l/by-id` or by-path, a name under
/// `/dev`, or `auto` for the first that can be used.
///
/// # Errors
/// [`SourceError::NotFound`] when there is no such node; for `auto` also [`SourceError::Unsupported`] when there are
/// nodes, but none that can be used.
pub fn find(device: &str) -> Result<PathBuf, SourceError> {
    if device == "auto" {
        return first_usable(nodes());
    }
    if device.contains('/') {
        return Ok(device.into());
    }
    let folders = NAMES.iter().copied().chain(["/dev"]);
    let path = folders.map(|folder| Path::new(folder).join(device)).find(|path| path.exists());
    path.ok_or_else(|| SourceError::NotFound(format!("camera `{device}`")))
}

/// Opens a device node, for this program and not for those that it starts: a device is not let go of while one of them has it.
///
/// # Errors
/// What the system says.
pub fn open(path: &Path) -> io::Result<Device> {
    let device = Device::with_path(path)?;
    // SAFETY: the device is open, and keeps its descriptor open for as long as it is borrowed here.
    let fd = unsafe { BorrowedFd::borrow_raw(device.handle().fd()) };
    fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    Ok(device)
}

/// Why a device of these capabilities cannot be streamed from; `None` when it can.
pub fn problem_of(capabilities: Flags) -> Option<&'static str> {
    if !capabilities.contains(Flags::VIDEO_CAPTURE) {
        return Some(if capabilities.contains(Flags::META_CAPTURE) {
            "it gives metadata and no pictures; its camera has another node"
        } else if capabilities.intersects(Flags::VIDEO_CAPTURE_MPLANE | Flags::VIDEO_M2M_MPLANE | Flags::VIDEO_M2M) {
            "it is no plain camera: its pictures are multi-planar, or it converts those of others"
        } else {
            "it captures no video"
        });
    }
    if !capabilities.contains(Flags::STREAMING) {
        return Some("it does not stream");
    }
    None
}

/// The device nodes `/dev/video*`, in the order of their numbers.
fn nodes() -> Vec<PathBuf> {
    let entries = fs::read_dir("/dev").into_iter().flatten().flatten();
    let number = |name: &str| name.strip_prefix("video")?.parse::<u32>().ok();
    let mut nodes: Vec<_> =
        entries.filter_map(|entry| Some((number(entry.file_name().to_str()?)?, entry.path()))).collect();
    nodes.sort();
    nodes.into_iter().map(|(_, path)| path).collect()
}

fn first_usable(nodes: Vec<PathBuf>) -> Result<PathBuf, SourceError> {
    let mut problems = Vec::new();
    for path in nodes {
        match guarded(|| probe(&path).map(drop).map_err(|info| info.problem)) {
            Ok(Ok(())) => return Ok(path),
            Ok(Err(problem)) => problems.push(format!("{}: {}", path.display(), problem.unwrap_or_default())),
            Err(problem) => problems.push(format!("{}: {problem}", path.display())),
        }
    }
    if problems.is_empty() {
        return Err(SourceError::NotFound("a camera".into()));
    }
    Err(SourceError::Unsupported(format!("no camera can be used: {}", problems.join("; "))))
}

/// Runs code of the crate, which panics where a driver tells what it does not expect: a name that is not UTF-8 is
/// enough.
pub fn guarded<V>(run: impl FnOnce() -> V) -> Result<V, String> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|_| "its driver describes it in a way that is not understood".into())
}

fn describe(path: &Path) -> DeviceInfo {
    let device = path.display().to_string();
    let names = names_of(path);
    let unclear = |problem| DeviceInfo { problem: Some(problem), ..DeviceInfo::default() };
    let info = guarded(|| query(path)).unwrap_or_else(unclear);
    DeviceInfo { device, names, ..info }
}

fn query(path: &Path) -> DeviceInfo {
    match probe(path) {
        Ok((device, info)) => DeviceInfo { usable: true, formats: formats(&device), ..info },
        Err(info) => *info,
    }
}

/// Opens a device and asks what it is: it can be used, or else the answer says why not.
fn probe(path: &Path) -> Result<(Device, DeviceInfo), Box<DeviceInfo>> {
    let unusable = |problem: String, info| Box::new(DeviceInfo { problem: Some(problem), ..info });
    let fail = |doing: &'static str| {
        move |error| unusable(SourceError::from_io("it", doing, error).to_string(), DeviceInfo::default())
    };
    let device = open(path).map_err(fail("opening"))?;
    let capabilities = device.query_caps().map_err(fail("asking for its capabilities"))?;
    let info = DeviceInfo {
        card: until_nul(&capabilities.card),
        driver: until_nul(&capabilities.driver),
        bus: until_nul(&capabilities.bus),
        ..DeviceInfo::default()
    };
    if let Some(problem) = problem_of(capabilities.capabilities) {
        return Err(unusable(problem.into(), info));
    }
    let offered = device.enum_formats().unwrap_or_default();
    if !offered.iter().any(|offer| PixelFormat::from_fourcc(offer.fourcc.repr).is_some()) {
        let names: Vec<_> = offered.iter().map(|offer| name_of(offer.fourcc)).collect();
        return Err(unusable(format!("none of its pixel formats is understood: {}", names.join(", ")), info));
    }
    Ok((device, info))
}

fn formats(device: &Device) -> Vec<DeviceFormat> {
    let offered = device.enum_formats().unwrap_or_default().into_iter();
    let format = |format: v4l::format::Description| DeviceFormat {
        pixels: name_of(format.fourcc),
        description: until_nul(&format.description),
        known: PixelFormat::from_fourcc(format.fourcc.repr).is_some(),
        sizes: sizes(device, format.fourcc),
    };
    offered.map(format).collect()
}

fn sizes(device: &Device, fourcc: FourCC) -> Vec<DeviceSize> {
    let size = |size: v4l::FrameSize| match size.size {
        FrameSizeEnum::Discrete(size) => {
            let fps = rates(device, fourcc, size.width, size.height);
            DeviceSize { width: size.width, height: size.height, range: None, fps }
        }
        FrameSizeEnum::Stepwise(size) => {
            let range = SizeRange {
                min_width: size.min_width,
                min_height: size.min_height,
                step_width: size.step_width,
                step_height: size.step_height,
            };
            let fps = rates(device, fourcc, size.max_width, size.max_height);
            DeviceSize { width: size.max_width, height: size.max_height, range: Some(range), fps }
        }
    };
    device.enum_framesizes(fourcc).unwrap_or_default().into_iter().map(size).collect()
}

/// Frames a second that `device` offers, the fastest first; the ends, where any rate between is to be had.
pub fn rates(device: &Device, fourcc: FourCC, width: u32, height: u32) -> Vec<f32> {
    let intervals = device.enum_frameintervals(fourcc, width, height).unwrap_or_default().into_iter();
    let ends = intervals.flat_map(|interval| match interval.interval {
        FrameIntervalEnum::Discrete(interval) => vec![interval],
        FrameIntervalEnum::Stepwise(range) => vec![range.min, range.max],
    });
    let mut rates: Vec<_> = ends.filter_map(rate_of).collect();
    rates.sort_by(|a, b| b.total_cmp(a));
    rates.dedup();
    rates
}

/// Frames a second of a frame interval in seconds; `None` for one that cannot be.
pub fn rate_of(interval: Fraction) -> Option<f32> {
    let (seconds, parts) = (interval.numerator, interval.denominator);
    (seconds > 0 && parts > 0).then(|| (f64::from(parts) / f64::from(seconds)) as f32)
}

/// A four-character code for a person to read; the highest bit says that the samples are big-endian.
pub fn name_of(fourcc: FourCC) -> String {
    let [a, b, c, last] = fourcc.repr;
    let name = [a, b, c, last & 0x7f].escape_ascii().to_string();
    format!("{}{}", name.trim_end(), if last & 0x80 == 0 { "" } else { "-BE" })
}

/// The lasting names that lead to `path`.
fn names_of(path: &Path) -> Vec<String> {
    let links = NAMES.iter().flat_map(|folder| fs::read_dir(folder).into_iter().flatten().flatten());
    let leads_here = |link: &fs::DirEntry| fs::canonicalize(link.path()).is_ok_and(|target| target == path);
    let mut names: Vec<_> =
        links.filter(leads_here).map(|link| link.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// The crate leaves in what stands behind the end of a driver's string.
pub fn until_nul(text: &str) -> String {
    text.split('\0').next().unwrap_or_default().trim().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_cameras_are_usable() {
        struct Case(Flags, Option<&'static str>);
        let cases = [
            Case(Flags::VIDEO_CAPTURE | Flags::STREAMING | Flags::READ_WRITE, None),
            Case(Flags::VIDEO_CAPTURE | Flags::READ_WRITE, Some("stream")),
            Case(Flags::META_CAPTURE | Flags::STREAMING, Some("metadata")),
            Case(Flags::VIDEO_CAPTURE_MPLANE | Flags::STREAMING, Some("multi-planar")),
            Case(Flags::VIDEO_M2M | Flags::STREAMING, Some("converts")),
            Case(Flags::VIDEO_OUTPUT | Flags::STREAMING, Some("captures no video")),
        ];
        for Case(flags, word) in cases {
            let problem = problem_of(flags);
            assert_eq!(problem.is_some(), word.is_some(), "{flags:?}");
            assert!(problem.unwrap_or_default().contains(word.unwrap_or_default()), "{problem:?}");
        }
    }

    #[test]
    fn a_node_that_is_no_camera_is_told_as_such() {
        for path in ["/dev/null", "/dev/video-does-not-exist", "/"] {
            let info = describe(Path::new(path));
            assert!(!info.usable && info.problem.is_some(), "{info:?}");
        }
    }

    #[test]
    fn a_name_that_leads_nowhere_is_not_found() {
        assert!(matches!(find("no-such-camera"), Err(SourceError::NotFound(_))));
        assert_eq!(find("/dev/video7").unwrap(), Path::new("/dev/video7"));
        assert!(matches!(first_usable(Vec::new()), Err(SourceError::NotFound(_))));
        let error = first_usable(vec!["/dev/null".into(), "/dev/video-none".into()]).unwrap_err().to_string();
        assert!(error.starts_with("no camera can be used: /dev/null: it: asking for its capabilities: "), "{error}");
        assert!(
            error.ends_with("; /dev/video-none: it does not exist; `tagalong devices` lists what is there"),
            "{error}"
        );
    }

    #[test]
    fn a_panic_of_the_crate_is_a_problem_of_the_device() {
        assert_eq!(guarded(|| 7), Ok(7));
        assert!(guarded(|| panic!("a name that is not UTF-8")).is_err_and(|problem: String| !problem.is_empty()));
    }

    #[test]
    fn what_drivers_tell_is_made_readable() {
        assert_eq!(until_nul("vivid\0\0rest"), "vivid");
        assert_eq!(name_of(FourCC::new(b"Y10 ")), "Y10");
        assert_eq!(name_of(FourCC::new(b"Y16\xa0")), "Y16-BE");
        assert_eq!(name_of(FourCC::new(&[b'Y', 0x80, 0, b'1'])), "Y\\x80\\x001");
        assert_eq!(rate_of(Fraction::new(1001, 30000)), Some(29.97003));
        assert_eq!(rate_of(Fraction::new(0, 30)), None);
        assert_eq!(rate_of(Fraction::new(1, 0)), None);
    }
}
