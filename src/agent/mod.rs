//! Agents: how their commands are called and what their output means.
//!
//! One file each. An [`Agent`] makes the argument list of a run and says which
//! variables it wants; its [`Reader`] reads the run's output line by line. Neither
//! does any I/O.

pub mod claude;
pub mod codex;
pub mod command;
pub mod credentials;
pub mod gemini;
mod json;
mod ledger;
pub mod opencode;
mod pretty;
pub mod progress;
mod text;

use crate::model::message::uuid;
use crate::model::spec::PodSpec;
use crate::model::usage::ByModel;
use crate::model::{Account, AgentEvent, AgentKind, Bounds, Spec};
use std::collections::BTreeMap;

pub use pretty::Shown;

/// What is needed to make a run's command.
#[derive(Clone, Debug)]
pub struct Invocation<'a> {
    /// The session's frozen specification.
    pub spec: &'a Spec,
    /// ENTRYPOINT and CMD of the image, joined.
    pub image_command: &'a [String],
    /// The image's user is root.
    pub root: bool,
    /// Its prompt comes as a message, and further ones may follow.
    pub steer: bool,
    /// The conversation to go on with; none for a session's first run.
    pub resume: Option<&'a str>,
    /// On a fork of it.
    pub fork: bool,
    /// The id to give a conversation that begins, where one was chosen.
    pub session: Option<&'a str>,
    /// How far the run may go; of money, how much is left.
    pub bounds: Bounds,
}

impl Invocation<'_> {
    /// The program: the pod's entrypoint, else the agent's own name.
    fn program(&self, name: &str) -> Vec<String> {
        let pod = &self.spec.pod;
        pod.entrypoint
            .clone()
            .unwrap_or_else(|| vec![name.to_owned()])
    }
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

    /// Begins, or goes on, to read what a run writes to standard output. None
    /// where that says nothing about the agent.
    fn reader(&self, before: Before) -> Option<Box<dyn Reader>>;

    /// Tells people what a run writes to standard output. None where that is for
    /// them as it is.
    fn teller(&self) -> Option<Box<dyn Teller>>;

    /// What is written to the agent's standard input for it to take `text` up as a
    /// message with that id; none for an agent that takes none.
    fn message(&self, _text: &str, _id: &str) -> Option<Vec<u8>> {
        None
    }

    /// What is written there to have it give up the message with that id, unless it has
    /// taken it up.
    fn take_back(&self, _message: &str, _id: &str) -> Option<Vec<u8>> {
        None
    }

    /// What is written there to have it leave off what it does.
    fn interrupt(&self, _id: &str) -> Option<Vec<u8>> {
        None
    }

    /// Whether it can go on with a fork of a conversation, and leave that as it is.
    fn can_fork(&self) -> bool {
        false
    }

    /// A session id to choose for the agent, from a fresh random number.
    fn choose_session(&self, random: u128) -> Option<String>;
}

/// Reads the standard output of one run.
pub trait Reader: Send + Sync {
    /// Reads one whole line, without its end, and adds what it says. What is not
    /// understood adds nothing, or [`AgentEvent::Unknown`]; nothing fails.
    fn read(&mut self, line: &[u8], events: &mut Vec<AgentEvent>);

    /// Nothing more comes: adds what was held back.
    fn finish(&mut self, _: &mut Vec<AgentEvent>) {}
}

/// Makes the standard output of one run readable.
pub trait Teller: Send {
    /// What to show for a whole line, without its end: nothing for one that says
    /// nothing to people. None to show it as it is.
    fn line(&mut self, line: &[u8]) -> Option<Vec<Shown>>;

    /// What is left to show when nothing more comes.
    fn end(&mut self) -> Vec<Shown> {
        Vec::new()
    }
}

/// What was recorded of a session before a reader begins: agents that count from
/// the beginning of a conversation are only understood with it.
#[derive(Clone, Debug, Default)]
pub struct Before {
    /// What earlier runs used.
    pub earlier: ByModel,
    /// What the run itself accounted for already: it is read on after a restart.
    pub account: Account,
    /// The model that the agent was told to use.
    pub model: Option<String>,
    /// What the run said last, where it is read on.
    pub answer: String,
}

/// What an agent said last, of typed events in their order: a result takes it away.
#[must_use]
pub fn last_answer<'a>(events: impl DoubleEndedIterator<Item = &'a AgentEvent>) -> String {
    for event in events.rev() {
        match event {
            AgentEvent::Result { .. } => break,
            AgentEvent::Text { text, parent: None } => return text.clone(),
            _ => {}
        }
    }
    String::new()
}

/// Whether the last thing that an agent said was its result; nothing where it said
/// neither that nor that it works on.
#[must_use]
pub fn rests<'a>(events: impl DoubleEndedIterator<Item = &'a AgentEvent>) -> Option<bool> {
    let mut events = events.rev();
    events.find_map(|event| match event {
        AgentEvent::Result { .. } => Some(true),
        AgentEvent::Init { .. }
        | AgentEvent::Heard { .. }
        | AgentEvent::Text { .. }
        | AgentEvent::Thinking { .. }
        | AgentEvent::ToolUse { .. }
        | AgentEvent::ToolResult { .. }
        | AgentEvent::Retry { .. }
        | AgentEvent::PermissionDenied { .. } => Some(false),
        AgentEvent::Dropped { .. }
        | AgentEvent::Usage { .. }
        | AgentEvent::Limit { .. }
        | AgentEvent::Unknown { .. } => None,
    })
}

/// The agent of a kind.
#[must_use]
pub fn agent(kind: AgentKind) -> &'static dyn Agent {
    match kind {
        AgentKind::Claude => &claude::Claude,
        AgentKind::Codex => &codex::Codex,
        AgentKind::Gemini => &gemini::Gemini,
        AgentKind::Opencode => &opencode::Opencode,
        AgentKind::Command => &command::Command,
    }
}

/// Whose output the sessions of a specification write.
#[must_use]
pub fn speaks(spec: &Spec) -> AgentKind {
    spoken(spec.agent, &spec.pod)
}

/// Whose output an agent of that kind writes in that pod.
#[must_use]
pub fn spoken(kind: AgentKind, pod: &PodSpec) -> AgentKind {
    let template = pod.command.as_ref();
    match kind {
        AgentKind::Command => template
            .and_then(|template| template.output)
            .unwrap_or(kind),
        known => known,
    }
}

/// Why sessions of a specification cannot take messages while their agent works, where
/// that was asked for.
#[must_use]
pub fn unsteerable(spec: &Spec) -> Option<String> {
    if agent(spec.agent).message("", "").is_none() {
        let agent = spec.agent;
        return Some(format!("agent {agent} takes no messages while it works"));
    }
    let ours = ["--input-format", "--output-format"];
    let is_ours = |arg: &&String| ours.iter().any(|name| arg.starts_with(name));
    let given = spec.pod.args.iter().find(is_ours)?;
    Some(format!("\"args\" has {given}, which cldpd settles itself"))
}

/// The id of a conversation that begins, where an agent of that kind in that pod is
/// told one; made of a fresh random number.
#[must_use]
pub fn choose_session(kind: AgentKind, pod: &PodSpec, random: u128) -> Option<String> {
    let named = |words: &[String]| words.iter().any(|word| word.contains(command::SESSION));
    match (kind, &pod.command) {
        (AgentKind::Command, Some(template)) if named(&template.begin) => Some(uuid(random)),
        _ => agent(kind).choose_session(random),
    }
}

/// Whether an agent says by that that the conversation it was to go on with is not there.
#[must_use]
pub fn has_lost_conversation(words: &str) -> bool {
    let lower = words.to_lowercase();
    let lost = [
        "no conversation found",
        "no rollout found",
        "session not found",
        "invalid session identifier",
        "no previous sessions found",
    ];
    lost.iter().any(|phrase| lower.contains(phrase))
}

/// Whether an agent says by that that its conversation is longer than its model takes.
#[must_use]
pub fn says_too_long(words: &str) -> bool {
    words.to_lowercase().contains("prompt is too long")
}

/// Whether an agent whose output is of that kind says how it ended.
#[must_use]
pub const fn reports(speaks: AgentKind) -> bool {
    match speaks {
        AgentKind::Claude | AgentKind::Codex | AgentKind::Gemini | AgentKind::Opencode => true,
        AgentKind::Command => false,
    }
}

/// Whether it says what it costs.
#[must_use]
pub const fn prices(speaks: AgentKind) -> bool {
    match speaks {
        AgentKind::Claude | AgentKind::Opencode => true,
        AgentKind::Codex | AgentKind::Gemini | AgentKind::Command => false,
    }
}

/// The values of some keys of a line that is an object. None for a line that is no
/// event; one that should have been is told as malformed.
fn event<'a, const N: usize>(
    line: &'a [u8],
    names: [&str; N],
    events: &mut Vec<AgentEvent>,
) -> Option<(&'a str, [json::Raw<'a>; N])> {
    let line = line.trim_ascii();
    if line.first() != Some(&b'{') {
        return None;
    }
    let line = std::str::from_utf8(line).ok();
    let found = line.and_then(|line| Some((line, json::fields(line, names)?)));
    if found.is_none() {
        events.push(AgentEvent::Unknown {
            name: String::new(),
            malformed: true,
        });
    }
    found
}

/// An event of an agent that this version does not know.
fn unknown(name: &str) -> AgentEvent {
    AgentEvent::Unknown {
        name: text::cut(name, text::NAME_MAX),
        malformed: false,
    }
}

#[cfg(test)]
mod tests;
