//! Compressed pictures: JPEG and PNG bytes to RGB, and back.
//!
//! Whatever the bytes are, the answer is pixels or a [`PictureError`]: never a panic, and never more memory
//! than [`MAX_PIXELS`] needs. EXIF orientation and colour profiles are ignored: pixels come as they are stored.

use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};

use libjpeg_turbo_rs::JpegError;

/// The largest width and height that is read, in pixels.
pub const MAX_SIDE: usize = 16_384;

/// The most pixels that are read: a picture of 200 MB. Larger ones are refused by their headers.
pub const MAX_PIXELS: usize = 1 << 26;

/// Why a picture cannot be read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PictureError {
    #[error("this is neither a JPEG nor a PNG picture")]
    NotAPicture,
    #[error("{width}x{height} pixels are too many: at most {MAX_SIDE} a side and {MAX_PIXELS} in all are read")]
    TooLarge { width: usize, height: usize },
    #[error("the picture is damaged: {0}")]
    Damaged(String),
    #[error("the picture cannot be written: {0}")]
    Unwritable(String),
}

/// Decodes a JPEG or PNG picture, whichever the first bytes say it is, into `out`: (height, width, 3), RGB.
/// Returns width and height in pixels.
///
/// # Errors
/// When the bytes are no such picture, are damaged or cut off, or hold too many pixels.
pub fn decode(bytes: &[u8], out: &mut Vec<u8>) -> Result<(usize, usize), PictureError> {
    if bytes.starts_with(&JPEG_START) {
        decode_jpeg(bytes, out)
    } else if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
        decode_png(bytes, out)
    } else {
        Err(PictureError::NotAPicture)
    }
}

/// Decodes a JPEG picture into `out`: (height, width, 3), RGB. Returns width and height in pixels.
///
/// Baseline and progressive; grey, YCbCr, RGB and CMYK; a camera's Motion-JPEG without Huffman tables too.
/// Pixels are those of libjpeg-turbo, to the last bit.
///
/// # Errors
/// When the bytes are no JPEG picture, are damaged or cut off, or hold too many pixels.
pub fn decode_jpeg(bytes: &[u8], out: &mut Vec<u8>) -> Result<(usize, usize), PictureError> {
    if !bytes.starts_with(&JPEG_START) {
        return Err(PictureError::NotAPicture);
    }
    // The decoder panics on some pictures, such as CMYK of which some components are coarser than others.
    catch_unwind(AssertUnwindSafe(|| decode_whole_jpeg(bytes, out)))
        .unwrap_or_else(|_| Err(PictureError::Damaged("the decoder does not know what to make of it".into())))
}

fn decode_whole_jpeg(bytes: &[u8], out: &mut Vec<u8>) -> Result<(usize, usize), PictureError> {
    let damaged = |error: JpegError| PictureError::Damaged(error.to_string());
    let mut decoder = libjpeg_turbo_rs::Decoder::new(bytes).map_err(damaged)?;
    let header = decoder.header();
    let (width, height) = within_limits(usize::from(header.width), usize::from(header.height))?;
    decoder.set_output_format(libjpeg_turbo_rs::PixelFormat::Rgb);
    // What is missing of a picture would otherwise be filled with grey.
    decoder.set_stop_on_warning(true);
    out.resize(width * height * 3, 0);
    decoder.decode_image_into(out).map_err(damaged)?;
    Ok((width, height))
}

/// Decodes a PNG picture into `out`: (height, width, 3), RGB. Returns width and height in pixels.
///
/// Any bit depth, grey, palette or colour, interlaced or not. Of 16 bits the upper 8 are taken, transparency
/// is ignored, and of an animation the first picture is read.
///
/// # Errors
/// When the bytes are no PNG picture, are damaged or cut off, or hold too many pixels.
pub fn decode_png(bytes: &[u8], out: &mut Vec<u8>) -> Result<(usize, usize), PictureError> {
    let damaged = |error: png::DecodingError| PictureError::Damaged(error.to_string());
    let mut decoder = png::Decoder::new(Cursor::new(bytes));
    decoder.set_transformations(png::Transformations::normalize_to_color8());
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    let info = decoder.read_header_info().map_err(damaged)?;
    let (width, height) = within_limits(info.width as usize, info.height as usize)?;
    let mut reader = decoder.read_info().map_err(damaged)?;
    let (colour, depth) = reader.output_color_type();
    if depth != png::BitDepth::Eight {
        return Err(PictureError::Damaged(format!("a depth of {depth:?} bits is left over")));
    }
    if colour == png::ColorType::Rgb {
        out.resize(width * height * 3, 0);
        reader.next_frame(out).map_err(damaged)?;
        return Ok((width, height));
    }
    // (height, width, colour.samples())
    let mut samples = vec![0; width * height * colour.samples()];
    reader.next_frame(&mut samples).map_err(damaged)?;
    out.clear();
    out.reserve(width * height * 3);
    match colour {
        png::ColorType::Grayscale => out.extend(samples.iter().flat_map(|grey| [*grey; 3])),
        png::ColorType::GrayscaleAlpha => out.extend(samples.chunks_exact(2).flat_map(|pixel| [pixel[0]; 3])),
        png::ColorType::Rgba => out.extend(samples.chunks_exact(4).flat_map(|pixel| [pixel[0], pixel[1], pixel[2]])),
        png::ColorType::Rgb | png::ColorType::Indexed => {
            return Err(PictureError::Damaged(format!("its colours stayed {colour:?}")));
        }
    }
    Ok((width, height))
}

/// Encodes (height, width, 3) RGB as a JPEG picture; `quality` is 1 to 100.
///
/// # Errors
/// When `rgb` is not as long as the size says, or a side is 0 or above 65,535.
pub fn encode_jpeg(rgb: &[u8], width: usize, height: usize, quality: u8) -> Result<Vec<u8>, PictureError> {
    let (short_width, short_height) = match (u16::try_from(width), u16::try_from(height)) {
        (Ok(width), Ok(height)) => (width, height),
        _ => return Err(PictureError::Unwritable(format!("JPEG holds no {width}x{height} pixels"))),
    };
    check_length(rgb, width, height, 3)?;
    let mut out = Vec::new();
    jpeg_encoder::Encoder::new(&mut out, quality.clamp(1, 100))
        .encode(rgb, short_width, short_height, jpeg_encoder::ColorType::Rgb)
        .map_err(|error| PictureError::Unwritable(error.to_string()))?;
    Ok(out)
}

/// Encodes (height, width, 3) RGB as a PNG picture.
///
/// # Errors
/// When `rgb` is not as long as the size says, or a side is 0.
pub fn encode_png(rgb: &[u8], width: usize, height: usize) -> Result<Vec<u8>, PictureError> {
    check_length(rgb, width, height, 3)?;
    write_png(rgb, width, height, png::ColorType::Rgb, None)
}

/// Encodes (height, width) indices into `palette` as an 8-bit palette PNG, the layout of DAVIS annotations.
///
/// # Errors
/// When `indices` is not as long as the size says, a side is 0, the palette has no entry or more than 256, or
/// an index lies outside it.
pub fn encode_palette_png(
    indices: &[u8],
    palette: &[[u8; 3]],
    width: usize,
    height: usize,
) -> Result<Vec<u8>, PictureError> {
    check_length(indices, width, height, 1)?;
    if palette.len() > 256 {
        return Err(PictureError::Unwritable(format!("a palette of {} colours; 256 fit", palette.len())));
    }
    if let Some(index) = indices.iter().find(|index| usize::from(**index) >= palette.len()) {
        let colours = palette.len();
        return Err(PictureError::Unwritable(format!("index {index} lies outside a palette of {colours} colours")));
    }
    write_png(indices, width, height, png::ColorType::Indexed, Some(palette.as_flattened()))
}

/// Start of image, and the first byte of the marker that must follow.
const JPEG_START: [u8; 3] = [0xff, 0xd8, 0xff];

fn within_limits(width: usize, height: usize) -> Result<(usize, usize), PictureError> {
    if width == 0 || height == 0 {
        return Err(PictureError::Damaged(format!("{width}x{height} pixels")));
    }
    if width > MAX_SIDE || height > MAX_SIDE || width * height > MAX_PIXELS {
        return Err(PictureError::TooLarge { width, height });
    }
    Ok((width, height))
}

fn check_length(data: &[u8], width: usize, height: usize, channels: usize) -> Result<(), PictureError> {
    let need = width.checked_mul(height).and_then(|pixels| pixels.checked_mul(channels));
    if need != Some(data.len()) || data.is_empty() {
        let problem = format!("{} bytes are not {width}x{height} pixels of {channels}", data.len());
        return Err(PictureError::Unwritable(problem));
    }
    Ok(())
}

fn write_png(
    data: &[u8],
    width: usize,
    height: usize,
    colour: png::ColorType,
    palette: Option<&[u8]>,
) -> Result<Vec<u8>, PictureError> {
    let unwritable = |error: png::EncodingError| PictureError::Unwritable(error.to_string());
    let (Ok(short_width), Ok(short_height)) = (u32::try_from(width), u32::try_from(height)) else {
        return Err(PictureError::Unwritable(format!("PNG holds no {width}x{height} pixels")));
    };
    let mut out = Vec::new();
    let mut encoder = png::Encoder::new(&mut out, short_width, short_height);
    encoder.set_color(colour);
    encoder.set_depth(png::BitDepth::Eight);
    if let Some(palette) = palette {
        encoder.set_palette(palette);
    }
    let mut writer = encoder.write_header().map_err(unwritable)?;
    writer.write_image_data(data).map_err(unwritable)?;
    writer.finish().map_err(unwritable)?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// (height, width, 3): smooth, so that JPEG keeps it well, and different in every channel.
    fn scene(width: usize, height: usize) -> Vec<u8> {
        let pixel =
            |x: usize, y: usize| [(x * 255 / width) as u8, (y * 255 / height) as u8, (255 - x * 200 / width) as u8];
        (0..height).flat_map(|y| (0..width).flat_map(move |x| pixel(x, y))).collect()
    }

    fn without_segments(jpeg: &[u8], marker: u8) -> Vec<u8> {
        let mut out = jpeg[..2].to_vec();
        let mut at = 2;
        while jpeg[at + 1] != 0xda {
            let length = 2 + usize::from(u16::from_be_bytes([jpeg[at + 2], jpeg[at + 3]]));
            if jpeg[at + 1] != marker {
                out.extend_from_slice(&jpeg[at..at + length]);
            }
            at += length;
        }
        out.extend_from_slice(&jpeg[at..]);
        out
    }

    #[test]
    fn a_jpeg_comes_back_nearly_as_it_was() {
        for (width, height) in [(1, 1), (8, 8), (17, 31), (64, 48), (101, 3)] {
            let scene = scene(width, height);
            let jpeg = encode_jpeg(&scene, width, height, 95).unwrap();
            let mut out = Vec::new();
            assert_eq!(decode(&jpeg, &mut out).unwrap(), (width, height));
            let error = out.iter().zip(&scene).map(|(a, b)| f64::from(a.abs_diff(*b))).sum::<f64>() / out.len() as f64;
            assert!(out.len() == scene.len() && error < 4.0, "{width}x{height}: {error}");
        }
    }

    #[test]
    fn a_camera_may_leave_out_the_huffman_tables() {
        let whole = encode_jpeg(&scene(64, 48), 64, 48, 90).unwrap();
        let bare = without_segments(&whole, 0xc4);
        assert!(bare.len() + 400 < whole.len(), "there were tables to leave out");
        let (mut expected, mut out) = (Vec::new(), Vec::new());
        decode_jpeg(&whole, &mut expected).unwrap();
        assert_eq!(decode_jpeg(&bare, &mut out).unwrap(), (64, 48));
        assert!(out == expected);
    }

    #[test]
    fn four_components_are_decoded_or_refused() {
        use jpeg_encoder::SamplingFactor::{F_1_1, F_1_2, F_2_1, F_2_2, F_4_1, F_4_2};
        let (width, height) = (33, 47);
        let cmyk: Vec<u8> = (0..width * height * 4).map(|i| (i * 7 % 256) as u8).collect();
        for colours in [jpeg_encoder::ColorType::Cmyk, jpeg_encoder::ColorType::CmykAsYcck] {
            for sampling in [F_1_1, F_1_2, F_2_1, F_2_2, F_4_1, F_4_2] {
                let (mut jpeg, mut out) = (Vec::new(), Vec::new());
                let mut encoder = jpeg_encoder::Encoder::new(&mut jpeg, 90);
                encoder.set_sampling_factor(sampling);
                encoder.encode(&cmyk, width as u16, height as u16, colours).unwrap();
                match decode_jpeg(&jpeg, &mut out) {
                    Ok(size) => assert_eq!((size, out.len()), ((width, height), width * height * 3)),
                    Err(error) => assert!(matches!(error, PictureError::Damaged(_)), "{sampling:?}: {error}"),
                }
            }
        }
    }

    #[test]
    fn a_jpeg_that_is_cut_off_is_refused_and_not_filled_with_grey() {
        let jpeg = encode_jpeg(&scene(160, 120), 160, 120, 90).unwrap();
        for keep in [3, 20, jpeg.len() / 4, jpeg.len() / 2, jpeg.len() - 100] {
            let result = decode_jpeg(&jpeg[..keep], &mut Vec::new());
            assert!(matches!(result, Err(PictureError::Damaged(_))), "{keep} of {}: {result:?}", jpeg.len());
        }
    }

    fn png_of(colour: png::ColorType, depth: png::BitDepth, palette: Option<Vec<u8>>, data: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut encoder = png::Encoder::new(&mut out, 2, 2);
        encoder.set_color(colour);
        encoder.set_depth(depth);
        if let Some(palette) = palette {
            encoder.set_palette(palette);
        }
        encoder.write_header().unwrap().write_image_data(data).unwrap();
        out
    }

    /// What a PNG sample stands for is said by the PNG specification, sections 12.5 and 13.12.
    #[test]
    fn a_png_of_any_kind_becomes_rgb() {
        use png::{BitDepth::*, ColorType::*};
        struct Case {
            colour: png::ColorType,
            depth: png::BitDepth,
            palette: Option<Vec<u8>>,
            data: Vec<u8>,
            pixels: [[u8; 3]; 4],
        }
        let grey = |v: [u8; 4]| v.map(|v| [v; 3]);
        let four = || Some((1..=12).collect::<Vec<u8>>());
        let entries = [[1, 2, 3], [4, 5, 6], [7, 8, 9], [10, 11, 12]];
        let cases = [
            Case {
                colour: Grayscale,
                depth: One,
                palette: None,
                data: vec![0x40, 0x80],
                pixels: grey([0, 255, 255, 0]),
            },
            Case {
                colour: Grayscale,
                depth: Two,
                palette: None,
                data: vec![0x10, 0xb0],
                pixels: grey([0, 85, 170, 255]),
            },
            Case {
                colour: Grayscale,
                depth: Four,
                palette: None,
                data: vec![0x01, 0xef],
                pixels: grey([0, 17, 238, 255]),
            },
            Case {
                colour: Grayscale,
                depth: Eight,
                palette: None,
                data: vec![0, 1, 2, 255],
                pixels: grey([0, 1, 2, 255]),
            },
            Case {
                colour: Grayscale,
                depth: Sixteen,
                palette: None,
                data: vec![0, 9, 1, 9, 2, 9, 255, 9],
                pixels: grey([0, 1, 2, 255]),
            },
            Case {
                colour: GrayscaleAlpha,
                depth: Eight,
                palette: None,
                data: vec![0, 0, 1, 9, 2, 99, 255, 255],
                pixels: grey([0, 1, 2, 255]),
            },
            Case { colour: Rgb, depth: Eight, palette: None, data: (1..=12).collect(), pixels: entries },
            Case {
                colour: Rgba,
                depth: Eight,
                palette: None,
                data: vec![1, 2, 3, 0, 4, 5, 6, 9, 7, 8, 9, 99, 10, 11, 12, 255],
                pixels: entries,
            },
            Case {
                colour: Rgba,
                depth: Sixteen,
                palette: None,
                data: entries.iter().flat_map(|p| [p[0], 7, p[1], 7, p[2], 7, 0, 0]).collect(),
                pixels: entries,
            },
            Case {
                colour: Indexed,
                depth: One,
                palette: four(),
                data: vec![0x40, 0x80],
                pixels: [entries[0], entries[1], entries[1], entries[0]],
            },
            Case { colour: Indexed, depth: Two, palette: four(), data: vec![0x10, 0xb0], pixels: entries },
            Case { colour: Indexed, depth: Four, palette: four(), data: vec![0x01, 0x23], pixels: entries },
            Case { colour: Indexed, depth: Eight, palette: four(), data: vec![0, 1, 2, 3], pixels: entries },
        ];
        for case in cases {
            let bytes = png_of(case.colour, case.depth, case.palette, &case.data);
            let mut out = vec![77; 5];
            assert_eq!(decode(&bytes, &mut out).unwrap(), (2, 2));
            assert_eq!(out, case.pixels.as_flattened(), "{:?} {:?}", case.colour, case.depth);
        }
    }

    #[test]
    fn pngs_come_back_as_they_were() {
        let scene = scene(37, 11);
        let mut out = Vec::new();
        decode(&encode_png(&scene, 37, 11).unwrap(), &mut out).unwrap();
        assert!(out == scene);
        let palette = [[0, 0, 0], [128, 0, 0], [0, 128, 0]];
        decode(&encode_palette_png(&[0, 1, 2, 1, 0, 0], &palette, 3, 2).unwrap(), &mut out).unwrap();
        assert_eq!(out, [0, 1, 2, 1, 0, 0].map(|index: usize| palette[index]).as_flattened());
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert!(matches!(encode_jpeg(&[0; 11], 2, 2, 90), Err(PictureError::Unwritable(_))));
        assert!(matches!(encode_jpeg(&[], 0, 0, 90), Err(PictureError::Unwritable(_))));
        assert!(matches!(encode_png(&[0; 13], 2, 2), Err(PictureError::Unwritable(_))));
        assert!(matches!(encode_palette_png(&[0, 3], &[[0; 3]; 3], 2, 1), Err(PictureError::Unwritable(_))));
        assert!(matches!(encode_palette_png(&[0, 3], &[[0; 3]; 257], 2, 1), Err(PictureError::Unwritable(_))));
        assert_eq!(decode(b"GIF89a", &mut Vec::new()), Err(PictureError::NotAPicture));
        assert_eq!(decode(b"", &mut Vec::new()), Err(PictureError::NotAPicture));
    }

    /// A header of 25 bytes that promises a picture of gigabytes.
    #[test]
    fn a_bomb_is_refused_by_its_header() {
        let mut png = encode_png(&[0; 3], 1, 1).unwrap();
        png[16..20].copy_from_slice(&16_000_u32.to_be_bytes());
        png[20..24].copy_from_slice(&16_000_u32.to_be_bytes());
        let crc = crc32(&png[12..29]);
        png[29..33].copy_from_slice(&crc.to_be_bytes());
        let expected = PictureError::TooLarge { width: 16_000, height: 16_000 };
        assert_eq!(decode(&png, &mut Vec::new()), Err(expected.clone()));
        let mut jpeg = encode_jpeg(&[0; 3], 1, 1, 90).unwrap();
        let frame = jpeg.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
        jpeg[frame + 5..frame + 7].copy_from_slice(&16_000_u16.to_be_bytes());
        jpeg[frame + 7..frame + 9].copy_from_slice(&16_000_u16.to_be_bytes());
        assert_eq!(decode(&jpeg, &mut Vec::new()), Err(expected));
    }

    /// CRC-32 of ISO 3309, bit by bit, as the PNG specification's annex D defines it.
    fn crc32(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0, |crc: u32, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        /// Damage of any kind gives pixels of the size that is told, or an error; never a panic.
        #[test]
        fn damage_gives_an_error_or_a_picture(
            kind in 0..4_usize,
            keep in 0.0..1.1_f64,
            hits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12),
        ) {
            let scene = scene(40, 24);
            let mut bytes = match kind {
                0 => encode_jpeg(&scene, 40, 24, 80).unwrap(),
                1 => {
                    let mut out = Vec::new();
                    let mut encoder = jpeg_encoder::Encoder::new(&mut out, 80);
                    encoder.set_progressive(true);
                    encoder.encode(&scene, 40, 24, jpeg_encoder::ColorType::Rgb).unwrap();
                    out
                }
                2 => encode_png(&scene, 40, 24).unwrap(),
                _ => encode_palette_png(&vec![1; 40 * 24], &[[0; 3]; 4], 40, 24).unwrap(),
            };
            bytes.truncate((bytes.len() as f64 * keep) as usize);
            for (index, value) in hits {
                if !bytes.is_empty() {
                    let at = index.index(bytes.len());
                    bytes[at] = value;
                }
            }
            let mut out = Vec::new();
            if let Ok((width, height)) = decode(&bytes, &mut out) {
                prop_assert_eq!(out.len(), width * height * 3);
            }
            let _ = decode_jpeg(&bytes, &mut out);
            let _ = decode_png(&bytes, &mut out);
        }
    }
}
