//! A camera's newest frame with what was found in it, as a picture that fits on a line of the protocol.

use base64::Engine;

use crate::draw;
use crate::embed::Preprocessor;
use crate::picture;
use crate::types::command::ErrorCode;
use crate::types::report::TrackReport;
use crate::types::{Answer, CommandError, Frame, InputTensor, Mask};

/// Bytes of a JPEG whose base64 form leaves room for the rest of a 1 MiB line.
const MOST_BYTES: usize = 700_000;

/// The answer to `snapshot`: a JPEG of the frame, masks, boxes and names drawn over it. A picture that would
/// be too long for a line is made again at lower qualities.
///
/// # Errors
/// When the frame cannot be decoded, or is too large at any quality.
pub fn answer(frame: &Frame, report: &TrackReport) -> Result<Answer, CommandError> {
    let failed = |problem: String| CommandError::new(ErrorCode::CameraNoFrame, problem);
    let (width, height) = (frame.meta.width, frame.meta.height);
    let mut rgb = to_rgb(frame).map_err(failed)?;
    let shown: Vec<(Mask, draw::Colour, String)> = report
        .tracks
        .iter()
        .filter_map(|track| {
            let mask = Mask::from_coco(track.mask.as_ref()?).ok()?;
            Some((mask, draw::colour(track.id.0), format!("{} {:.2}", track.name, track.score)))
        })
        .collect();
    draw::draw_tracks(&mut rgb, width, height, &shown);
    for quality in [90, 75, 50, 25] {
        let jpeg = picture::encode_jpeg(&rgb, width, height, quality).map_err(|e| failed(e.to_string()))?;
        if jpeg.len() <= MOST_BYTES {
            let jpeg_base64 = base64::engine::general_purpose::STANDARD.encode(jpeg);
            let camera = report.camera.clone();
            return Ok(Answer::Snapshot { camera, seq: report.seq, size: [width, height], jpeg_base64 });
        }
    }
    Err(failed(format!("a picture of {width}x{height} pixels does not fit on a line")))
}

/// A frame as (height, width, 3) RGB.
///
/// # Errors
/// With a sentence, when the frame cannot be decoded.
pub fn to_rgb(frame: &Frame) -> Result<Vec<u8>, String> {
    let (width, height) = (frame.meta.width, frame.meta.height);
    let mut planes = InputTensor::default();
    // Without a mean and at a scale of 1/255 the preprocessed picture is the picture itself.
    Preprocessor::new(width, height, [0.0; 3], [1.0; 3])
        .run(&frame.pixels, &mut planes)
        .map_err(|error| error.to_string())?;
    let n = width * height;
    let byte = |v: f32| (v * 255.0).round().clamp(0.0, 255.0) as u8;
    Ok((0..n).flat_map(|i| [0, 1, 2].map(|c| byte(planes.data[c * n + i]))).collect())
}
