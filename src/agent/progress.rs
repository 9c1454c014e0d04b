//! How far an agent has come with what it was asked for, told by its typed events.

use crate::model::{AgentEvent, AgentKind};

/// Counts the turns of a prompt.
///
/// A turn is an answer of the model, with the tools that it asks for at once.
/// Claude Code names its messages, each of which is one; opencode says when a
/// step is over. Of the others a turn begins with the first that is said after
/// the result of a tool. Sub-agents' are not counted.
#[derive(Clone, Debug)]
pub struct Progress {
    kind: AgentKind,
    turns: u32,
    /// In the middle of an answer.
    answers: bool,
    /// Something was said since the last result: it is at work.
    works: bool,
}

impl Progress {
    /// Of a run that has just begun.
    #[must_use]
    pub const fn new(kind: AgentKind) -> Self {
        Self {
            kind,
            turns: 0,
            answers: false,
            works: false,
        }
    }

    /// Takes the next event.
    pub fn take(&mut self, event: &AgentEvent) {
        match event {
            AgentEvent::Text { parent: None, .. }
            | AgentEvent::Thinking { parent: None, .. }
            | AgentEvent::ToolUse { parent: None, .. } => self.say(),
            AgentEvent::ToolResult { parent: None, .. } => {
                self.works = true;
                self.answers &= self.kind == AgentKind::Opencode;
            }
            AgentEvent::Usage {
                parent: None,
                message,
                ..
            } => {
                self.works = true;
                match self.kind {
                    AgentKind::Claude => self.turns += u32::from(message.is_some()),
                    AgentKind::Opencode => self.answers = false,
                    AgentKind::Codex | AgentKind::Gemini | AgentKind::Command => {}
                }
            }
            // Whatever is asked in the same process then has turns of its own.
            AgentEvent::Result { .. } => {
                self.turns = 0;
                self.works = false;
                self.answers = false;
            }
            AgentEvent::Text { .. }
            | AgentEvent::Thinking { .. }
            | AgentEvent::ToolUse { .. }
            | AgentEvent::ToolResult { .. }
            | AgentEvent::Usage { .. }
            | AgentEvent::Init { .. }
            | AgentEvent::Heard { .. }
            | AgentEvent::Dropped { .. }
            | AgentEvent::Retry { .. }
            | AgentEvent::Limit { .. }
            | AgentEvent::PermissionDenied { .. }
            | AgentEvent::Unknown { .. } => {}
        }
    }

    /// Whether it takes, or is about to take, more than that many turns.
    #[must_use]
    pub const fn exceeds(&self, turns: u32) -> bool {
        let waits_for_more = matches!(self.kind, AgentKind::Opencode) && !self.answers;
        self.works && (self.turns > turns || self.turns == turns && waits_for_more)
    }

    /// Whether it has said something since its last result.
    #[must_use]
    pub const fn works(&self) -> bool {
        self.works
    }

    fn say(&mut self) {
        self.works = true;
        if self.kind != AgentKind::Claude && !self.answers {
            self.turns += 1;
        }
        self.answers = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Outcome, Usage};

    fn text() -> AgentEvent {
        AgentEvent::Text {
            text: "so".to_owned(),
            parent: None,
        }
    }

    fn tool(parent: Option<&str>) -> [AgentEvent; 2] {
        let (id, parent) = ("t".to_owned(), parent.map(str::to_owned));
        [
            AgentEvent::ToolUse {
                id: id.clone(),
                name: "Bash".to_owned(),
                summary: String::new(),
                input: None,
                parent: parent.clone(),
            },
            AgentEvent::ToolResult {
                id,
                is_error: false,
                size: 1,
                parent,
            },
        ]
    }

    fn usage(message: Option<&str>) -> AgentEvent {
        AgentEvent::Usage {
            model: None,
            usage: Usage::default(),
            parent: None,
            message: message.map(str::to_owned),
        }
    }

    fn result() -> AgentEvent {
        AgentEvent::Result {
            outcome: Outcome::Success,
            text: String::new(),
            agent_session: None,
            turns: None,
            cost_usd: None,
            duration_ms: None,
            usage: None,
        }
    }

    /// After how many of these events that many turns are exceeded.
    fn exceeded(kind: AgentKind, turns: u32, events: &[AgentEvent]) -> Option<usize> {
        let mut progress = Progress::new(kind);
        let at = events.iter().position(|event| {
            progress.take(event);
            progress.exceeds(turns)
        });
        at.map(|at| at + 1)
    }

    #[test]
    fn an_answer_with_its_tools_is_a_turn() {
        let [use_, done] = tool(None);
        let [theirs, of_theirs] = tool(Some("sub"));
        // Two tools at once, a sub-agent at work meanwhile, then one more.
        let events = [
            text(),
            use_.clone(),
            use_.clone(),
            theirs,
            of_theirs,
            done.clone(),
            done.clone(),
            use_.clone(),
            done.clone(),
            text(),
            result(),
        ];
        assert_eq!(exceeded(AgentKind::Codex, 1, &events), Some(8));
        assert_eq!(exceeded(AgentKind::Codex, 2, &events), Some(10));
        assert_eq!(exceeded(AgentKind::Codex, 3, &events), None);
        // opencode tells each tool when it is over, and the end of each step.
        let step = |last: AgentEvent| {
            let mut step = vec![text(), use_.clone(), done.clone(), use_.clone()];
            step.extend([done.clone(), usage(None), last]);
            step
        };
        let events = [step(text()), step(result())].concat();
        assert_eq!(exceeded(AgentKind::Opencode, 1, &events), Some(6));
        assert_eq!(exceeded(AgentKind::Opencode, 3, &events), None);
    }

    #[test]
    fn messages_of_claude_are_turns_however_their_tools_end() {
        let [use_, done] = tool(None);
        let events = [
            use_.clone(),
            usage(Some("a")),
            done.clone(),
            use_,
            done,
            usage(Some("b")),
            usage(None),
            result(),
        ];
        assert_eq!(exceeded(AgentKind::Claude, 1, &events), Some(6));
        assert_eq!(exceeded(AgentKind::Claude, 2, &events), None);
        let twice = [&events[..], &events[..]].concat();
        assert_eq!(exceeded(AgentKind::Claude, 2, &twice), None);
    }
}
