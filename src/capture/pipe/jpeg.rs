//! Where the pictures in a stream of JPEGs begin and end.

use std::ops::Range;

/// No picture of a camera is larger; what seems so is not one.
const MAX_BYTES: usize = 64 << 20;

/// Finds pictures in bytes that come piece by piece. What stands between them, as a server's headers do, is passed over.
#[derive(Debug, Default)]
pub struct Splitter {
    /// Where the picture begins, once that is known.
    start: Option<usize>,
    /// All before this was looked at.
    at: usize,
    /// Whether what follows is a scan's entropy-coded data and no marker segment.
    in_scan: bool,
    /// Width and height in pixels, once they are known.
    size: Option<[usize; 2]>,
}

/// A whole picture among the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    pub bytes: Range<usize>,
    /// Pixels, width and height.
    pub size: [usize; 2],
}

/// What looking at one marker came to.
enum Step {
    On,
    Whole(Picture),
    More,
    /// It was no picture.
    Garbage,
}

impl Splitter {
    /// The first picture in `bytes`, which must be those of the call before and some more; `None` where more are needed.
    /// After a picture call [`Splitter::restart`].
    pub fn find(&mut self, bytes: &[u8]) -> Option<Picture> {
        loop {
            let start = self.start.or_else(|| self.find_start(bytes))?;
            self.start = Some(start);
            let step = if bytes.len() - start > MAX_BYTES { Step::Garbage } else { self.step(bytes, start) };
            match step {
                Step::On => {}
                Step::Whole(picture) => return Some(picture),
                Step::More => return None,
                Step::Garbage => *self = Splitter { at: start + 1, ..Splitter::default() },
            }
        }
    }

    /// Begins anew with what follows: bytes up to the end of the last picture were taken away.
    pub fn restart(&mut self) {
        *self = Splitter::default();
    }

    /// Whether a picture has begun, all of which has not come.
    pub fn has_begun(&self) -> bool {
        self.start.is_some()
    }

    /// How many bytes at the beginning belong to no picture and may be taken away.
    pub fn useless(&self) -> usize {
        self.start.unwrap_or(self.at)
    }

    /// Bytes at the beginning that were useless were taken away.
    pub fn taken_away(&mut self, count: usize) {
        self.at -= count;
        self.start = self.start.map(|start| start - count);
    }

    /// The start of an image, and the marker that follows it.
    fn find_start(&mut self, bytes: &[u8]) -> Option<usize> {
        let found = bytes[self.at..].windows(3).position(|three| three == [0xff, 0xd8, 0xff]);
        let start = found.map(|offset| self.at + offset);
        self.at = start.map_or_else(|| self.at.max(bytes.len().saturating_sub(2)), |start| start + 2);
        (self.in_scan, self.size) = (false, None);
        start
    }

    fn step(&mut self, bytes: &[u8], start: usize) -> Step {
        if self.in_scan {
            // Within a scan 0xff stands before 0 where it is data, and before restart markers.
            let is_marker = |two: &[u8]| two[0] == 0xff && !matches!(two[1], 0 | 0xd0..=0xd7 | 0xff);
            let Some(offset) = bytes[self.at..].windows(2).position(is_marker) else {
                self.at = self.at.max(bytes.len().saturating_sub(1));
                return Step::More;
            };
            (self.at, self.in_scan) = (self.at + offset, false);
        }
        let Some(&[first, marker]) = bytes.get(self.at..self.at + 2) else { return Step::More };
        if first != 0xff {
            return Step::Garbage;
        }
        match marker {
            0xff => self.at += 1,
            0x01 | 0xd0..=0xd7 => self.at += 2,
            0xd9 => {
                let bytes = start..self.at + 2;
                return self.size.map_or(Step::Garbage, |size| Step::Whole(Picture { bytes, size }));
            }
            0x00 | 0xd8 => return Step::Garbage,
            _ => {
                let Some(&[high, low]) = bytes.get(self.at + 2..self.at + 4) else { return Step::More };
                let length = usize::from(u16::from_be_bytes([high, low]));
                let Some(segment) = bytes.get(self.at + 4..self.at + 2 + length.max(2)) else { return Step::More };
                let is_frame = matches!(marker, 0xc0..=0xcf) && !matches!(marker, 0xc4 | 0xc8 | 0xcc);
                match segment {
                    _ if length < 2 => return Step::Garbage,
                    [_, h1, h0, w1, w0, ..] if is_frame => {
                        self.size = Some([[*w1, *w0], [*h1, *h0]].map(|side| u16::from_be_bytes(side).into()));
                    }
                    _ if is_frame => return Step::Garbage,
                    _ => {}
                }
                self.at += 2 + length;
                self.in_scan = marker == 0xda;
            }
        }
        Step::On
    }
}

#[cfg(test)]
mod tests {
    use jpeg_encoder::{ColorType, Encoder};
    use proptest::prelude::*;

    use super::*;

    fn picture(width: u16, height: u16, progressive: bool, seed: u8) -> Vec<u8> {
        let pixels: Vec<u8> =
            (0..usize::from(width) * usize::from(height) * 3).map(|i| (i * 37 % 251) as u8 ^ seed).collect();
        let mut jpeg = Vec::new();
        let mut encoder = Encoder::new(&mut jpeg, 90);
        encoder.set_progressive(progressive);
        encoder.set_restart_interval(3);
        encoder.encode(&pixels, width, height, ColorType::Rgb).unwrap();
        jpeg
    }

    /// All pictures of a stream that comes in pieces, and the sizes that are told of them. No more than `most` bytes are kept.
    fn split(stream: &[u8], piece: usize, most: usize) -> Vec<(Vec<u8>, [usize; 2])> {
        let (mut splitter, mut pending, mut found) = (Splitter::default(), Vec::new(), Vec::new());
        for bytes in stream.chunks(piece) {
            pending.extend_from_slice(bytes);
            while let Some(picture) = splitter.find(&pending) {
                found.push((pending[picture.bytes.clone()].to_vec(), picture.size));
                pending.drain(..picture.bytes.end);
                splitter.restart();
            }
            let useless = splitter.useless();
            pending.drain(..useless);
            splitter.taken_away(useless);
            assert!(pending.len() <= most, "{} bytes are kept", pending.len());
        }
        found
    }

    proptest! {
        #[test]
        fn pictures_are_found_whatever_the_pieces_and_whatever_stands_between(
            sizes in prop::collection::vec((1u16..40, 1u16..40, any::<bool>(), any::<u8>()), 1..5),
            between in prop::collection::vec(0u8..0xff, 0..50),
            piece in 1usize..400,
        ) {
            let pictures: Vec<_> = sizes.iter().map(|(w, h, many, seed)| picture(*w, *h, *many, *seed)).collect();
            let longest = pictures.iter().map(Vec::len).max().unwrap();
            let mut stream = Vec::new();
            for jpeg in &pictures {
                stream.extend_from_slice(&between);
                stream.extend_from_slice(jpeg);
            }
            let found = split(&stream, piece, longest);
            let expected: Vec<_> = pictures.into_iter().zip(&sizes)
                .map(|(jpeg, (w, h, ..))| (jpeg, [usize::from(*w), usize::from(*h)])).collect();
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn whatever_comes_is_taken(
            bytes in prop::collection::vec(prop::sample::select(vec![0xffu8, 0xd8, 0xd9, 0xda, 0xc0, 0, 1, 2]), 0..300)
        ) {
            split(&bytes, 7, bytes.len());
        }
    }

    #[test]
    fn a_picture_within_a_picture_is_part_of_it_and_what_is_cut_off_is_passed_over() {
        let (inner, outer) = (picture(8, 8, false, 1), picture(16, 16, false, 2));
        // As a thumbnail in a segment of its own.
        let mut with_thumbnail = outer[..2].to_vec();
        with_thumbnail.extend([0xff, 0xe1]);
        with_thumbnail.extend((inner.len() as u16 + 2).to_be_bytes());
        with_thumbnail.extend(&inner);
        with_thumbnail.extend(&outer[2..]);
        assert_eq!(split(&with_thumbnail, 100, 1 << 16), [(with_thumbnail.clone(), [16, 16])]);
        // A program that died in the middle of a picture, and its successor.
        let cut = [&outer[..outer.len() / 2], &inner[..], &outer[..]].concat();
        assert_eq!(split(&cut, 64, 1 << 16).last().unwrap(), &(outer.clone(), [16, 16]));
        // Pictures without an end are not kept for ever.
        let endless = outer[..outer.len() - 2].repeat(50);
        assert_eq!(split(&endless, 64, 2 * outer.len()), []);
    }
}
