//! The oracle converts every pixel of the frame to RGB first and resizes then, in plain f64 loops.

use super::*;
use crate::types::frame::PooledBytes;
use proptest::prelude::*;

const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const STD: [f32; 3] = [0.229, 0.224, 0.225];

/// A smooth colour picture, (height, width, 3) in [0, 255], without the corners of the RGB cube that YCbCr
/// cannot hold.
fn smooth(width: usize, height: usize, phase: f64) -> Vec<f64> {
    let mut rgb = Vec::with_capacity(width * height * 3);
    for y in 0..height {
        for x in 0..width {
            let (u, v) = (x as f64 / width as f64, y as f64 / height as f64);
            for channel in 0..3 {
                let c = channel as f64;
                rgb.push(
                    128.0
                        + 50.0 * (3.0 * u * (1.0 + 0.2 * c) + 2.0 * v + phase + 0.5 * c).sin()
                        + 20.0 * (4.0 * v - c).cos(),
                );
            }
        }
    }
    rgb
}

/// ITU-R BT.601, limited range: Y, Cb, Cr.
fn to_ycbcr(rgb: [f64; 3]) -> [f64; 3] {
    let [r, g, b] = rgb;
    let y = 0.299 * r + 0.587 * g + 0.114 * b;
    let (cb, cr) = ((b - y) / 1.772, (r - y) / 1.402);
    [16.0 + y * 219.0 / 255.0, 128.0 + cb * 224.0 / 255.0, 128.0 + cr * 224.0 / 255.0]
}

fn to_rgb([y, cb, cr]: [f64; 3]) -> [f64; 3] {
    let (y, cb, cr) = ((y - 16.0) * 255.0 / 219.0, (cb - 128.0) * 255.0 / 224.0, (cr - 128.0) * 255.0 / 224.0);
    let (r, b) = (y + 1.402 * cr, y + 1.772 * cb);
    [r, (y - 0.299 * r - 0.114 * b) / 0.587, b].map(|v| v.clamp(0.0, 255.0))
}

/// A frame in `format` whose rows end in `padding` bytes of rubbish, and the RGB that a pixel-by-pixel reading
/// of it gives.
fn frame(format: PixelFormat, width: usize, height: usize, padding: usize, phase: f64) -> (PixelBuf, Vec<f64>) {
    let rgb = smooth(width, height, phase);
    let pixel = |x: usize, y: usize| {
        let at = (y.min(height - 1) * width + x.min(width - 1)) * 3;
        [rgb[at], rgb[at + 1], rgb[at + 2]]
    };
    let round = |v: f64| v.round() as u8;
    let stride = format.min_stride(width).unwrap() + padding;
    let mut bytes = vec![0xa5; format.frame_bytes(stride, height).unwrap()];
    let mut read = vec![0.0; width * height * 3];
    // The chroma of a block is that of its first pixel: it is the oracle's too, so where it was taken is no matter.
    let chroma = |x: usize, y: usize| to_ycbcr(pixel(x, y)).map(|v| v.round());
    for y in 0..height {
        for x in 0..width {
            let (own, at) = (pixel(x, y), y * stride);
            let luma = to_ycbcr(own)[0].round();
            let block = |y| chroma(x / 2 * 2, y);
            let seen = match format {
                PixelFormat::Yuyv | PixelFormat::Uyvy => {
                    let [_, cb, cr] = block(y);
                    let [l, u, v] = if format == PixelFormat::Yuyv { [0, 1, 3] } else { [1, 0, 2] };
                    bytes[at + 2 * x + l] = luma as u8;
                    bytes[at + x / 2 * 4 + u] = cb as u8;
                    bytes[at + x / 2 * 4 + v] = cr as u8;
                    to_rgb([luma, cb, cr])
                }
                PixelFormat::Nv12 => {
                    let [_, cb, cr] = block(y / 2 * 2);
                    bytes[at + x] = luma as u8;
                    let at = stride * height + y / 2 * stride + x / 2 * 2;
                    (bytes[at], bytes[at + 1]) = (cb as u8, cr as u8);
                    to_rgb([luma, cb, cr])
                }
                PixelFormat::Grey => {
                    bytes[at + x] = round(own[1]);
                    [own[1].round(); 3]
                }
                PixelFormat::Rgb3 | PixelFormat::Bgr3 => {
                    let order = if format == PixelFormat::Rgb3 { own } else { [own[2], own[1], own[0]] };
                    bytes[at + 3 * x..at + 3 * x + 3].copy_from_slice(&order.map(round));
                    own.map(f64::round)
                }
                PixelFormat::Mjpg => unreachable!(),
            };
            read[(y * width + x) * 3..][..3].copy_from_slice(&seen);
        }
    }
    (PixelBuf::new(format, width, height, stride, PooledBytes::unpooled(bytes)).unwrap(), read)
}

/// Bicubic with a = -0.5 (Keys 1981), its support widened by the scale when shrinking, weights made to sum to 1.
fn resize_line(line: &[f64], size: usize) -> Vec<f64> {
    let scale = line.len() as f64 / size as f64;
    let wide = scale.max(1.0);
    let kernel = |x: f64| match x.abs() {
        x if x < 1.0 => 1.5 * x * x * x - 2.5 * x * x + 1.0,
        x if x < 2.0 => -0.5 * (x * x * x - 5.0 * x * x + 8.0 * x - 4.0),
        _ => 0.0,
    };
    let sample = |i: usize| {
        let centre = (i as f64 + 0.5) * scale;
        let weights = (0..line.len()).map(|j| kernel((j as f64 + 0.5 - centre) / wide));
        let (sum, total) = weights.zip(line).fold((0.0, 0.0), |(s, t), (w, v)| (s + w * v, t + w));
        sum / total
    };
    (0..size).map(sample).collect()
}

/// (height, width, 3) to (3, out_height, out_width), normalised.
fn oracle(rgb: &[f64], (width, height): (usize, usize), (out_width, out_height): (usize, usize)) -> Vec<f32> {
    let mut out = Vec::new();
    for channel in 0..3 {
        let row = |y: usize| (0..width).map(|x| rgb[(y * width + x) * 3 + channel]).collect::<Vec<_>>();
        let rows: Vec<Vec<f64>> = (0..height).map(|y| resize_line(&row(y), out_width)).collect();
        let column = |x: usize| rows.iter().map(|row| row[x]).collect::<Vec<_>>();
        let columns: Vec<Vec<f64>> = (0..out_width).map(|x| resize_line(&column(x), out_height)).collect();
        for y in 0..out_height {
            for column in &columns {
                out.push((column[y].clamp(0.0, 255.0) as f32 / 255.0 - MEAN[channel]) / STD[channel]);
            }
        }
    }
    out
}

/// The largest difference, in steps of 8-bit colour.
fn difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let plane = a.len() / 3;
    a.iter().zip(b).enumerate().map(|(i, (a, b))| (a - b).abs() * STD[i / plane] * 255.0).fold(0.0, f32::max)
}

/// The mean difference, in steps of 8-bit colour.
fn mean_difference(a: &[f32], b: &[f32]) -> f32 {
    let plane = a.len() / 3;
    let sum: f32 = a.iter().zip(b).enumerate().map(|(i, (a, b))| (a - b).abs() * STD[i / plane] * 255.0).sum();
    sum / a.len() as f32
}

const RAW: [PixelFormat; 6] =
    [PixelFormat::Yuyv, PixelFormat::Uyvy, PixelFormat::Nv12, PixelFormat::Grey, PixelFormat::Rgb3, PixelFormat::Bgr3];

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn any_format_and_size_agrees_with_the_oracle(
        format in proptest::sample::select(RAW.to_vec()),
        // So large that the wave is smooth between samples of chroma, which the oracle does not interpolate.
        (width, height) in (320usize..480, 320usize..480),
        (half_width, out_height) in (30usize..150, 60usize..300),
        padding in 0usize..6,
        phase in 0.0..6.0,
    ) {
        let (pixels, rgb) = frame(format, width, height, padding, phase);
        let out_width = 2 * half_width;
        let mut out = InputTensor::default();
        Preprocessor::new(out_width, out_height, MEAN, STD).run(&pixels, &mut out).unwrap();
        prop_assert_eq!((out.width, out.height), (out_width, out_height));
        let expected = oracle(&rgb, (width, height), (out_width, out_height));
        // Planes are rounded to 8 bits after each of the two passes. What that does to Cb counts twice in blue.
        let most = if matches!(format, PixelFormat::Yuyv | PixelFormat::Uyvy | PixelFormat::Nv12) { 6.0 } else { 3.0 };
        prop_assert!(difference(&out.data, &expected) <= most, "differs by {}", difference(&out.data, &expected));
        let mean = mean_difference(&out.data, &expected);
        prop_assert!(mean <= 1.0, "differs by {} in the mean", mean);
    }
}

/// The rows and columns of a picture, (height, width, 3), that lie within x, y, width, height.
fn cut_out(rgb: &[f64], width: usize, [x, y, w, h]: [usize; 4]) -> Vec<f64> {
    rgb.chunks_exact(3 * width).skip(y).take(h).flat_map(|row| row[3 * x..3 * (x + w)].to_vec()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_part_of_a_frame_is_what_is_cut_out_of_it(
        format in proptest::sample::select(RAW.to_vec()),
        (width, height) in (320usize..480, 320usize..480),
        (left, top, w, h) in (0.0f32..0.6, 0.0f32..0.6, 0.25f32..0.6, 0.25f32..0.6),
        (half_width, out_height) in (30usize..150, 60usize..300),
        padding in 0usize..6,
        phase in 0.0..6.0,
    ) {
        let (pixels, rgb) = frame(format, width, height, padding, phase);
        let view = View { left, top, width: w, height: h };
        let [x, y, w, h] = view.pixels(width, height);
        let part = cut_out(&rgb, width, [x, y, w, h]);
        let most = if matches!(format, PixelFormat::Yuyv | PixelFormat::Uyvy | PixelFormat::Nv12) { 6.0 } else { 3.0 };
        for (out_width, out_height, most) in [(2 * half_width, out_height, most), (w, h, 0.01)] {
            let mut out = InputTensor::default();
            Preprocessor::new(out_width, out_height, MEAN, STD).run_part(&pixels, view, &mut out).unwrap();
            let expected = oracle(&part, (w, h), (out_width, out_height));
            prop_assert!(difference(&out.data, &expected) <= most, "differs by {}", difference(&out.data, &expected));
        }
    }
}

#[test]
fn a_frame_of_the_models_size_is_only_converted() {
    for format in RAW {
        for (width, height, padding) in [(64, 48, 0), (63, 47, 0), (65, 48, 3)] {
            let (pixels, rgb) = frame(format, width, height, padding, 1.0);
            let mut out = InputTensor::default();
            Preprocessor::new(width, height, MEAN, STD).run(&pixels, &mut out).unwrap();
            let expected = oracle(&rgb, (width, height), (width, height));
            let difference = difference(&out.data, &expected);
            assert!(difference < 0.01, "{format} {width}x{height} differs by {difference}");
        }
    }
}

#[test]
fn tiny_frames_and_tiny_inputs_are_taken() {
    for format in RAW {
        for (width, height) in [(1, 1), (2, 1), (3, 3), (1, 9)] {
            for (out_width, out_height) in [(16, 16), (1, 1), (7, 14)] {
                let (pixels, _) = frame(format, width, height, 1, 0.0);
                let mut out = InputTensor::default();
                Preprocessor::new(out_width, out_height, MEAN, STD).run(&pixels, &mut out).unwrap();
                assert!(out.data.iter().all(|v| v.is_finite()), "{format} {width}x{height}");
            }
        }
    }
}

#[test]
fn a_colour_out_of_range_is_clamped() {
    // The brightest luma with the strongest chroma: red and blue beyond 255 before clamping.
    let pixels = PixelBuf::packed(PixelFormat::Yuyv, 2, 1, vec![255, 255, 255, 255]).unwrap();
    let mut out = InputTensor::default();
    Preprocessor::new(2, 1, [0.0; 3], [1.0; 3]).run(&pixels, &mut out).unwrap();
    assert_eq!((out.data[0], out.data[4]), (1.0, 1.0));
    let pixels = PixelBuf::packed(PixelFormat::Yuyv, 2, 1, vec![0; 4]).unwrap();
    Preprocessor::new(2, 1, [0.0; 3], [1.0; 3]).run(&pixels, &mut out).unwrap();
    assert_eq!((out.data[0], out.data[4]), (0.0, 0.0));
}

fn jpeg(width: usize, height: usize) -> (Vec<u8>, Vec<f64>) {
    let rgb = smooth(width, height, 0.5);
    let bytes: Vec<u8> = rgb.iter().map(|v| v.round() as u8).collect();
    let mut file = Vec::new();
    let encoder = jpeg_encoder::Encoder::new(&mut file, 95);
    encoder.encode(&bytes, width as u16, height as u16, jpeg_encoder::ColorType::Rgb).unwrap();
    (file, rgb)
}

#[test]
fn a_motion_jpeg_frame_is_decoded_in_full_range() {
    let (file, rgb) = jpeg(160, 120);
    let pixels = PixelBuf::packed(PixelFormat::Mjpg, 160, 120, file).unwrap();
    let mut out = InputTensor::default();
    Preprocessor::new(96, 80, MEAN, STD).run(&pixels, &mut out).unwrap();
    let difference = difference(&out.data, &oracle(&rgb, (160, 120), (96, 80)));
    assert!(difference < 6.0, "differs by {difference}, more than compression does");
}

/// Many cameras leave out the Huffman tables, which are always the same.
#[test]
fn a_motion_jpeg_frame_needs_no_huffman_tables() {
    let (file, _) = jpeg(160, 120);
    let mut bare = file[..2].to_vec();
    let mut at = 2;
    while file[at + 1] != 0xda {
        let end = at + 2 + usize::from(u16::from_be_bytes([file[at + 2], file[at + 3]]));
        if file[at + 1] != 0xc4 {
            bare.extend_from_slice(&file[at..end]);
        }
        at = end;
    }
    bare.extend_from_slice(&file[at..]);
    assert!(bare.len() < file.len());
    let [bare, whole] = [bare, file].map(|bytes| {
        let pixels = PixelBuf::packed(PixelFormat::Mjpg, 160, 120, bytes).unwrap();
        let mut out = InputTensor::default();
        Preprocessor::new(96, 80, MEAN, STD).run(&pixels, &mut out).unwrap();
        out.data
    });
    assert_eq!(bare, whole);
}

#[test]
fn a_broken_or_surprising_jpeg_is_an_error() {
    let (file, _) = jpeg(160, 120);
    let mut preprocessor = Preprocessor::new(96, 80, MEAN, STD);
    let mut out = InputTensor::default();
    let other = PixelBuf::packed(PixelFormat::Mjpg, 320, 240, file.clone()).unwrap();
    let error = preprocessor.run(&other, &mut out).unwrap_err().to_string();
    assert!(error.contains("160x120") && error.contains("320x240"), "{error}");
    for bytes in [vec![0; 100], file[..20].to_vec(), b"\xff\xd8\xff".to_vec()] {
        let broken = PixelBuf::packed(PixelFormat::Mjpg, 160, 120, bytes).unwrap();
        assert!(matches!(preprocessor.run(&broken, &mut out), Err(PreprocessError::Jpeg(_))));
    }
    let whole = PixelBuf::packed(PixelFormat::Mjpg, 160, 120, file).unwrap();
    assert!(preprocessor.run(&whole, &mut out).is_ok(), "a broken frame spoils no later one");
}

#[test]
fn buffers_are_used_again() {
    let (pixels, _) = frame(PixelFormat::Rgb3, 200, 150, 1, 0.0);
    let mut preprocessor = Preprocessor::new(96, 80, MEAN, STD);
    let mut out = InputTensor::default();
    preprocessor.run(&pixels, &mut out).unwrap();
    let places = |p: &Preprocessor, out: &InputTensor| (p.planes[0].as_ptr(), p.compact.as_ptr(), out.data.as_ptr());
    let before = places(&preprocessor, &out);
    preprocessor.run(&pixels, &mut out).unwrap();
    assert_eq!(places(&preprocessor, &out), before);
}

/// Not a test of what is right: prints how long a frame takes. `cargo test --release -- --ignored --nocapture speed`
#[test]
#[ignore = "a measurement"]
fn speed() {
    for (format, out_width, out_height) in [
        (PixelFormat::Yuyv, 640, 480),
        (PixelFormat::Yuyv, 448, 336),
        (PixelFormat::Nv12, 640, 480),
        (PixelFormat::Nv12, 448, 336),
        (PixelFormat::Rgb3, 640, 480),
        (PixelFormat::Rgb3, 448, 336),
    ] {
        let (pixels, _) = frame(format, 640, 480, 0, 0.0);
        let mut preprocessor = Preprocessor::new(out_width, out_height, MEAN, STD);
        let mut out = InputTensor::default();
        let mut times: Vec<f64> = (0..200)
            .map(|_| {
                let start = std::time::Instant::now();
                preprocessor.run(&pixels, &mut out).unwrap();
                start.elapsed().as_secs_f64() * 1e3
            })
            .collect();
        times.sort_by(f64::total_cmp);
        println!("{format} 640x480 -> {out_width}x{out_height}: best {:.2} ms, median {:.2} ms", times[0], times[100]);
    }
}
