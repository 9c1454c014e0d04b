//! Whatever a spool's file holds, reading it ends, in order, and without a panic.
#![no_main]

use cldpd::runtime::shim::spool::{Control, Parsed, SegmentHeader, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = SegmentHeader::decode(bytes);
    if let Ok(control) = Control::decode(bytes) {
        assert!(Control::decode(&control.encode()).is_ok());
    }
    let mut rest = bytes;
    while let Parsed::Frame(_, payload, length) = parse(rest) {
        assert!(payload.len() < length && length <= rest.len());
        rest = &rest[length..];
    }
});
