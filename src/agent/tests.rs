//! What the tests of all agents need.

mod recordings;

use super::{Agent, Before, Invocation, Reader};
use crate::model::spec::PodSpec;
use crate::model::{AgentEvent, AgentKind, PodName, RuntimeName, Spec, Usage};
use std::path::PathBuf;

/// A session of that agent, of which nothing else is said.
pub(super) fn spec(kind: AgentKind) -> Spec {
    let pod = PodSpec::bare(PodName::new("p").unwrap(), PathBuf::from("/p"));
    Spec::bare(pod, RuntimeName::Docker, kind)
}

/// The words of a run's command.
pub(super) fn words(
    agent: &dyn Agent,
    spec: &Spec,
    resume: Option<&str>,
    session: Option<&str>,
) -> String {
    let made = agent.command(&Invocation {
        steer: false,
        spec,
        image_command: &[],
        root: false,
        resume,
        fork: false,
        session,
        bounds: spec.bounds,
    });
    made.argv.join(" ")
}

/// What a run's lines say.
pub(super) fn said(agent: &dyn Agent, before: Before, lines: &[&str]) -> Vec<AgentEvent> {
    let mut reader = agent.reader(before).unwrap();
    let mut events = Vec::new();
    for line in lines {
        reader.read(line.as_bytes(), &mut events);
    }
    reader.finish(&mut events);
    events
}

/// The names of events, as in JSON.
pub(super) fn kinds(events: &[AgentEvent]) -> Vec<String> {
    let name = |event| {
        serde_json::to_value(event).unwrap()["type"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    events.iter().map(name).collect()
}

/// What the events say was used, added up as everybody adds it up.
pub(super) fn used(events: &[AgentEvent]) -> Usage {
    let add = |sum: Usage, event: &AgentEvent| match event {
        AgentEvent::Usage { usage, .. } => sum.plus(usage),
        _ => sum,
    };
    events.iter().fold(Usage::default(), add)
}

/// Reads lines that are made of `line` by damage, and anything at all.
pub(super) fn feed(
    reader: &mut dyn Reader,
    line: &[u8],
    at: usize,
    with: &[u8],
) -> Vec<AgentEvent> {
    let mut events = Vec::new();
    let at = at.min(line.len());
    reader.read(line, &mut events);
    reader.read(&[&line[..at], with, &line[at..]].concat(), &mut events);
    reader.read(&line[..at], &mut events);
    reader.read(with, &mut events);
    reader.finish(&mut events);
    events
}

/// Tests that every agent has to pass, on its own lines.
macro_rules! reading_never_fails {
    ($agent:expr, $lines:expr) => {
        proptest::proptest! {
            #[test]
            fn any_line_is_read(lines: Vec<Vec<u8>>) {
                let mut reader = $agent.reader(crate::agent::Before::default()).unwrap();
                let mut teller = $agent.teller().unwrap();
                let mut events = Vec::new();
                for line in &lines {
                    reader.read(line, &mut events);
                    let _ = teller.line(line);
                }
                let _ = teller.end();
                reader.finish(&mut events);
            }

            #[test]
            fn damaged_lines_are_read(
                which: proptest::sample::Index,
                at: proptest::sample::Index,
                with in "[\\x00-\\x7f\"{}:,0-9é\u{1b}]{0,4}",
            ) {
                let line = $lines[which.index($lines.len())];
                let mut reader = $agent.reader(crate::agent::Before::default()).unwrap();
                let at = at.index(line.len() + 1);
                let events = crate::agent::tests::feed(&mut *reader, line.as_bytes(), at, with.as_bytes());
                for event in events {
                    let json = serde_json::to_string(&event)?;
                    proptest::prop_assert!(json.len() < 16_384);
                    proptest::prop_assert_eq!(serde_json::from_str::<crate::model::AgentEvent>(&json)?, event);
                }
                let mut teller = $agent.teller().unwrap();
                for shown in teller.line(line.as_bytes()).unwrap_or_default() {
                    let control = |c: char| c.is_control() && c != '\n' && c != '\t';
                    proptest::prop_assert!(!shown.text.contains(control), "{shown:?}");
                }
            }
        }
    };
}
pub(super) use reading_never_fails;
