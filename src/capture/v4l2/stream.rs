//! Streaming from a device by memory-mapped buffers: what the kernel calls `REQBUFS`, `QBUF` and `DQBUF`.
//!
//! Our own rather than the `v4l` crate's, whose stream waits for ever by default, cannot go on after a timeout,
//! ignores damage that the driver reports, and panics when dropped. This is the one file here that is unsafe.

use std::ffi::{c_int, c_short, c_void};
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::time::Instant;

use v4l::Device;
use v4l::v4l_sys::{
    V4L2_BUF_FLAG_ERROR, V4L2_BUF_FLAG_TIMESTAMP_MASK, V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC,
    v4l2_buf_type_V4L2_BUF_TYPE_VIDEO_CAPTURE as VIDEO_CAPTURE, v4l2_buffer,
    v4l2_memory_V4L2_MEMORY_MMAP as MEMORY_MMAP, v4l2_requestbuffers,
};
use v4l::v4l2::vidioc;

/// Buffers that the driver fills in turn. With fewer a reader that is late for one frame loses frames; with more,
/// memory is all that is gained, since only the newest frame is ever used.
const BUFFERS: u32 = 4;

/// A device that streams. Dropping it stops the stream and frees the device for others.
pub struct MmapStream {
    // Before `fd`, since buffers of a file that is still mapped stay with it.
    buffers: Vec<Mapping>,
    fd: OwnedFd,
}

/// A buffer that the driver has filled. It must go back by [`MmapStream::requeue`].
#[derive(Clone, Copy, Debug)]
pub struct Filled {
    index: u32,
    /// Bytes that the driver wrote.
    pub bytes_used: usize,
    /// The driver's count of frames.
    pub sequence: u32,
    /// Nanoseconds on the monotonic clock, if the driver stamps by that clock.
    pub mono_ns: Option<u64>,
    /// The driver says that the contents are damaged.
    pub damaged: bool,
}

impl MmapStream {
    /// Maps buffers of `device`, whose format is set, and starts it.
    ///
    /// # Errors
    /// `EBUSY` when another program streams from the device, `ENODEV` when it is gone, and what else drivers say.
    pub fn start(device: &Device) -> io::Result<MmapStream> {
        // SAFETY: the device is open, and keeps its descriptor open for as long as it is borrowed here.
        let fd = unsafe { BorrowedFd::borrow_raw(device.handle().fd()) }.try_clone_to_owned()?;
        let mut stream = MmapStream { buffers: Vec::new(), fd };
        let count = stream.request(BUFFERS)?;
        if count == 0 {
            return Err(io::Error::other("the driver gives no buffers"));
        }
        for index in 0..count {
            let mapping = stream.map(index)?;
            stream.buffers.push(mapping);
            stream.queue(index)?;
        }
        stream.ioctl(vidioc::VIDIOC_STREAMON, &mut (VIDEO_CAPTURE as c_int))?;
        Ok(stream)
    }

    /// Waits until a buffer is filled; `None` when none was before `deadline`.
    ///
    /// # Errors
    /// `ENODEV` when the device is gone, `EIO` when it failed, and what else drivers say.
    pub fn dequeue(&self, deadline: Instant) -> io::Result<Option<Filled>> {
        loop {
            if let Some(filled) = self.dequeue_ready()? {
                return Ok(Some(filled));
            }
            match self.wait(deadline)? {
                0 => return Ok(None),
                events if events & libc::POLLIN != 0 => {}
                // An error condition alone: dequeuing tells which, or else this does.
                _ => {
                    let stopped = || io::Error::other("the driver stopped the stream");
                    return self.dequeue_ready()?.ok_or_else(stopped).map(Some);
                }
            }
        }
    }

    /// A filled buffer, if there is one at this moment.
    ///
    /// # Errors
    /// As those of [`MmapStream::dequeue`].
    pub fn dequeue_ready(&self) -> io::Result<Option<Filled>> {
        let mut buffer = blank(0);
        match self.ioctl(vidioc::VIDIOC_DQBUF, &mut buffer) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        }
        if buffer.index as usize >= self.buffers.len() {
            return Err(io::Error::other(format!("the driver filled buffer {}, which is not there", buffer.index)));
        }
        let monotonic = buffer.flags & V4L2_BUF_FLAG_TIMESTAMP_MASK == V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC;
        let seconds = u64::try_from(buffer.timestamp.tv_sec).ok().filter(|_| monotonic);
        let micros = u64::try_from(buffer.timestamp.tv_usec).unwrap_or(0);
        Ok(Some(Filled {
            index: buffer.index,
            bytes_used: buffer.bytesused as usize,
            sequence: buffer.sequence,
            mono_ns: seconds.and_then(|seconds| seconds.checked_mul(1_000_000_000)?.checked_add(micros * 1000)),
            damaged: buffer.flags & V4L2_BUF_FLAG_ERROR != 0,
        }))
    }

    /// The bytes that the driver wrote into a buffer.
    pub fn bytes(&self, filled: &Filled) -> &[u8] {
        let mapping = &self.buffers[filled.index as usize];
        // SAFETY: the mapping is `length` bytes long, readable, and stays until `self` is dropped. The driver
        // writes only into buffers that are queued: this one is not until `requeue`, which needs `self` alone.
        let whole = unsafe { std::slice::from_raw_parts(mapping.start.as_ptr().cast::<u8>(), mapping.length) };
        &whole[..filled.bytes_used.min(mapping.length)]
    }

    /// Gives a buffer back to the driver to fill again.
    ///
    /// # Errors
    /// As those of [`MmapStream::dequeue`].
    pub fn requeue(&mut self, filled: Filled) -> io::Result<()> {
        self.queue(filled.index)
    }

    /// Waits until there is something to dequeue or an error to be told of; returns the conditions that `poll` found,
    /// 0 when there were none before `deadline`.
    fn wait(&self, deadline: Instant) -> io::Result<c_short> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            // Rounded up, so that the last fraction of a millisecond is not spent in turning round here.
            let milliseconds = c_int::try_from(left.as_micros().div_ceil(1000)).unwrap_or(c_int::MAX);
            let mut poll = libc::pollfd { fd: self.fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
            // SAFETY: `poll` is one valid pollfd, as the count says.
            if unsafe { libc::poll(&raw mut poll, 1, milliseconds) } >= 0 {
                return Ok(poll.revents);
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
    }

    /// Asks the driver for so many buffers; returns how many there are. None at all frees them.
    fn request(&self, count: u32) -> io::Result<u32> {
        // SAFETY: a plain C struct of integers, of which zero is a valid value.
        let mut request: v4l2_requestbuffers = unsafe { mem::zeroed() };
        (request.count, request.type_, request.memory) = (count, VIDEO_CAPTURE, MEMORY_MMAP);
        self.ioctl(vidioc::VIDIOC_REQBUFS, &mut request)?;
        Ok(request.count)
    }

    fn map(&self, index: u32) -> io::Result<Mapping> {
        let mut buffer = blank(index);
        self.ioctl(vidioc::VIDIOC_QUERYBUF, &mut buffer)?;
        // SAFETY: the driver filled in the offset, as it does for buffers of this kind of memory.
        let offset = unsafe { buffer.m.offset };
        Mapping::new(&self.fd, buffer.length as usize, offset)
    }

    fn queue(&self, index: u32) -> io::Result<()> {
        self.ioctl(vidioc::VIDIOC_QBUF, &mut blank(index))
    }

    /// Calls the driver with `argument`, which must be of the type that `request` says.
    fn ioctl<A>(&self, request: vidioc::_IOC_TYPE, argument: &mut A) -> io::Result<()> {
        loop {
            // SAFETY: `argument` is valid, and every caller in this file passes the type that belongs to `request`.
            let result = unsafe { v4l::v4l2::ioctl(self.fd.as_raw_fd(), request, ptr::from_mut(argument).cast()) };
            match result {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }
}

impl Drop for MmapStream {
    fn drop(&mut self) {
        // All of it fails on a device that is gone, where there is nothing left to stop.
        let _ = self.ioctl(vidioc::VIDIOC_STREAMOFF, &mut (VIDEO_CAPTURE as c_int));
        self.buffers.clear();
        let _ = self.request(0);
    }
}

/// A buffer description that names buffer `index`.
fn blank(index: u32) -> v4l2_buffer {
    // SAFETY: a plain C struct of integers and pointers, of which zero is a valid value.
    let mut buffer: v4l2_buffer = unsafe { mem::zeroed() };
    (buffer.index, buffer.type_, buffer.memory) = (index, VIDEO_CAPTURE, MEMORY_MMAP);
    buffer
}

/// A driver's buffer, mapped to be read.
struct Mapping {
    start: NonNull<c_void>,
    length: usize,
}

// SAFETY: the memory belongs to no thread, and is only read.
unsafe impl Send for Mapping {}

impl Mapping {
    fn new(fd: &OwnedFd, length: usize, offset: u32) -> io::Result<Mapping> {
        let offset = libc::off_t::from(offset);
        // SAFETY: a new mapping, at an address of the kernel's choosing, touches no memory of ours.
        let start =
            unsafe { libc::mmap(ptr::null_mut(), length, libc::PROT_READ, libc::MAP_SHARED, fd.as_raw_fd(), offset) };
        match NonNull::new(start) {
            Some(start) if start.as_ptr() != libc::MAP_FAILED => Ok(Mapping { start, length }),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: `start` and `length` are those of a mapping that nothing refers to any more. A failure leaves
        // the memory mapped, which harms no one.
        unsafe { libc::munmap(self.start.as_ptr(), self.length) };
    }
}
