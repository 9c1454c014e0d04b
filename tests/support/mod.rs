//! What the tests stand on: homes of their own, the real binary, pods for
//! three runtimes, and waiting without sleeping.

pub mod dice;
pub mod engine;
pub mod env;
pub mod events;
pub mod gate;
pub mod http;
pub mod own_engine;
pub mod podman;
pub mod pods;
pub mod process;
pub mod procfs;
pub mod registry;

pub use dice::Dice;
pub use env::TestEnv;
pub use podman::Podman;

use std::time::Duration;

/// How long any single wait may take before the test fails. No test is as slow
/// as that by design; a machine with two cores and eight builds may be. Whoever
/// works on the tests themselves builds with `CLDPD_TEST_PATIENCE` set, and
/// learns sooner what hangs.
pub const WATCHDOG: Duration = Duration::from_secs(match option_env!("CLDPD_TEST_PATIENCE") {
    None => 180,
    Some(_) => 25,
});

/// The scripted agent, built for this package.
pub fn scripted_agent() -> &'static str {
    env!("CLDPD_SCRIPTED_AGENT")
}

/// FNV-1a with 64 bits: how the scripted agent says what it was told.
pub fn fnv1a64(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// What `[[lines N]]` prints.
pub fn numbered(count: usize) -> String {
    (1..=count).map(|n| format!("line {n:07}\n")).collect()
}

/// What `[[tick N MS]]` prints.
pub fn ticks(count: usize) -> String {
    (1..=count).map(|n| format!("tick {n}\n")).collect()
}
