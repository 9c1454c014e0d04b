//! Messages on standard input, one JSON line each, as Claude Code takes them with
//! `--input-format stream-json`.
//!
//! A thread reads them as they come. An interrupt is answered by it at once, and noticed
//! by who works at the next directive, or while it waits for a message.

use std::collections::VecDeque;
use std::io::{self, BufRead};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

/// A message.
pub struct Message {
    /// The id that it came with.
    pub id: String,
    /// What it says.
    pub text: Vec<u8>,
}

/// A message that was to be dropped, and whether it was.
pub type Dropped<'a> = Option<(&'a str, bool)>;

/// What comes next.
pub enum Next {
    Message(Message),
    Interrupt,
    End,
}

#[derive(Default)]
struct State {
    messages: VecDeque<Message>,
    interrupted: bool,
    ended: bool,
}

/// What has come and was not taken.
#[derive(Clone, Default)]
pub struct Inbox(Arc<(Mutex<State>, Condvar)>);

impl Inbox {
    /// Begins to read; `answer` writes the answer to a control request, by its id.
    pub fn open(answer: impl Fn(&str, Dropped<'_>) + Send + 'static) -> Self {
        let inbox = Self::default();
        let ours = inbox.clone();
        thread::spawn(move || {
            for line in io::stdin().lock().lines() {
                let Ok(line) = line else { break };
                ours.take_line(&line, &answer);
            }
            ours.change(|state| state.ended = true);
        });
        inbox
    }

    fn take_line(&self, line: &str, answer: &impl Fn(&str, Dropped<'_>)) {
        let request = text_of(line, "\"request_id\":\"").unwrap_or_default();
        if let Some(message) = text_of(line, "\"message_uuid\":\"") {
            let mut state = self.lock();
            let before = state.messages.len();
            state.messages.retain(|waiting| waiting.id != message);
            answer(&request, Some((&message, state.messages.len() < before)));
        } else if line.contains("\"subtype\":\"interrupt\"") {
            answer(&request, None);
            self.change(|state| state.interrupted = true);
        } else if let Some(text) = text_of(line, "\"text\":\"") {
            let id = text_of(line, "\"uuid\":\"").unwrap_or_default();
            let text = text.into_bytes();
            self.change(|state| state.messages.push_back(Message { id, text }));
        }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.0.1.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether an interrupt came since this was asked last.
    pub fn was_interrupted(&self) -> bool {
        std::mem::take(&mut self.lock().interrupted)
    }

    /// Waits for the next message; none when no more come.
    pub fn message(&self) -> Option<Message> {
        loop {
            match self.next() {
                Next::Message(message) => return Some(message),
                // There is nothing to leave off.
                Next::Interrupt => {}
                Next::End => return None,
            }
        }
    }

    /// Waits for what comes next.
    pub fn next(&self) -> Next {
        let mut state = self.lock();
        loop {
            if std::mem::take(&mut state.interrupted) {
                return Next::Interrupt;
            }
            if let Some(message) = state.messages.pop_front() {
                return Next::Message(message);
            }
            if state.ended {
                return Next::End;
            }
            state = self.0.1.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// The JSON string behind `key`, without its escapes. Quotes within strings are
/// escaped, so that a key is found nowhere else.
fn text_of(line: &str, key: &str) -> Option<String> {
    let mut rest = line[line.find(key)? + key.len()..].chars();
    let mut text = String::new();
    let mut high = None;
    loop {
        let c = match rest.next()? {
            '"' => return Some(text),
            '\\' => match rest.next()? {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                'b' => '\u{8}',
                'f' => '\u{c}',
                'u' => {
                    let digits: String = rest.by_ref().take(4).collect();
                    let unit = u32::from_str_radix(&digits, 16).ok()?;
                    match (high.take(), unit) {
                        (_, 0xd800..=0xdbff) => {
                            high = Some(unit);
                            continue;
                        }
                        (Some(high), _) => {
                            char::from_u32(0x10000 + ((high - 0xd800) << 10) + (unit & 0x3ff))?
                        }
                        (None, _) => char::from_u32(unit)?,
                    }
                }
                other => other,
            },
            other => other,
        };
        text.push(c);
    }
}
