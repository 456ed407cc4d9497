//! Asking a device for what is wanted, and checking what it gives instead.

use v4l::format::FieldOrder;
use v4l::framesize::FrameSizeEnum;
use v4l::video::Capture;
use v4l::video::capture::Parameters;
use v4l::{Device, Format, FourCC, Fraction};

use crate::capture::SourceError;
use crate::capture::modes::{Mode, Wanted, choose};
use crate::types::PixelFormat;

use super::devices::{name_of, rate_of, rates};

/// What a device agreed to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Agreed {
    pub format: PixelFormat,
    /// Pixels.
    pub width: usize,
    /// Pixels.
    pub height: usize,
    /// Bytes from one row of the first plane to the next; 0 for Motion-JPEG.
    pub stride: usize,
    /// Bytes of a frame; for Motion-JPEG the most that there can be.
    pub frame_bytes: usize,
    /// Frames a second, where the device tells.
    pub fps: Option<f32>,
}

/// Sets the format and the rate of `device`, called `name`, as near to `wanted` as it can.
///
/// # Errors
/// When the device is in use, is gone, or gives nothing that is understood.
pub fn negotiate(device: &Device, name: &str, wanted: &Wanted) -> Result<Agreed, SourceError> {
    let fail = |doing: &'static str| move |error| SourceError::from_io(name, doing, error);
    let offered = device.enum_formats().map_err(fail("asking for its formats"))?;
    let known = offered.iter().filter_map(|offer| PixelFormat::from_fourcc(offer.fourcc.repr));
    let modes: Vec<_> = known.flat_map(|format| modes(device, format, wanted)).collect();
    let names = offered.iter().map(|offer| name_of(offer.fourcc)).collect::<Vec<_>>().join(", ");
    let mode = choose(&modes, wanted).ok_or_else(|| match wanted.format {
        Some(format) => SourceError::Unsupported(format!("{name} does not give {format}; it offers {names}")),
        None => SourceError::Unsupported(format!("{name} gives no format that is understood; it offers {names}")),
    })?;
    let mut ask = Format::new(mode.width as u32, mode.height as u32, FourCC::new(&mode.format.fourcc()));
    ask.field_order = FieldOrder::Progressive;
    let given = device.set_format(&ask).map_err(fail("setting its format"))?;
    let agreed =
        check(&given, mode.format).map_err(|problem| SourceError::Unsupported(format!("{name}: {problem}")))?;
    // Last, because a new format resets the rate.
    Ok(Agreed { fps: set_rate(device, wanted.fps), ..agreed })
}

/// What `device` offers in `format`: of each kind of size the one nearest to what is wanted.
fn modes(device: &Device, format: PixelFormat, wanted: &Wanted) -> Vec<Mode> {
    let fourcc = FourCC::new(&format.fourcc());
    let mut sizes: Vec<(u32, u32)> = Vec::new();
    for size in device.enum_framesizes(fourcc).unwrap_or_default() {
        sizes.push(match size.size {
            FrameSizeEnum::Discrete(size) => (size.width, size.height),
            FrameSizeEnum::Stepwise(range) => (
                nearest(wanted.width, range.min_width, range.max_width, range.step_width),
                nearest(wanted.height, range.min_height, range.max_height, range.step_height),
            ),
        });
    }
    if sizes.is_empty() {
        // A driver that does not tell may still oblige.
        sizes.push((wanted.width as u32, wanted.height as u32));
    }
    let mode = |(width, height)| {
        let max_fps = rates(device, fourcc, width, height).first().copied();
        Mode { format, width: width as usize, height: height as usize, max_fps }
    };
    sizes.into_iter().map(mode).collect()
}

/// The value of a range that is nearest to `wanted`, none above it where there is a choice.
fn nearest(wanted: usize, min: u32, max: u32, step: u32) -> u32 {
    let wanted = u32::try_from(wanted).unwrap_or(u32::MAX).clamp(min, max.max(min));
    wanted - (wanted - min) % step.max(1)
}

/// Whether the format that a device `given` is the one that was asked for, and can be.
fn check(given: &Format, asked: PixelFormat) -> Result<Agreed, String> {
    if PixelFormat::from_fourcc(given.fourcc.repr) != Some(asked) {
        return Err(format!("it was asked for {asked} and gives {}", name_of(given.fourcc)));
    }
    use FieldOrder::{Any, Interlaced, InterlacedBT, InterlacedTB, Progressive};
    if !matches!(given.field_order, Any | Progressive | Interlaced | InterlacedTB | InterlacedBT) {
        return Err(format!("its pictures are fields and not frames ({})", given.field_order));
    }
    let (width, height, size) = (given.width as usize, given.height as usize, given.size as usize);
    if width == 0 || height == 0 || width > 1 << 15 || height > 1 << 15 {
        return Err(format!("{width}x{height} pixels cannot be"));
    }
    let Some(least) = asked.min_stride(width) else {
        return Ok(Agreed { format: asked, width, height, stride: 0, frame_bytes: size, fps: None });
    };
    let stride = if given.stride == 0 { least } else { given.stride as usize };
    if stride < least {
        return Err(format!("{stride} bytes a row are too few for {width} pixels of {asked}"));
    }
    let frame_bytes = asked.frame_bytes(stride, height).ok_or("the frame has no size")?;
    if size != 0 && size < frame_bytes {
        return Err(format!("{size} bytes a frame are too few for {width}x{height} pixels of {asked}"));
    }
    Ok(Agreed { format: asked, width, height, stride, frame_bytes, fps: None })
}

/// Sets the rate; returns the one that the device tells, if it tells one.
fn set_rate(device: &Device, fps: f32) -> Option<f32> {
    let given = device.set_params(&Parameters::new(interval_of(fps))).or_else(|_| device.params());
    given.ok().and_then(|parameters| rate_of(parameters.interval))
}

/// The frame interval of a rate, in seconds.
fn interval_of(fps: f32) -> Fraction {
    if fps.fract() == 0.0 {
        return Fraction::new(1, fps as u32);
    }
    // Rates such as 29.97 are 30,000 frames in 1,001 seconds.
    let ntsc = (fps * 1.001).round();
    if (fps * 1.001 - ntsc).abs() < 0.01 && ntsc >= 1.0 {
        return Fraction::new(1001, ntsc as u32 * 1000);
    }
    Fraction::new(1000, (fps * 1000.0).round() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(fourcc: &[u8; 4], width: u32, height: u32, stride: u32, size: u32) -> Format {
        Format { stride, size, field_order: FieldOrder::Progressive, ..Format::new(width, height, FourCC::new(fourcc)) }
    }

    #[test]
    fn what_the_driver_gave_is_checked() {
        struct Case {
            given: Format,
            asked: PixelFormat,
            agreed: Result<(usize, usize), &'static str>,
        }
        use PixelFormat::*;
        let cases = [
            Case { given: given(b"YUYV", 640, 360, 1280, 460_800), asked: Yuyv, agreed: Ok((1280, 460_800)) },
            Case { given: given(b"YUYV", 640, 360, 0, 0), asked: Yuyv, agreed: Ok((1280, 460_800)) },
            Case { given: given(b"NV12", 640, 360, 704, 380_160), asked: Nv12, agreed: Ok((704, 380_160)) },
            Case { given: given(b"MJPG", 640, 360, 0, 400_000), asked: Mjpg, agreed: Ok((0, 400_000)) },
            Case {
                given: given(b"YUYV", 640, 360, 1280, 460_800),
                asked: Mjpg,
                agreed: Err("it was asked for MJPG and gives YUYV"),
            },
            Case { given: given(b"GREY", 640, 360, 639, 230_400), asked: Grey, agreed: Err("too few for 640 pixels") },
            Case { given: given(b"RGB3", 640, 360, 1920, 691_199), asked: Rgb3, agreed: Err("too few for 640x360") },
            Case { given: given(b"RGB3", 0, 360, 0, 0), asked: Rgb3, agreed: Err("0x360 pixels cannot be") },
        ];
        for Case { given, asked, agreed } in cases {
            match (check(&given, asked), agreed) {
                (Ok(got), Ok(expected)) => assert_eq!((got.stride, got.frame_bytes), expected),
                (Err(problem), Err(part)) => assert!(problem.contains(part), "{problem}"),
                (got, expected) => panic!("{got:?} and not {expected:?}"),
            }
        }
        let fields = Format { field_order: FieldOrder::Alternate, ..given(b"YUYV", 720, 288, 0, 0) };
        assert!(check(&fields, Yuyv).unwrap_err().contains("fields"));
    }

    #[test]
    fn the_nearest_size_of_a_range_is_asked_for() {
        struct Case(usize, u32, u32, u32, u32);
        let cases = [
            Case(640, 16, 4096, 2, 640),
            Case(641, 16, 4096, 2, 640),
            Case(8, 16, 4096, 2, 16),
            Case(9999, 16, 4096, 16, 4096),
            Case(640, 320, 320, 0, 320),
            Case(640, 320, 0, 1, 320),
        ];
        for Case(wanted, min, max, step, expected) in cases {
            assert_eq!(nearest(wanted, min, max, step), expected, "{wanted} of {min}..{max} by {step}");
        }
    }

    #[test]
    fn a_rate_becomes_an_interval() {
        struct Case(f32, u32, u32);
        let cases = [Case(30.0, 1, 30), Case(29.97, 1001, 30_000), Case(7.5, 1000, 7500), Case(0.5, 1000, 500)];
        for Case(fps, numerator, denominator) in cases {
            let interval = interval_of(fps);
            assert_eq!((interval.numerator, interval.denominator), (numerator, denominator), "{fps}");
        }
    }
}
