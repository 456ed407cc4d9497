//! From a camera's own pixels to a backbone's input.
//!
//! Each plane is resized as it lies in the frame, and what comes out, already of the model's size, is turned to
//! normalised red, green and blue in one pass. A frame is never converted or copied at its full size; only
//! Motion-JPEG, which has no pixels before it is decoded, goes through a buffer of its own.

use fast_image_resize::images::{TypedCroppedImage, TypedImage, TypedImageRef};
use fast_image_resize::pixels::{U8, U8x2, U8x3, U8x4};
use fast_image_resize::{FilterType, PixelTrait, ResizeAlg, ResizeOptions, Resizer};

use crate::picture::{self, PictureError};
use crate::types::{InputTensor, PixelBuf, PixelFormat, View};

/// Makes frames ready for one model and one input size. Its buffers grow with the first frame of a kind, and
/// are used again for those that follow.
///
/// Resizing is bicubic with a = -0.5, and averages when it shrinks: what PIL calls `BICUBIC`, which the
/// published models are evaluated with. Where the sizes are the same, nothing is resized.
pub struct Preprocessor {
    /// Pixels of the model's input.
    width: usize,
    /// Pixels of the model's input.
    height: usize,
    normal: Normalisation,
    resizer: Resizer,
    /// Planes after resizing.
    planes: [Vec<u8>; 2],
    /// (frame height, frame width, 3), a decoded Motion-JPEG frame
    decoded: Vec<u8>,
    /// Rows brought together, for the strides that are no whole number of pixels.
    compact: Vec<u8>,
    row: RowScratch,
}

/// A channel's normalised value is `value * scale + offset`, of a value in [0, 255].
#[derive(Clone, Copy)]
struct Normalisation {
    scale: [f32; 3],
    offset: [f32; 3],
}

/// One row of the model's input: (width, rounded up to even)
#[derive(Default)]
struct RowScratch {
    luma: Vec<f32>,
    u: Vec<f32>,
    v: Vec<f32>,
}

/// Why a frame could not be made ready.
#[derive(Debug, thiserror::Error)]
pub enum PreprocessError {
    #[error("a Motion-JPEG frame cannot be decoded: {0}")]
    Jpeg(#[from] PictureError),
    #[error("a Motion-JPEG frame holds {got_width}x{got_height} pixels, but the camera said {width}x{height}")]
    JpegSize { width: usize, height: usize, got_width: usize, got_height: usize },
    #[error("a frame of {width}x{height} pixels cannot be resized: {problem}")]
    Resize { width: usize, height: usize, problem: String },
}

impl Preprocessor {
    /// For inputs of `width` x `height` pixels, normalised by `mean` and `std` of red, green, blue in [0, 1].
    pub fn new(width: usize, height: usize, mean: [f32; 3], std: [f32; 3]) -> Preprocessor {
        Preprocessor {
            width,
            height,
            normal: Normalisation {
                scale: std.map(|s| 1.0 / (255.0 * s)),
                offset: [0, 1, 2].map(|c| -mean[c] / std[c]),
            },
            resizer: Resizer::new(),
            planes: [Vec::new(), Vec::new()],
            decoded: Vec::new(),
            compact: Vec::new(),
            row: RowScratch::default(),
        }
    }

    /// Resizes, converts and normalises `pixels` into `out`, which takes its size from the model.
    ///
    /// YCbCr is BT.601 limited range, or full range inside a JPEG.
    ///
    /// # Errors
    /// When a Motion-JPEG frame is broken, or of another size than the camera said.
    pub fn run(&mut self, pixels: &PixelBuf, out: &mut InputTensor) -> Result<(), PreprocessError> {
        self.run_part(pixels, View::WHOLE, out)
    }

    /// As [`Preprocessor::run`], of a part of the frame: what there is in `view.pixels()`.
    ///
    /// # Errors
    /// As [`Preprocessor::run`].
    pub fn run_part(&mut self, pixels: &PixelBuf, view: View, out: &mut InputTensor) -> Result<(), PreprocessError> {
        self.shape(out);
        let [left, top, width, height] = view.pixels(pixels.width, pixels.height);
        let part = Source {
            bytes: pixels.bytes(),
            stride: pixels.stride,
            rows: pixels.height,
            left,
            top,
            width,
            height,
            extent: (width as f64, height as f64),
        };
        match pixels.format {
            PixelFormat::Yuyv | PixelFormat::Uyvy => self.packed_422(part, pixels.format, out),
            PixelFormat::Nv12 => self.nv12(part, out),
            PixelFormat::Grey => self.grey(part, out),
            PixelFormat::Rgb3 => self.rgb(part, [0, 1, 2], out),
            PixelFormat::Bgr3 => self.rgb(part, [2, 1, 0], out),
            PixelFormat::Mjpg => {
                let mut decoded = std::mem::take(&mut self.decoded);
                let result = decode_jpeg(pixels, &mut decoded).and_then(|()| {
                    self.rgb(Source { bytes: &decoded, stride: 3 * pixels.width, ..part }, [0, 1, 2], out)
                });
                self.decoded = decoded;
                result
            }
        }
    }

    /// As [`Preprocessor::run`], of (height, width, 3) bytes of red, green and blue.
    ///
    /// # Errors
    /// When they cannot be resized.
    pub fn run_rgb(
        &mut self,
        rgb: &[u8],
        width: usize,
        height: usize,
        out: &mut InputTensor,
    ) -> Result<(), PreprocessError> {
        self.shape(out);
        let extent = (width as f64, height as f64);
        let whole = Source { bytes: rgb, stride: 3 * width, rows: height, left: 0, top: 0, width, height, extent };
        self.rgb(whole, [0, 1, 2], out)
    }

    /// Pixels of the model's input, width and height.
    pub fn size(&self) -> [usize; 2] {
        [self.width, self.height]
    }

    /// Makes frames ready at another size from now on.
    pub fn set_size(&mut self, width: usize, height: usize) {
        (self.width, self.height) = (width, height);
    }

    fn shape(&self, out: &mut InputTensor) {
        (out.width, out.height) = (self.width, self.height);
        out.data.resize(3 * self.width * self.height, 0.0);
    }

    fn same_size(&self, source: &Source) -> bool {
        (source.width, source.height) == (self.width, self.height)
    }

    /// Packed 4:2:2 is two pictures in the same bytes: pairs of luma and something, and fours with the chroma.
    fn packed_422(
        &mut self,
        source: Source,
        format: PixelFormat,
        out: &mut InputTensor,
    ) -> Result<(), PreprocessError> {
        let (width, height) = (self.width, self.height);
        if self.same_size(&source) {
            let plane = source.plane(2);
            convert_yuv(Yuv { luma: plane, chroma: plane, format }, self.normal, &mut self.row, out);
            return Ok(());
        }
        let half = width.div_ceil(2);
        let chroma = Source {
            left: source.left / 2,
            width: source.width.div_ceil(2),
            extent: (source.width as f64 / 2.0, source.height as f64),
            ..source
        };
        let [luma_out, chroma_out] = &mut self.planes;
        resize::<U8x2>(&mut self.resizer, source, (width, height), &mut self.compact, luma_out)?;
        resize::<U8x4>(&mut self.resizer, chroma, (half, height), &mut self.compact, chroma_out)?;
        let luma = Plane { bytes: luma_out, stride: 2 * width };
        let chroma = Plane { bytes: chroma_out, stride: 4 * half };
        convert_yuv(Yuv { luma, chroma, format }, self.normal, &mut self.row, out);
        Ok(())
    }

    fn nv12(&mut self, source: Source, out: &mut InputTensor) -> Result<(), PreprocessError> {
        let (width, height) = (self.width, self.height);
        let (luma_bytes, chroma_bytes) = source.bytes.split_at(source.stride * source.rows);
        let luma = Source { bytes: luma_bytes, ..source };
        let chroma = Source {
            bytes: chroma_bytes,
            stride: source.stride,
            rows: source.rows.div_ceil(2),
            left: source.left / 2,
            top: source.top / 2,
            width: source.width.div_ceil(2),
            height: source.height.div_ceil(2),
            extent: (source.width as f64 / 2.0, source.height as f64 / 2.0),
        };
        if self.same_size(&source) {
            let planes = Yuv { luma: luma.plane(1), chroma: chroma.plane(2), format: PixelFormat::Nv12 };
            convert_yuv(planes, self.normal, &mut self.row, out);
            return Ok(());
        }
        let (half_width, half_height) = (width.div_ceil(2), height.div_ceil(2));
        let [luma_out, chroma_out] = &mut self.planes;
        resize::<U8>(&mut self.resizer, luma, (width, height), &mut self.compact, luma_out)?;
        resize::<U8x2>(&mut self.resizer, chroma, (half_width, half_height), &mut self.compact, chroma_out)?;
        let luma = Plane { bytes: luma_out, stride: width };
        let chroma = Plane { bytes: chroma_out, stride: 2 * half_width };
        convert_yuv(Yuv { luma, chroma, format: PixelFormat::Nv12 }, self.normal, &mut self.row, out);
        Ok(())
    }

    fn grey(&mut self, source: Source, out: &mut InputTensor) -> Result<(), PreprocessError> {
        let plane = if self.same_size(&source) {
            source.plane(1)
        } else {
            let size = (self.width, self.height);
            resize::<U8>(&mut self.resizer, source, size, &mut self.compact, &mut self.planes[0])?;
            Plane { bytes: &self.planes[0], stride: self.width }
        };
        let area = self.width * self.height;
        for (channel, values) in out.data.chunks_exact_mut(area).enumerate() {
            let (scale, offset) = (self.normal.scale[channel], self.normal.offset[channel]);
            for (y, values) in values.chunks_exact_mut(self.width).enumerate() {
                for (value, grey) in values.iter_mut().zip(plane.row(y)) {
                    *value = f32::from(*grey) * scale + offset;
                }
            }
        }
        Ok(())
    }

    /// `order` says where red, green and blue stand in a pixel.
    fn rgb(&mut self, source: Source, order: [usize; 3], out: &mut InputTensor) -> Result<(), PreprocessError> {
        let plane = if self.same_size(&source) {
            source.plane(3)
        } else {
            let size = (self.width, self.height);
            resize::<U8x3>(&mut self.resizer, source, size, &mut self.compact, &mut self.planes[0])?;
            Plane { bytes: &self.planes[0], stride: 3 * self.width }
        };
        let Normalisation { scale, offset } = self.normal;
        let [at_red, at_green, at_blue] = order;
        for (y, [red, green, blue]) in rows_mut(out).enumerate() {
            let rgb = red.iter_mut().zip(green).zip(blue);
            for (((red, green), blue), pixel) in rgb.zip(plane.row(y).as_chunks::<3>().0) {
                *red = f32::from(pixel[at_red]) * scale[0] + offset[0];
                *green = f32::from(pixel[at_green]) * scale[1] + offset[1];
                *blue = f32::from(pixel[at_blue]) * scale[2] + offset[2];
            }
        }
        Ok(())
    }
}

/// A part of a plane of a frame, as the camera gave it.
#[derive(Clone, Copy)]
struct Source<'a> {
    /// The whole plane.
    bytes: &'a [u8],
    /// Bytes from row to row.
    stride: usize,
    /// Of the whole plane.
    rows: usize,
    /// Samples to the left of the part.
    left: usize,
    /// Rows above it.
    top: usize,
    /// Samples.
    width: usize,
    /// Samples.
    height: usize,
    /// What the frame covers of it, in samples: half a sample less than there are where a side is odd.
    extent: (f64, f64),
}

impl<'a> Source<'a> {
    /// The part as it is, of samples of so many bytes.
    fn plane(&self, sample: usize) -> Plane<'a> {
        Plane { bytes: &self.bytes[self.top * self.stride + self.left * sample..], stride: self.stride }
    }
}

/// A plane of the model's size.
#[derive(Clone, Copy)]
struct Plane<'a> {
    bytes: &'a [u8],
    stride: usize,
}

impl<'a> Plane<'a> {
    /// Row `y`, and whatever follows it.
    fn row(&self, y: usize) -> &'a [u8] {
        &self.bytes[y * self.stride..]
    }
}

/// Planes of the model's size, laid out as `format` says; for packed formats both are the same bytes, or resized
/// from the same bytes.
struct Yuv<'a> {
    luma: Plane<'a>,
    chroma: Plane<'a>,
    format: PixelFormat,
}

/// The rows of red, green and blue.
fn rows_mut(out: &mut InputTensor) -> impl Iterator<Item = [&mut [f32]; 3]> {
    let (red, rest) = out.data.split_at_mut(out.width * out.height);
    let (green, blue) = rest.split_at_mut(out.width * out.height);
    let rows = red.chunks_exact_mut(out.width).zip(green.chunks_exact_mut(out.width));
    rows.zip(blue.chunks_exact_mut(out.width)).map(|((red, green), blue)| [red, green, blue])
}

fn resize<P: PixelTrait>(
    resizer: &mut Resizer,
    source: Source,
    (width, height): (usize, usize),
    compact: &mut Vec<u8>,
    out: &mut Vec<u8>,
) -> Result<(), PreprocessError> {
    let failed = |problem: String| PreprocessError::Resize { width: source.width, height: source.height, problem };
    let pixel = size_of::<P>();
    // The library knows no strides, but it can look at a part of an image that is as wide as the stride.
    let (bytes, wide, rows, left, top) = if source.stride.is_multiple_of(pixel) {
        let bytes = &source.bytes[..source.stride * source.rows];
        (bytes, source.stride / pixel, source.rows, source.left, source.top)
    } else {
        compact.clear();
        for row in source.bytes.chunks_exact(source.stride).skip(source.top).take(source.height) {
            compact.extend_from_slice(&row[source.left * pixel..(source.left + source.width) * pixel]);
        }
        (compact.as_slice(), source.width, source.height, 0, 0)
    };
    let image = TypedImageRef::<P>::from_buffer(wide as u32, rows as u32, bytes);
    let image = image.map_err(|e| failed(e.to_string()))?;
    let [left, top, part_width, part_height] = [left, top, source.width, source.height].map(|v| v as u32);
    let part = TypedCroppedImage::from_ref(&image, left, top, part_width, part_height);
    let part = part.map_err(|e| failed(e.to_string()))?;
    out.resize(width * height * pixel, 0);
    let mut resized =
        TypedImage::<P>::from_buffer(width as u32, height as u32, out).map_err(|e| failed(e.to_string()))?;
    let options = ResizeOptions::new()
        .resize_alg(ResizeAlg::Convolution(FilterType::CatmullRom))
        .use_alpha(false)
        .crop(0.0, 0.0, source.extent.0, source.extent.1);
    resizer.resize_typed(&part, &mut resized, &options).map_err(|e| failed(e.to_string()))
}

/// Decodes into `out`: (height, width, 3).
fn decode_jpeg(pixels: &PixelBuf, out: &mut Vec<u8>) -> Result<(), PreprocessError> {
    let (width, height) = (pixels.width, pixels.height);
    let (got_width, got_height) = picture::decode_jpeg(pixels.bytes(), out)?;
    if (got_width, got_height) != (width, height) {
        return Err(PreprocessError::JpegSize { width, height, got_width, got_height });
    }
    Ok(())
}

/// BT.601, limited range: what one step of luma is worth, and one step of chroma to red, green (u, v) and blue.
const LUMA: f32 = 255.0 / 219.0;
const V_TO_RED: f32 = 1.402 * 255.0 / 224.0;
const U_TO_GREEN: f32 = -0.344_136 * 255.0 / 224.0;
const V_TO_GREEN: f32 = -0.714_136 * 255.0 / 224.0;
const U_TO_BLUE: f32 = 1.772 * 255.0 / 224.0;

/// Converts and normalises. Chroma has half the columns, and with NV12 half the rows too; a sample serves all
/// pixels that it covers.
fn convert_yuv(planes: Yuv, normal: Normalisation, scratch: &mut RowScratch, out: &mut InputTensor) {
    let width = out.width;
    let RowScratch { luma, u, v } = scratch;
    for row in [&mut *luma, u, v] {
        row.resize(width.next_multiple_of(2), 0.0);
    }
    let Normalisation { scale, offset } = normal;
    let high: [f32; 3] = std::array::from_fn(|c| 255.0 * scale[c] + offset[c]);
    let row_shift = usize::from(planes.format == PixelFormat::Nv12);
    for (y, [red, green, blue]) in rows_mut(out).enumerate() {
        let (luma_row, chroma_row) = (planes.luma.row(y), planes.chroma.row(y >> row_shift));
        match planes.format {
            PixelFormat::Yuyv => {
                gather::<2, 0>(luma_row, &mut luma[..width]);
                gather_twice::<4, 1>(chroma_row, u);
                gather_twice::<4, 3>(chroma_row, v);
            }
            PixelFormat::Uyvy => {
                gather::<2, 1>(luma_row, &mut luma[..width]);
                gather_twice::<4, 0>(chroma_row, u);
                gather_twice::<4, 2>(chroma_row, v);
            }
            _ => {
                gather::<1, 0>(luma_row, &mut luma[..width]);
                gather_twice::<2, 0>(chroma_row, u);
                gather_twice::<2, 1>(chroma_row, v);
            }
        }
        // Slices of one known length, so that the loop is compiled without bounds checks, four pixels at a time.
        let (luma, u, v) = (&luma[..width], &u[..width], &v[..width]);
        let (red, green, blue) = (&mut red[..width], &mut green[..width], &mut blue[..width]);
        for x in 0..width {
            let (y, u, v) = ((luma[x] - 16.0) * LUMA, u[x] - 128.0, v[x] - 128.0);
            red[x] = within((y + V_TO_RED * v) * scale[0] + offset[0], offset[0], high[0]);
            green[x] = within((y + U_TO_GREEN * u + V_TO_GREEN * v) * scale[1] + offset[1], offset[1], high[1]);
            blue[x] = within((y + U_TO_BLUE * u) * scale[2] + offset[2], offset[2], high[2]);
        }
    }
}

/// `clamp` of a number that is never NaN, in two instructions that vectorise.
#[inline(always)]
fn within(value: f32, low: f32, high: f32) -> f32 {
    let value = if value > low { value } else { low };
    if value < high { value } else { high }
}

/// Every `STEP`th byte from `AT` on.
#[inline(always)]
fn gather<const STEP: usize, const AT: usize>(row: &[u8], out: &mut [f32]) {
    for (value, bytes) in out.iter_mut().zip(row.as_chunks::<STEP>().0) {
        *value = f32::from(bytes[AT]);
    }
}

/// Every `STEP`th byte from `AT` on, each for two pixels.
#[inline(always)]
fn gather_twice<const STEP: usize, const AT: usize>(row: &[u8], out: &mut [f32]) {
    for (pair, bytes) in out.as_chunks_mut::<2>().0.iter_mut().zip(row.as_chunks::<STEP>().0) {
        *pair = [f32::from(bytes[AT]); 2];
    }
}

#[cfg(test)]
mod tests;
