//! Bytes to lines, with a bound on what one line may hold in memory.

/// A line that was longer than the limit. Its rest is discarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

/// Collects bytes and gives them back line by line.
#[derive(Debug)]
pub struct LineReader {
    /// Bytes of the longest line, its newline not counted.
    limit: usize,
    buffer: Vec<u8>,
    /// Where the current line begins in `buffer`.
    start: usize,
    /// Up to where `buffer` was searched for a newline.
    scanned: usize,
    /// The current line was too long, and is read only to find its end.
    discarding: bool,
}

impl LineReader {
    pub fn new(limit: usize) -> LineReader {
        LineReader { limit, buffer: Vec::new(), start: 0, scanned: 0, discarding: false }
    }

    /// Bytes of the longest line.
    pub fn limit(&self) -> usize {
        self.limit
    }

    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.start);
        self.scanned -= self.start;
        self.start = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// Whether [`LineReader::next_line`] has bytes to look at.
    pub fn has_more(&self) -> bool {
        self.scanned < self.buffer.len()
    }

    /// The next whole line without its newline; once for each line that is too long, [`TooLong`].
    pub fn next_line(&mut self) -> Option<Result<Vec<u8>, TooLong>> {
        while let Some(length) = self.buffer[self.scanned..].iter().position(|byte| *byte == b'\n') {
            let (start, end) = (self.start, self.scanned + length);
            self.start = end + 1;
            self.scanned = self.start;
            if std::mem::take(&mut self.discarding) {
                continue;
            }
            return Some(if end - start > self.limit { Err(TooLong) } else { Ok(self.buffer[start..end].to_vec()) });
        }
        self.scanned = self.buffer.len();
        let too_long = !self.discarding && self.scanned - self.start > self.limit;
        self.discarding |= too_long;
        if self.discarding || self.start == self.buffer.len() {
            // A client that once sent a long line does not keep the memory for it.
            self.buffer = Vec::new();
            (self.start, self.scanned) = (0, 0);
        }
        too_long.then_some(Err(TooLong))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lines_of(reader: &mut LineReader) -> Vec<Result<Vec<u8>, TooLong>> {
        std::iter::from_fn(|| reader.next_line()).collect()
    }

    #[test]
    fn the_limit_counts_the_line_without_its_newline() {
        let mut reader = LineReader::new(4);
        reader.push(b"abcd\nabcde\nab");
        assert_eq!(lines_of(&mut reader), [Ok(b"abcd".to_vec()), Err(TooLong)]);
        assert!(!reader.has_more());
        reader.push(b"cd\n\n");
        assert_eq!(lines_of(&mut reader), [Ok(b"abcd".to_vec()), Ok(b"".to_vec())]);
    }

    #[test]
    fn a_line_without_end_is_told_once_and_takes_no_memory() {
        let mut reader = LineReader::new(1000);
        let mut told = Vec::new();
        for _ in 0..10_000 {
            reader.push(&[b'x'; 1000]);
            told.extend(lines_of(&mut reader));
            assert!(reader.buffer.capacity() <= 4000, "{}", reader.buffer.capacity());
        }
        reader.push(b"\nnext\n");
        told.extend(lines_of(&mut reader));
        assert_eq!(told, [Err(TooLong), Ok(b"next".to_vec())]);
    }

    proptest! {
        /// However the bytes are cut, the lines are those of `split`.
        #[test]
        fn cuts_make_no_difference(text in "[a-c\n]{0,60}", cuts in prop::collection::vec(1usize..20, 1..60)) {
            let mut reader = LineReader::new(5);
            let (mut read, mut rest) = (Vec::new(), text.as_bytes());
            for cut in cuts.iter().cycle() {
                let (now, later) = rest.split_at((*cut).min(rest.len()));
                reader.push(now);
                read.extend(lines_of(&mut reader));
                rest = later;
                if rest.is_empty() { break; }
            }
            let mut expected: Vec<_> = text.split('\n')
                .map(|line| if line.len() > 5 { Err(TooLong) } else { Ok(line.as_bytes().to_vec()) })
                .collect();
            if expected.last().is_some_and(|last| last.is_ok()) { expected.pop(); }
            prop_assert_eq!(read, expected);
        }
    }
}
