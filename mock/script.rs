//! What is answered: the last prompt of a conversation is its own script.
//!
//! Each agent sends the whole conversation with every request, so a request says
//! by itself what comes next: the last text of the user that has a directive is
//! the script, and the answers after it are the steps that were taken.
//!
//! | step | is |
//! |---|---|
//! | `[[say: TEXT]]` | an answer |
//! | `[[say-bytes: N]]` | an answer of N bytes |
//! | `[[bash: COMMAND]]` | the use of the agent's shell |
//! | `[[tool: NAME JSON]]` | the use of any tool |
//! | `[[error: STATUS MESSAGE]]` | an error, each time it is asked |
//! | `[[drop]]` | a connection that is cut in the middle of an answer, each time |
//! | `[[end]]` | an answer that ends in its middle, though properly, each time |
//! | `[[hang]]` | an answer that never goes on |
//!
//! `[[error: 429 x2]]`, `[[drop: x1]]` and `[[end: x1]]` stand before the step that
//! they are of: so often that step fails. `[[with: TEXT]]` and `[[think: TEXT]]` put
//! a block before the next step's own, or before where it stops, and `[[tokens: IN OUT READ WRITTEN]]` says what it
//! is said to cost; otherwise that follows from its size. A directive may contain
//! others, for those whom the agent asks in its turn.

/// Whoever wants a title takes it whole, and Gemini's router finds what it looks for.
const ASIDE: &str = r#"{"reasoning": "as scripted", "model_choice": "flash", "complexity_reasoning": "as scripted", "complexity_score": 10}"#;

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub act: Act,
    /// Fails so often first.
    pub failures: Vec<Failure>,
    /// Text before it, in the same answer.
    pub with: Option<String>,
    /// Thoughts before it, in the same answer.
    pub think: Option<String>,
    /// What it is said to cost.
    pub tokens: Option<[u64; 4]>,
}

/// What a step does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    Say(String),
    Bash(String),
    Tool { name: String, input: String },
    Fail(Failure),
    Hang,
}

/// How a request fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    Status {
        status: u16,
        message: String,
    },
    /// The connection is cut.
    Cut,
    /// The answer just ends.
    Ended,
}

/// The steps of a text, if it has a directive.
pub fn steps(text: &str) -> Option<Vec<Step>> {
    let found = directives(text);
    if found.is_empty() {
        return None;
    }
    let mut steps = Vec::new();
    let mut next = Step::of(Act::Hang);
    for directive in found {
        let (name, rest) = directive.split_once(':').unwrap_or((directive, ""));
        let rest = rest.trim();
        let act = match name.trim() {
            "say" => Act::Say(rest.to_owned()),
            "say-bytes" => Act::Say(filler(rest.parse().unwrap_or(0))),
            "bash" => Act::Bash(rest.to_owned()),
            "tool" => {
                let (name, input) = rest.split_once(' ').unwrap_or((rest, "{}"));
                Act::Tool {
                    name: name.to_owned(),
                    input: input.to_owned(),
                }
            }
            "hang" => Act::Hang,
            "with" => {
                next.with = Some(rest.to_owned());
                continue;
            }
            "think" => {
                next.think = Some(rest.to_owned());
                continue;
            }
            "tokens" => {
                let mut words = rest.split_whitespace().map(|n| n.parse().unwrap_or(0));
                next.tokens = Some(std::array::from_fn(|_| words.next().unwrap_or(0)));
                continue;
            }
            "error" | "drop" | "end" => match failure(name.trim(), rest) {
                (failure, Some(times)) => {
                    next.failures.extend(vec![failure; times]);
                    continue;
                }
                (failure, None) => Act::Fail(failure),
            },
            other => Act::Say(format!("no such directive: {other}")),
        };
        next.act = act;
        steps.push(std::mem::replace(&mut next, Step::of(Act::Hang)));
    }
    Some(steps)
}

/// So many bytes of text that no two places of look alike.
pub fn filler(bytes: usize) -> String {
    let mut text = String::with_capacity(bytes + 16);
    let mut number = 0;
    while text.len() < bytes {
        text.push_str(&format!("word {number} "));
        number += 1;
    }
    text.truncate(bytes.saturating_sub(1));
    // No agent trims a full stop.
    text.push('.');
    text
}

impl Step {
    fn of(act: Act) -> Self {
        Self {
            act,
            failures: Vec::new(),
            with: None,
            think: None,
            tokens: None,
        }
    }

    /// For who asks without tools: a title; or which model is good enough, in JSON.
    pub fn aside() -> Self {
        Self::of(Act::Say(ASIDE.to_owned()))
    }

    /// What is left when there are no more directives.
    pub fn done() -> Self {
        Self::of(Act::Say("Done.".to_owned()))
    }
}

fn failure(name: &str, rest: &str) -> (Failure, Option<usize>) {
    let mut words: Vec<&str> = rest.split_whitespace().collect();
    let times = words
        .iter()
        .position(|word| {
            word.strip_prefix('x')
                .is_some_and(|n| n.parse::<usize>().is_ok())
        })
        .map(|at| words.remove(at)[1..].parse().unwrap_or(1));
    match name {
        "drop" => return (Failure::Cut, times),
        "end" => return (Failure::Ended, times),
        _ => {}
    }
    let status = words.first().and_then(|word| word.parse().ok());
    let message = words.get(1..).unwrap_or_default().join(" ");
    let failure = Failure::Status {
        status: status.unwrap_or(500),
        message: if message.is_empty() {
            "as the script says".to_owned()
        } else {
            message
        },
    };
    (failure, times)
}

/// What stands in `[[` and `]]`, with whatever of that stands within.
fn directives(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(begin) = rest.find("[[") {
        let inner = &rest[begin + 2..];
        let mut depth = 1;
        let mut at = 0;
        while depth > 0 {
            let open = inner[at..].find("[[").unwrap_or(usize::MAX);
            let Some(close) = inner[at..].find("]]") else {
                return found;
            };
            if open < close {
                depth += 1;
                at += open + 2;
            } else {
                depth -= 1;
                at += close + 2;
            }
        }
        found.push(&inner[..at - 2]);
        rest = &inner[at..];
    }
    found
}
