//! Whatever is said over the control socket, it is decoded or refused; and what
//! is decoded says the same when it is encoded again.
#![no_main]

use cldpd::runtime::shim::wire::{Answer, Command, Request, frame_length};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = frame_length(bytes);
    if let Ok(request) = Request::decode(bytes) {
        assert!(Request::decode(&request.encode()).is_ok_and(|again| again == request));
    }
    if let Ok(answer) = Answer::decode(bytes) {
        assert!(Answer::decode(&answer.encode()).is_ok_and(|again| again == answer));
    }
    if let Ok(command) = Command::decode(bytes) {
        assert!(Command::decode(&command.encode()).is_ok_and(|again| again == command));
    }
});
