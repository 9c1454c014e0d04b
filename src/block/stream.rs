//! Blocks on their way to a client: the body of `GET /v1/sessions/{session}/blocks`.
//!
//! Blocks stand in it as they lie in the journal, one after the other; each says
//! its length in its header. Between them stand controls:
//!
//! | at | size | what |
//! |---|---|---|
//! | 0 | 4 | magic: `cldc` |
//! | 4 | 4 | length of what follows, at most 1 MiB, big-endian |
//! | 8 | | JSON |
//!
//! | JSON | where | means |
//! |---|---|---|
//! | `{"session": ULID, "after": N, "last": M}` | first | only this session's events after number N were asked for, and none after M; no `last` where what comes is followed |
//! | `{"end": true}` | last | the proper end |
//! | `{"error": …}` | last | why it ends before |
//!
//! The first block may begin with events that were not asked for, and, as small
//! blocks are merged meanwhile, every other one too with events that came before;
//! the last one may end with some that were not asked for. None is left out. Nothing but the headers was looked at by who sends them:
//! checksums are for the receiver to check.

use super::{BlockError, HEADER_LEN, Header};

/// The type of such a body.
pub const CONTENT_TYPE: &str = "application/vnd.cldpd.blocks";

const MAGIC: [u8; 4] = *b"cldc";
const HEAD_LEN: usize = 8;
/// Longest JSON of a control.
const CONTROL_MAX: usize = 1 << 20;

/// A control with this JSON.
#[must_use]
pub fn control(json: &serde_json::Value) -> Vec<u8> {
    let json = json.to_string();
    let mut out = Vec::with_capacity(HEAD_LEN + json.len());
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&(json.len() as u32).to_be_bytes());
    out.extend_from_slice(json.as_bytes());
    out
}

/// What stands in such a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// The JSON of a control.
    Control(Vec<u8>),
    /// A block as it is stored, its header found in order.
    Block(Header, Vec<u8>),
}

/// Takes such a body apart, however it is cut. It holds what one block or
/// control has, and what was pushed beyond, no more.
#[derive(Debug, Default)]
pub struct Frames {
    bytes: Vec<u8>,
    /// So many of them were given out.
    at: usize,
}

impl Frames {
    /// Takes further bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.at);
        self.at = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// What comes next; nothing when bytes are missing for it.
    ///
    /// # Errors
    /// When neither a block nor a control can begin so.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, BlockError> {
        let bytes = &self.bytes[self.at..];
        if let Some(rest) = bytes.strip_prefix(&MAGIC) {
            let Some((len, rest)) = rest.split_first_chunk() else {
                return Ok(None);
            };
            let len = u32::from_be_bytes(*len) as usize;
            if len > CONTROL_MAX {
                return Err(BlockError::Length);
            }
            let Some(json) = rest.get(..len) else {
                return Ok(None);
            };
            let json = json.to_vec();
            self.at += HEAD_LEN + len;
            return Ok(Some(Frame::Control(json)));
        }
        // The shortest of what may stand here: a wrong beginning is seen at once.
        if bytes.len() < HEADER_LEN {
            let known = bytes.len().min(MAGIC.len());
            let fits = |magic: [u8; 4]| magic.starts_with(&bytes[..known]);
            return match fits(MAGIC) || fits(super::MAGIC) {
                true => Ok(None),
                false => Err(BlockError::Magic),
            };
        }
        let header = Header::parse(bytes)?;
        let Some(block) = bytes.get(..header.size()) else {
            return Ok(None);
        };
        let block = block.to_vec();
        self.at += header.size();
        Ok(Some(Frame::Block(header, block)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Encoder, body, event_ref};
    use super::*;
    use crate::model::{Event, EventKind, Output, Stream, Timestamp};
    use proptest::prelude::*;

    fn blocks(lines: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let mut encoder = Encoder::new();
        let mut all = Vec::new();
        for (data, seq) in lines.iter().zip(1..) {
            let kind = EventKind::Output(Output {
                stream: Stream::Stdout,
                data: data.clone(),
                continued: false,
            });
            let event = Event {
                seq,
                run: 0,
                time: Timestamp(7),
                kind,
            };
            let json = body(&event.kind).unwrap();
            encoder.push(event_ref(&event, &json));
            all.extend(encoder.finish().into_iter().map(|block| block.bytes));
        }
        all
    }

    fn all(chunks: &[&[u8]]) -> Result<Vec<Frame>, BlockError> {
        let mut frames = Frames::default();
        let mut found = Vec::new();
        for chunk in chunks {
            frames.push(chunk);
            while let Some(frame) = frames.next_frame()? {
                found.push(frame);
            }
        }
        Ok(found)
    }

    proptest! {
        #[test]
        fn what_is_found_does_not_depend_on_how_it_is_cut(
            lines in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..9),
            cut in 1usize..200,
        ) {
            let begin = serde_json::json!({"after": 3});
            let mut bytes = control(&begin);
            let blocks = blocks(&lines);
            blocks.iter().for_each(|block| bytes.extend_from_slice(block));
            bytes.extend(control(&serde_json::json!({"end": true})));
            let chunks: Vec<&[u8]> = bytes.chunks(cut).collect();
            let found = all(&chunks).unwrap();
            prop_assert_eq!(found.len(), blocks.len() + 2);
            prop_assert_eq!(&found[0], &Frame::Control(begin.to_string().into_bytes()));
            for (frame, block) in found[1..].iter().zip(&blocks) {
                prop_assert!(matches!(frame, Frame::Block(_, bytes) if bytes == block));
            }
        }

        #[test]
        fn arbitrary_bytes_do_no_harm(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..200),
            magic in prop_oneof![Just(None), Just(Some(MAGIC)), Just(Some(super::super::MAGIC))],
        ) {
            if let Some(magic) = magic {
                bytes.splice(..magic.len().min(bytes.len()), magic);
            }
            let mut frames = Frames::default();
            frames.push(&bytes);
            while let Ok(Some(_)) = frames.next_frame() {}
            prop_assert!(frames.bytes.capacity() <= 2 * bytes.len().max(8));
        }
    }

    #[test]
    fn a_control_of_any_length_is_not_waited_for() {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&u32::MAX.to_be_bytes());
        assert_eq!(all(&[&bytes]), Err(BlockError::Length));
        assert_eq!(all(&[b"{\"end\""]), Err(BlockError::Magic));
        assert_eq!(all(&[b"cl"]), Ok(vec![]));
    }
}
