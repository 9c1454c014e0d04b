//! Whatever an agent writes, each agent's reader reads on, and what it makes of it
//! can be recorded.
#![no_main]

use cldpd::agent::{Before, agent};
use cldpd::model::{Account, AgentEvent, AgentKind};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for kind in AgentKind::ALL {
        let Some(mut reader) = agent(kind).reader(Before::default()) else {
            continue;
        };
        let mut events = Vec::new();
        for line in bytes.split(|byte| *byte == b'\n') {
            reader.read(line, &mut events);
            let _ = agent(kind).pretty(line);
        }
        reader.finish(&mut events);
        let mut account = Account::default();
        for event in events {
            account.take(&event);
            let json = serde_json::to_vec(&event).expect("every event has JSON");
            let read: AgentEvent = serde_json::from_slice(&json).expect("and is read again");
            assert_eq!(read, event);
        }
        assert!(account.total().covers(&account.since_result()));
    }
});
