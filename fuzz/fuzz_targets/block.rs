//! Whatever bytes a block consists of, reading it ends with events or an error.

#![no_main]

use cldpd::block::{Block, Header};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let header = Header::parse(bytes);
    let Ok(block) = Block::decode(bytes) else {
        return;
    };
    assert_eq!(header.as_ref(), Ok(block.header()));
    for event in block.events().flatten() {
        let _ = event.to_event();
    }
});
