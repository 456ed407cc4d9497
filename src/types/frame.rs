//! One picture from one camera, still in the camera's own pixel format.

use std::fmt;
use std::sync::{Arc, Mutex};

/// When a frame was captured, on both clocks, in nanoseconds.
///
/// `mono_ns` is `CLOCK_MONOTONIC`, the clock of V4L2 and of ROS steady time: use it for intervals.
/// `real_ns` is nanoseconds since the Unix epoch, which may step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timestamp {
    pub mono_ns: u64,
    pub real_ns: u64,
}

/// Where and when a frame was captured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameMeta {
    /// The camera's name in the configuration.
    pub camera: Arc<str>,
    /// Counts every frame that the camera produced since the daemon started, those that were lost too.
    pub seq: u64,
    pub captured_at: Timestamp,
    /// Frames lost since the one before: by the driver, or because a newer one had come.
    pub dropped: u64,
    /// Pixels.
    pub width: usize,
    /// Pixels.
    pub height: usize,
}

/// A frame: where it came from, and its pixels.
#[derive(Clone, Debug)]
pub struct Frame {
    pub meta: FrameMeta,
    pub pixels: PixelBuf,
}

/// How the bytes of a [`PixelBuf`] are laid out. YCbCr is BT.601, limited range; Motion-JPEG is full range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PixelFormat {
    /// Packed 4:2:2, bytes Y0 U Y1 V.
    Yuyv,
    /// Packed 4:2:2, bytes U Y0 V Y1.
    Uyvy,
    /// A plane of Y, then a plane of U and V in turn at half width and half height, same stride.
    Nv12,
    /// 8-bit luminance, full range.
    Grey,
    /// 3 bytes a pixel: red, green, blue.
    Rgb3,
    /// 3 bytes a pixel: blue, green, red.
    Bgr3,
    /// One JPEG picture a frame.
    Mjpg,
}

impl PixelFormat {
    pub const ALL: [PixelFormat; 7] = [
        PixelFormat::Yuyv,
        PixelFormat::Uyvy,
        PixelFormat::Nv12,
        PixelFormat::Grey,
        PixelFormat::Rgb3,
        PixelFormat::Bgr3,
        PixelFormat::Mjpg,
    ];

    /// The V4L2 four-character code.
    pub fn fourcc(self) -> [u8; 4] {
        *match self {
            PixelFormat::Yuyv => b"YUYV",
            PixelFormat::Uyvy => b"UYVY",
            PixelFormat::Nv12 => b"NV12",
            PixelFormat::Grey => b"GREY",
            PixelFormat::Rgb3 => b"RGB3",
            PixelFormat::Bgr3 => b"BGR3",
            PixelFormat::Mjpg => b"MJPG",
        }
    }

    /// The format of a V4L2 four-character code, if it is one of ours.
    pub fn from_fourcc(code: [u8; 4]) -> Option<PixelFormat> {
        PixelFormat::ALL.into_iter().find(|format| format.fourcc() == code)
    }

    /// The least bytes in a row of the first plane; `None` where a frame's size is not known beforehand.
    pub fn min_stride(self, width: usize) -> Option<usize> {
        match self {
            PixelFormat::Yuyv | PixelFormat::Uyvy => Some(width.div_ceil(2) * 4),
            PixelFormat::Nv12 => Some(width.div_ceil(2) * 2),
            PixelFormat::Grey => Some(width),
            PixelFormat::Rgb3 | PixelFormat::Bgr3 => Some(width * 3),
            PixelFormat::Mjpg => None,
        }
    }

    /// The bytes that a frame of `height` rows of `stride` bytes holds; `None` for [`PixelFormat::Mjpg`].
    pub fn frame_bytes(self, stride: usize, height: usize) -> Option<usize> {
        match self {
            PixelFormat::Nv12 => Some(stride * height + stride * height.div_ceil(2)),
            PixelFormat::Mjpg => None,
            _ => Some(stride * height),
        }
    }
}

impl fmt::Display for PixelFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.fourcc()).expect("the codes are ASCII"))
    }
}

/// Pixels as the camera gave them. The bytes go back to their [`BufferPool`] when the frame is dropped.
#[derive(Clone)]
pub struct PixelBuf {
    pub format: PixelFormat,
    /// Pixels.
    pub width: usize,
    /// Pixels.
    pub height: usize,
    /// Bytes from one row of the first plane to the next; 0 for [`PixelFormat::Mjpg`].
    pub stride: usize,
    data: PooledBytes,
}

impl PixelBuf {
    /// Takes `data` as a frame of tightly packed rows, or as one JPEG picture.
    ///
    /// # Errors
    /// When `data` is shorter than the format, width and height need.
    pub fn packed(format: PixelFormat, width: usize, height: usize, data: Vec<u8>) -> Result<PixelBuf, ShortFrame> {
        let stride = format.min_stride(width).unwrap_or(0);
        PixelBuf::new(format, width, height, stride, PooledBytes::unpooled(data))
    }

    /// Takes `data` as a frame whose rows are `stride` bytes apart.
    ///
    /// # Errors
    /// When `stride` or `data` is shorter than the format, width and height need.
    pub fn new(
        format: PixelFormat,
        width: usize,
        height: usize,
        stride: usize,
        data: PooledBytes,
    ) -> Result<PixelBuf, ShortFrame> {
        let need = match (format.min_stride(width), format.frame_bytes(stride, height)) {
            (Some(least), Some(bytes)) => {
                if stride < least {
                    return Err(ShortFrame { format, width, height, need: least, got: stride, what: "row" });
                }
                bytes
            }
            _ => 1,
        };
        if data.as_slice().len() < need || width == 0 || height == 0 {
            return Err(ShortFrame { format, width, height, need, got: data.as_slice().len(), what: "frame" });
        }
        Ok(PixelBuf { format, width, height, stride, data })
    }

    pub fn bytes(&self) -> &[u8] {
        self.data.as_slice()
    }
}

impl fmt::Debug for PixelBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PixelBuf({} {}x{}, {} bytes)", self.format, self.width, self.height, self.bytes().len())
    }
}

/// A buffer that holds less than its format and size need.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a {width}x{height} {format} {what} needs {need} bytes, but there are {got}")]
pub struct ShortFrame {
    pub format: PixelFormat,
    pub width: usize,
    pub height: usize,
    pub need: usize,
    pub got: usize,
    pub what: &'static str,
}

/// Frame buffers that are used again, so that capture allocates nothing after its first frames.
#[derive(Clone, Default)]
pub struct BufferPool {
    free: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl BufferPool {
    /// More than this many idle buffers are given back to the allocator.
    const KEEP: usize = 8;

    /// An empty buffer, with the capacity that its last use left it.
    pub fn take(&self) -> PooledBytes {
        let bytes = self.lock().pop().unwrap_or_default();
        PooledBytes { bytes, home: Some(self.clone()) }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Vec<u8>>> {
        self.free.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Bytes on loan from a [`BufferPool`].
pub struct PooledBytes {
    bytes: Vec<u8>,
    home: Option<BufferPool>,
}

impl PooledBytes {
    /// Bytes of no pool, freed when dropped.
    pub fn unpooled(bytes: Vec<u8>) -> PooledBytes {
        PooledBytes { bytes, home: None }
    }

    pub fn as_slice(&self) -> &[u8] {
        &self.bytes
    }

    /// The vector itself, to fill.
    pub fn as_mut_vec(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }
}

impl Clone for PooledBytes {
    fn clone(&self) -> PooledBytes {
        PooledBytes::unpooled(self.bytes.clone())
    }
}

impl Drop for PooledBytes {
    fn drop(&mut self) {
        if let Some(home) = self.home.take() {
            let mut free = home.lock();
            if free.len() < BufferPool::KEEP {
                let mut bytes = std::mem::take(&mut self.bytes);
                bytes.clear();
                free.push(bytes);
            }
        }
    }
}

/// A picture made ready for a backbone: resized, normalised, planar RGB.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InputTensor {
    /// Pixels.
    pub width: usize,
    /// Pixels.
    pub height: usize,
    /// (3, height, width)
    pub data: Vec<f32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fourcc_names_every_format_once() {
        for format in PixelFormat::ALL {
            assert_eq!(PixelFormat::from_fourcc(format.fourcc()), Some(format));
        }
        assert_eq!(PixelFormat::from_fourcc(*b"GRAY"), None);
    }

    #[test]
    fn a_short_frame_is_refused_with_its_sizes() {
        let error = PixelBuf::packed(PixelFormat::Yuyv, 4, 2, vec![0; 15]).unwrap_err();
        assert_eq!(error.to_string(), "a 4x2 YUYV frame needs 16 bytes, but there are 15");
        let odd = PixelBuf::packed(PixelFormat::Nv12, 3, 3, vec![0; 4 * 3 + 4 * 2]);
        assert!(odd.is_ok(), "odd sizes round chroma up");
    }

    #[test]
    fn a_dropped_frame_gives_its_buffer_back() {
        let pool = BufferPool::default();
        let mut bytes = pool.take();
        bytes.as_mut_vec().resize(1000, 7);
        let address = bytes.as_slice().as_ptr();
        drop(PixelBuf::new(PixelFormat::Grey, 10, 100, 10, bytes).unwrap());
        let mut again = pool.take();
        assert!(again.as_slice().is_empty());
        again.as_mut_vec().resize(1000, 0);
        assert_eq!(again.as_slice().as_ptr(), address);
    }
}
