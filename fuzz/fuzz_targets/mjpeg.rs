//! Any bytes as a stream of JPEGs, coming in pieces: which pictures are found does not depend on how it is cut.
#![no_main]

use std::ops::Range;

use tagalong::capture::pipe::jpeg::Splitter;

/// Every picture of a stream that comes in pieces of `piece` bytes, by its place.
fn pictures(stream: &[u8], piece: usize) -> Vec<(Range<usize>, [usize; 2])> {
    let (mut splitter, mut found, mut gone) = (Splitter::default(), Vec::new(), 0);
    let mut held = Vec::new();
    for bytes in stream.chunks(piece) {
        held.extend_from_slice(bytes);
        while let Some(picture) = splitter.find(&held) {
            found.push((gone + picture.bytes.start..gone + picture.bytes.end, picture.size));
            gone += picture.bytes.end;
            held.drain(..picture.bytes.end);
            splitter.restart();
        }
        let useless = splitter.useless();
        held.drain(..useless);
        splitter.taken_away(useless);
        gone += useless;
    }
    found
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((first, stream)) = bytes.split_first() else { return };
    let whole = pictures(stream, stream.len().max(1));
    assert_eq!(pictures(stream, usize::from(*first).max(1)), whole);
    assert!(whole.iter().all(|(bytes, _)| stream[bytes.clone()].starts_with(&[0xff, 0xd8])));
});
