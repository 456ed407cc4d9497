//! Which of the modes that a camera offers to use.

use crate::types::PixelFormat;

use super::{CameraConfig, SourceError};

/// A rate that misses the one asked for by no more than this fraction is as good: cameras round.
pub const RATE_TOLERANCE: f32 = 0.1;

/// Formats from the best to use to the worst, where cameras offer the same size and rate in several.
///
/// Uncompressed before Motion-JPEG, which costs decoding and detail. Among the uncompressed, packed 4:2:2 first:
/// it is what the sensors behind USB cameras give, while the same driver makes the rest out of it; then NV12, with
/// half as much colour; then RGB, half as large again to copy. Grey has no colour to tell objects by.
pub const PREFERENCE: [PixelFormat; 7] = [
    PixelFormat::Yuyv,
    PixelFormat::Uyvy,
    PixelFormat::Nv12,
    PixelFormat::Rgb3,
    PixelFormat::Bgr3,
    PixelFormat::Mjpg,
    PixelFormat::Grey,
];

/// One way in which a camera can stream.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mode {
    pub format: PixelFormat,
    /// Pixels.
    pub width: usize,
    /// Pixels.
    pub height: usize,
    /// The most frames a second, where it is known.
    pub max_fps: Option<f32>,
}

/// What is asked of a camera.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Wanted {
    /// `None` to choose among all.
    pub format: Option<PixelFormat>,
    /// Pixels.
    pub width: usize,
    /// Pixels.
    pub height: usize,
    /// Frames a second.
    pub fps: f32,
}

impl Wanted {
    /// # Errors
    /// When `config.format` is neither `auto` nor a pixel format's code.
    pub fn new(config: &CameraConfig) -> Result<Wanted, SourceError> {
        let format = match config.format.as_str() {
            "auto" => None,
            name => Some(PixelFormat::ALL.into_iter().find(|format| format.to_string() == name).ok_or_else(|| {
                let known = PixelFormat::ALL.map(|format| format.to_string()).join(", ");
                SourceError::Unsupported(format!("`{name}` is no pixel format; there are auto, {known}"))
            })?),
        };
        Ok(Wanted { format, width: config.width, height: config.height, fps: config.fps })
    }
}

/// The mode to use: of the format that is wanted, or else one with colour, if there is any; of the size nearest to
/// the wanted; as fast as wanted, or else as fast as can be; and then of the best format.
pub fn choose(modes: &[Mode], wanted: &Wanted) -> Option<Mode> {
    let rank = |mode: &Mode| {
        let distance = mode.width.abs_diff(wanted.width) + mode.height.abs_diff(wanted.height);
        let slowness = match mode.max_fps {
            Some(fps) if fps < wanted.fps * (1.0 - RATE_TOLERANCE) => wanted.fps - fps,
            _ => 0.0,
        };
        let preference = PREFERENCE.iter().position(|format| *format == mode.format);
        (mode.format == PixelFormat::Grey, distance, slowness, preference)
    };
    modes
        .iter()
        .filter(|mode| wanted.format.is_none_or(|format| format == mode.format))
        .min_by(|a, b| rank(a).partial_cmp(&rank(b)).unwrap_or(std::cmp::Ordering::Equal))
        .copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::SourceKind;
    use crate::capture::tests::config;

    fn mode(format: PixelFormat, width: usize, height: usize, max_fps: f32) -> Mode {
        Mode { format, width, height, max_fps: Some(max_fps) }
    }

    /// What a USB 2 camera offers: large pictures are fast only when compressed.
    fn usb_camera() -> Vec<Mode> {
        use PixelFormat::*;
        vec![
            mode(Mjpg, 640, 480, 60.0),
            mode(Mjpg, 1280, 720, 30.0),
            mode(Mjpg, 1920, 1080, 30.0),
            mode(Yuyv, 640, 480, 30.0),
            mode(Yuyv, 1280, 720, 10.0),
            mode(Yuyv, 1920, 1080, 5.0),
            mode(Grey, 640, 480, 120.0),
        ]
    }

    #[test]
    fn the_best_mode_is_chosen() {
        use PixelFormat::*;
        struct Case {
            wanted: (Option<PixelFormat>, usize, usize, f32),
            chosen: Option<(PixelFormat, usize)>,
        }
        let cases = [
            Case { wanted: (None, 640, 480, 30.0), chosen: Some((Yuyv, 640)) },
            Case { wanted: (None, 640, 480, 31.0), chosen: Some((Yuyv, 640)) },
            Case { wanted: (None, 1280, 720, 30.0), chosen: Some((Mjpg, 1280)) },
            Case { wanted: (None, 1280, 720, 10.0), chosen: Some((Yuyv, 1280)) },
            Case { wanted: (None, 1300, 700, 60.0), chosen: Some((Mjpg, 1280)) },
            Case { wanted: (None, 640, 480, 90.0), chosen: Some((Mjpg, 640)) },
            Case { wanted: (Some(Mjpg), 640, 480, 30.0), chosen: Some((Mjpg, 640)) },
            Case { wanted: (Some(Grey), 1920, 1080, 30.0), chosen: Some((Grey, 640)) },
            Case { wanted: (Some(Nv12), 640, 480, 30.0), chosen: None },
        ];
        for Case { wanted: (format, width, height, fps), chosen } in cases {
            let wanted = Wanted { format, width, height, fps };
            let mode = choose(&usb_camera(), &wanted);
            assert_eq!(mode.map(|mode| (mode.format, mode.width)), chosen, "{wanted:?}");
        }
        assert_eq!(choose(&[], &Wanted { format: None, width: 640, height: 480, fps: 30.0 }), None);
    }

    #[test]
    fn a_rate_that_is_not_told_counts_as_enough() {
        let unknown = Mode { format: PixelFormat::Yuyv, width: 640, height: 480, max_fps: None };
        let modes = [mode(PixelFormat::Mjpg, 640, 480, 60.0), unknown];
        let wanted = Wanted { format: None, width: 640, height: 480, fps: 60.0 };
        assert_eq!(choose(&modes, &wanted), Some(unknown));
    }

    #[test]
    fn formats_are_named_by_their_codes() {
        let wanted = |format: &str| Wanted::new(&CameraConfig { format: format.into(), ..config(SourceKind::V4l2) });
        assert_eq!(wanted("auto").unwrap().format, None);
        assert_eq!(wanted("NV12").unwrap().format, Some(PixelFormat::Nv12));
        let error = wanted("H264").unwrap_err().to_string();
        assert_eq!(error, "`H264` is no pixel format; there are auto, YUYV, UYVY, NV12, GREY, RGB3, BGR3, MJPG");
        assert_eq!(PREFERENCE.len(), PixelFormat::ALL.len());
        assert!(PixelFormat::ALL.iter().all(|format| PREFERENCE.contains(format)));
    }
}
