//! Any program, by what its pod says: how it gets its prompt, how it goes on with a
//! conversation, and whose output it writes.
//!
//! Without that it gets the prompt on standard input and writes plain lines; it has
//! no conversation, so a further run is the same command with another prompt.

use super::{Agent, Before, CommandLine, Invocation, Reader, Teller};
use crate::model::AgentKind;
use std::collections::BTreeMap;

/// Stands for the prompt, or the file that has it, in the words of a command.
pub const PROMPT: &str = "{prompt}";
/// Stands for the conversation's id.
pub const SESSION: &str = "{session}";
/// Stands for the model.
pub const MODEL: &str = "{model}";

/// Any program.
pub struct Command;

impl Agent for Command {
    fn kind(&self) -> AgentKind {
        AgentKind::Command
    }

    fn command(&self, invocation: &Invocation<'_>) -> CommandLine {
        let spec = invocation.spec;
        let pod = &spec.pod;
        let mut argv = match &pod.entrypoint {
            Some(words) => words.clone(),
            None => invocation.image_command.to_vec(),
        };
        argv.extend(pod.args.iter().cloned());
        if let Some(template) = &pod.command {
            let mut more = |words: &[String], mark: &str, with: &str| {
                argv.extend(words.iter().map(|word| word.replace(mark, with)));
            };
            if let Some(model) = &spec.model {
                more(&template.model, MODEL, model);
            }
            match (invocation.resume, invocation.session) {
                (Some(id), _) => more(&template.resume, SESSION, id),
                (None, Some(id)) => more(&template.begin, SESSION, id),
                (None, None) => {}
            }
        }
        CommandLine {
            argv,
            env: BTreeMap::new(),
        }
    }

    fn reader(&self, _: Before) -> Option<Box<dyn Reader>> {
        None
    }

    fn teller(&self) -> Option<Box<dyn Teller>> {
        None
    }

    fn choose_session(&self, _: u128) -> Option<String> {
        None
    }
}
