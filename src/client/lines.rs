//! Lines out of a body that arrives in pieces.
//!
//! Whatever way the bytes are cut, the same lines come out; a line longer than
//! the bound is an error, not memory.

use hyper::body::Bytes;

/// Longest line that is taken: a prompt may be large, and stands whole in one event.
pub(super) const LINE_MAX: usize = 256 * 1024 * 1024;

/// A line was longer than the bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooLong;

/// Cuts bytes into lines.
#[derive(Debug)]
pub(super) struct LineDecoder {
    max: usize,
    /// The line that is not complete yet.
    open: Vec<u8>,
    /// Bytes that were not looked at.
    rest: Bytes,
}

impl LineDecoder {
    /// Takes lines of at most `max` bytes.
    pub(super) const fn new(max: usize) -> Self {
        Self {
            max,
            open: Vec::new(),
            rest: Bytes::new(),
        }
    }

    /// Takes further bytes. All lines of those before must have been taken out.
    pub(super) fn push(&mut self, bytes: Bytes) {
        debug_assert!(self.rest.is_empty(), "lines were left in the decoder");
        self.rest = bytes;
    }

    /// The next complete line, without its newline.
    pub(super) fn next_line(&mut self) -> Result<Option<Bytes>, TooLong> {
        let end = self.rest.iter().position(|b| *b == b'\n');
        let length = self.open.len() + end.unwrap_or(self.rest.len());
        if length > self.max {
            return Err(TooLong);
        }
        let Some(end) = end else {
            self.open.extend_from_slice(&self.rest);
            self.rest = Bytes::new();
            return Ok(None);
        };
        let tail = self.rest.split_to(end + 1).slice(..end);
        if self.open.is_empty() {
            return Ok(Some(tail));
        }
        let mut line = std::mem::take(&mut self.open);
        line.extend_from_slice(&tail);
        Ok(Some(line.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode(max: usize, chunks: &[Vec<u8>]) -> Result<Vec<Vec<u8>>, TooLong> {
        let mut decoder = LineDecoder::new(max);
        let mut lines = Vec::new();
        for chunk in chunks {
            decoder.push(Bytes::from(chunk.clone()));
            while let Some(line) = decoder.next_line()? {
                lines.push(line.to_vec());
            }
        }
        Ok(lines)
    }

    proptest! {
        #[test]
        fn lines_do_not_depend_on_how_the_bytes_are_cut(
            lines in proptest::collection::vec(proptest::collection::vec(1u8..=9, 0..30), 0..20),
            cuts in proptest::collection::vec(1usize..17, 1..60),
        ) {
            let mut whole = Vec::new();
            for line in &lines {
                whole.extend(line.iter().map(|b| b'a' + b));
                whole.push(b'\n');
            }
            let mut chunks = Vec::new();
            let mut rest = whole.as_slice();
            for cut in cuts.iter().cycle() {
                if rest.is_empty() { break; }
                let (head, tail) = rest.split_at((*cut).min(rest.len()));
                chunks.push(head.to_vec());
                rest = tail;
            }
            let expected: Vec<Vec<u8>> =
                lines.iter().map(|l| l.iter().map(|b| b'a' + b).collect()).collect();
            prop_assert_eq!(decode(64, &chunks), Ok(expected));
        }
    }

    #[test]
    fn a_line_over_the_bound_is_refused_however_it_comes() {
        assert_eq!(decode(3, &[b"abcd\n".to_vec()]), Err(TooLong));
        assert_eq!(decode(3, &[b"ab".to_vec(), b"cd".to_vec()]), Err(TooLong));
        assert_eq!(decode(3, &[b"abc\n".to_vec()]), Ok(vec![b"abc".to_vec()]));
    }
}
