//! `command`: how a program of one's own is spoken to.

use super::keys::COMMAND;
use super::reader::{Object, Reader};
use crate::model::AgentKind;
use crate::model::spec::{CommandTemplate, PromptBy};

/// Reads the template, if there is one.
pub(super) fn read(reader: &mut Reader<'_>, object: &Object<'_>) -> Option<CommandTemplate> {
    let node = object.get("command")?;
    let template = reader.object("command", node, &COMMAND)?;
    let prompt = reader.choice(
        &template,
        "prompt",
        "\"stdin\", \"arg\" or \"file\"",
        &[
            ("stdin", PromptBy::Stdin),
            ("arg", PromptBy::Arg),
            ("file", PromptBy::File),
        ],
    );
    let output = reader.choice(
        &template,
        "output",
        "\"plain\", \"claude\", \"codex\", \"gemini\" or \"opencode\"",
        &[
            ("plain", AgentKind::Command),
            ("claude", AgentKind::Claude),
            ("codex", AgentKind::Codex),
            ("gemini", AgentKind::Gemini),
            ("opencode", AgentKind::Opencode),
        ],
    );
    let mut words = |key: &str| {
        let words = reader.texts(&template, key, false).into_iter();
        words.map(|word| word.text).collect()
    };
    Some(CommandTemplate {
        prompt: prompt.unwrap_or_default(),
        output: output.filter(|output| *output != AgentKind::Command),
        begin: words("begin"),
        resume: words("resume"),
        model: words("model"),
    })
}
