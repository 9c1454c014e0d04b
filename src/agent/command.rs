//! Any program: the prompt on standard input, plain lines out.
//!
//! It has no conversation of its own, so a further run is the same command
//! with another prompt.

use super::{Agent, Before, CommandLine, Invocation, Reader};
use crate::model::AgentKind;
use std::collections::BTreeMap;

/// Any program.
pub struct Command;

impl Agent for Command {
    fn kind(&self) -> AgentKind {
        AgentKind::Command
    }

    fn command(&self, invocation: &Invocation<'_>) -> CommandLine {
        let pod = &invocation.spec.pod;
        let mut argv = match &pod.entrypoint {
            Some(words) => words.clone(),
            None => invocation.image_command.to_vec(),
        };
        argv.extend(pod.args.iter().cloned());
        CommandLine {
            argv,
            env: BTreeMap::new(),
        }
    }

    fn reader(&self, _: Before) -> Option<Box<dyn Reader>> {
        None
    }

    fn pretty(&self, _: &[u8]) -> Option<String> {
        None
    }

    fn choose_session(&self, _: u128) -> Option<String> {
        None
    }
}
