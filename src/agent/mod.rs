//! Agents: how their commands are called and what their output means.
//!
//! One file each. An [`Agent`] makes the argument list of a run, says which
//! variables it wants, and reads its output line by line; it does no I/O.

pub mod claude;
pub mod command;

use crate::model::{AgentEvent, AgentKind, Spec};
use std::collections::BTreeMap;

/// What is needed to make a run's command.
#[derive(Clone, Debug)]
pub struct Invocation<'a> {
    /// The session's frozen specification.
    pub spec: &'a Spec,
    /// ENTRYPOINT and CMD of the image, joined.
    pub image_command: &'a [String],
    /// The image's user is root.
    pub root: bool,
    /// The conversation to go on with; none for a session's first run.
    pub resume: Option<&'a str>,
}

/// A command and the variables that the agent itself wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandLine {
    /// Program and arguments. Never the prompt: that goes to standard input.
    pub argv: Vec<String>,
    /// Variables; the pod's and the user's go over them.
    pub env: BTreeMap<String, String>,
}

/// An agent's command line and output.
pub trait Agent: Send + Sync {
    /// Which.
    fn kind(&self) -> AgentKind;

    /// The command of a run. The prompt is written to its standard input, which is then closed.
    fn command(&self, invocation: &Invocation<'_>) -> CommandLine;

    /// Reads one whole line of standard output. Anything that is not understood is `None`.
    fn read_line(&self, line: &[u8]) -> Option<AgentEvent>;

    /// One readable line (or a few) for a line of standard output; `None` to
    /// show the line as it is, empty to show nothing. Never terminal escapes.
    fn pretty(&self, line: &[u8]) -> Option<String>;

    /// A session id to choose for the agent, from a fresh random number.
    fn choose_session(&self, random: u128) -> Option<String>;
}

/// The agent of a kind.
#[must_use]
pub fn agent(kind: AgentKind) -> &'static dyn Agent {
    match kind {
        AgentKind::Claude => &claude::Claude,
        AgentKind::Command => &command::Command,
    }
}
