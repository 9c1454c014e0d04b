//! Whatever bytes a block or a stream of them consists of, reading ends with
//! events or an error.

#![no_main]

use cldpd::block::{Block, Frame, Frames, Header};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut frames = Frames::default();
    for chunk in bytes.chunks(7) {
        frames.push(chunk);
        while let Ok(Some(frame)) = frames.next_frame() {
            if let Frame::Block(header, block) = frame {
                assert_eq!(header.size(), block.len());
            }
        }
    }
    let header = Header::parse(bytes);
    let Ok(block) = Block::decode(bytes) else {
        return;
    };
    assert_eq!(header.as_ref(), Ok(block.header()));
    for event in block.events().flatten() {
        let _ = event.to_event();
    }
});
