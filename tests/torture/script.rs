//! What an agent is told, and what has to be recorded of it.

use crate::support::Dice;
use std::path::{Path, PathBuf};

/// One run's prompt and what it comes to.
pub struct Script {
    /// In the prompt, and nowhere else.
    pub token: String,
    /// The whole prompt.
    pub prompt: String,
    /// All that it writes to standard output when nobody stops it; of an agent
    /// that speaks stream-json, what is no JSON.
    pub out: Vec<u8>,
    /// What an agent that speaks stream-json says, message by message.
    pub texts: Option<Vec<String>>,
    /// The same of standard error.
    pub err: Vec<u8>,
    /// What it exits with, by itself.
    pub code: i32,
    /// What it exits with when it is told to.
    pub stopped: i32,
    /// Here the agent itself writes how often it was told, and how far it has come.
    pub ledger: PathBuf,
    /// How far it comes.
    pub ticks: usize,
    /// It is asked on a fork of the conversation.
    pub fork: bool,
    /// Whoever asked for it was told that it will be.
    pub promised: bool,
}

impl Script {
    /// A script that takes about `millis` when the machine has time. With `json`
    /// for an agent that speaks stream-json.
    pub fn compose(
        dice: &mut Dice,
        token: String,
        ledgers: &Path,
        millis: u64,
        json: bool,
    ) -> Self {
        let ledger = ledgers.join(&token);
        let (code, stopped) = match dice.percent(60) {
            true => (0, 30),
            false => (i32::try_from(dice.roll(99)).expect("small") + 1, 31),
        };
        let pause = 15 + dice.roll(45);
        let ticks = usize::try_from(millis / pause).expect("small") + 1;
        let path = ledger.display();
        let mut script = Self {
            prompt: format!("{token} [[on TERM exit {stopped}]][[append {path} b]]"),
            out: Vec::new(),
            texts: json.then(Vec::new),
            err: Vec::new(),
            ledger: ledger.clone(),
            token,
            code,
            stopped,
            ticks,
            fork: false,
            promised: false,
        };
        for _ in 0..=dice.roll(3) {
            script.piece(dice);
        }
        script.tell(&format!("tally {path} {ticks} {pause}"));
        for tick in 1..=ticks {
            script.voice(&format!("tick {tick}"));
        }
        for _ in 0..dice.roll(3) {
            script.piece(dice);
        }
        if !json && dice.percent(20) {
            script.tell("open no newline");
            script.says("no newline");
        }
        script.tell(&format!("exit {code}"));
        script
    }

    fn tell(&mut self, directive: &str) {
        self.prompt.push_str(&format!("[[{directive}]]"));
    }

    fn says(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    /// What the agent says as a message, where it speaks so.
    fn voice(&mut self, text: &str) {
        match &mut self.texts {
            Some(texts) => texts.push(text.to_owned()),
            None => self.says(&format!("{text}\n")),
        }
    }

    fn piece(&mut self, dice: &mut Dice) {
        // Half a line would spoil the JSON that follows it.
        let kinds = if self.texts.is_some() { 6 } else { 8 };
        match dice.roll(kinds) {
            0 => {
                let lines = dice.index(1500) + 1;
                self.tell(&format!("lines {lines}"));
                self.says(&crate::support::numbered(lines));
            }
            1 => {
                let lines = dice.index(300) + 1;
                self.tell(&format!("linesflush {lines}"));
                self.says(&crate::support::numbered(lines));
            }
            2 => {
                let lines = dice.index(200) + 1;
                self.tell(&format!("errlines {lines}"));
                for n in 1..=lines {
                    self.err
                        .extend_from_slice(format!("err {n:07}\n").as_bytes());
                }
            }
            3 => {
                let lines = dice.index(200) + 1;
                self.tell(&format!("mixed {lines}"));
                for n in 1..=lines {
                    self.says(&format!("out {n:07}\n"));
                    self.err
                        .extend_from_slice(format!("err {n:07}\n").as_bytes());
                }
            }
            4 => {
                let length = dice.index(200_000) + 1;
                self.tell(&format!("long {length}"));
                self.out.extend((b'a'..=b'z').cycle().take(length));
                self.out.push(b'\n');
            }
            5 => {
                let length = *dice.pick(&[20, 20, 3_000, 70_000, 150_000]);
                let text: String = ('a'..='z').cycle().take(length).collect();
                self.tell(&format!("print {text}"));
                self.voice(&text);
            }
            6 => {
                self.tell("raw ff00fe0d0a80");
                self.out
                    .extend_from_slice(&[0xff, 0x00, 0xfe, 0x0d, 0x0a, 0x80]);
            }
            _ => {
                self.tell("open half a line, ");
                self.says("half a line, ");
            }
        }
    }
}
