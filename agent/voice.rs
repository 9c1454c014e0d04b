//! How the scripted agent speaks: plain lines, or Claude Code's stream-json.

use crate::inbox::{Dropped, Message};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::time::Instant;

/// Its output.
pub struct Voice {
    pub out: File,
    pub err: File,
    /// Speaks stream-json.
    json: bool,
    session: String,
    model: String,
    began: Instant,
    turns: u64,
    said: String,
    result: Option<Result>,
    silent: bool,
}

/// What the result line says.
#[derive(Clone, Default)]
pub struct Result {
    pub subtype: Option<String>,
    pub is_error: Option<bool>,
    pub terminal_reason: Option<String>,
    pub api_error_status: Option<String>,
    pub stop_reason: Option<String>,
    pub text: Option<String>,
}

impl Voice {
    pub fn new(json: bool, session: String, model: String) -> io::Result<Self> {
        Ok(Self {
            out: File::from(io::stdout().as_fd().try_clone_to_owned()?),
            err: File::from(io::stderr().as_fd().try_clone_to_owned()?),
            json,
            session,
            model,
            began: Instant::now(),
            turns: 0,
            said: String::new(),
            result: None,
            silent: false,
        })
    }

    fn line(&mut self, line: String) -> io::Result<()> {
        self.out.write_all((line + "\n").as_bytes())
    }

    /// One line to standard error.
    pub fn complain(&mut self, text: &str) -> io::Result<()> {
        self.err.write_all(format!("{text}\n").as_bytes())
    }

    /// The first line of a turn.
    pub fn init(&mut self) -> io::Result<()> {
        if !self.json {
            return Ok(());
        }
        let cwd = std::env::current_dir().unwrap_or_default();
        let line = format!(
            r#"{{"type":"system","subtype":"init","cwd":{},"session_id":{},"tools":["Bash"],"mcp_servers":[],"model":{},"permissionMode":"bypassPermissions","apiKeySource":"none","claude_code_version":"scripted-0"}}"#,
            quote(&cwd.to_string_lossy()),
            quote(&self.session),
            quote(&self.model),
        );
        self.line(line)
    }

    /// A line of text, a message of the assistant in stream-json.
    pub fn say(&mut self, text: &[u8]) -> io::Result<()> {
        self.turns += 1;
        if !self.json {
            let mut line = text.to_vec();
            line.push(b'\n');
            return self.out.write_all(&line);
        }
        self.said = String::from_utf8_lossy(text).into_owned();
        let block = format!(r#"{{"type":"text","text":{}}}"#, quote(&self.said));
        self.assistant(&block)
    }

    fn assistant(&mut self, block: &str) -> io::Result<()> {
        let line = format!(
            r#"{{"type":"assistant","message":{{"id":"msg_{}","type":"message","role":"assistant","model":{},"content":[{block}],"stop_reason":null,"usage":{{"input_tokens":10,"output_tokens":1}}}},"parent_tool_use_id":null,"session_id":{}}}"#,
            self.turns,
            quote(&self.model),
            quote(&self.session),
        );
        self.line(line)
    }

    /// The use of a tool and its result.
    pub fn tool(&mut self, name: &str, what: &str) -> io::Result<()> {
        if !self.json {
            return self.say(format!("tool {name}: {what}").as_bytes());
        }
        self.turns += 1;
        let key = match name {
            "Bash" => "command",
            "Read" | "Edit" | "Write" => "file_path",
            "Glob" | "Grep" => "pattern",
            _ => "description",
        };
        let id = format!("toolu_{}", self.turns);
        self.assistant(&format!(
            r#"{{"type":"tool_use","id":"{id}","name":{},"input":{{"{key}":{}}}}}"#,
            quote(name),
            quote(what)
        ))?;
        let line = format!(
            r#"{{"type":"user","message":{{"role":"user","content":[{{"tool_use_id":"{id}","type":"tool_result","content":"({} completed)","is_error":false}}]}},"parent_tool_use_id":null,"session_id":{}}}"#,
            escape(name),
            quote(&self.session),
        );
        self.line(line)
    }

    /// The notice of a failed request that will be tried again.
    pub fn retry(&mut self, status: u16) -> io::Result<()> {
        let line = format!(
            r#"{{"type":"system","subtype":"api_retry","attempt":1,"max_retries":10,"retry_delay_ms":500,"error_status":{status},"error":"scripted","session_id":{}}}"#,
            quote(&self.session)
        );
        self.line(line)
    }

    /// What the result line is going to say.
    pub fn set_result(&mut self, result: Result) {
        self.result = Some(result);
    }

    /// No result line will be written.
    pub fn set_silent(&mut self) {
        self.silent = true;
    }

    /// A message, said again when it is taken up.
    pub fn heard(&mut self, message: &Message) -> io::Result<()> {
        let text = String::from_utf8_lossy(&message.text);
        let line = format!(
            r#"{{"type":"user","message":{{"role":"user","content":[{{"type":"text","text":{}}}]}},"session_id":{},"parent_tool_use_id":null,"uuid":{},"isReplay":true}}"#,
            quote(&text),
            quote(&self.session),
            quote(&message.id),
        );
        self.line(line)
    }

    /// The result line of a turn that was interrupted.
    pub fn aborted(&mut self) -> io::Result<i32> {
        let line = self.interrupted();
        self.out.write_all(&line)?;
        Ok(1)
    }

    /// The result line of an interrupted run.
    pub fn interrupted(&self) -> Vec<u8> {
        let result = Result {
            subtype: Some("error_during_execution".into()),
            is_error: Some(true),
            terminal_reason: Some("aborted_streaming".into()),
            ..Result::default()
        };
        (self.result_line(&result) + "\n").into_bytes()
    }

    /// Writes the result line, if one is due, and says what to exit with.
    pub fn finish(&mut self, code: Option<i32>) -> io::Result<i32> {
        let mut result = self.result.take().unwrap_or_default();
        if result.is_error.is_none() {
            result.is_error = Some(code.is_some_and(|code| code != 0));
        }
        let failed = result.is_error == Some(true);
        if self.json && !self.silent {
            let line = self.result_line(&result);
            self.line(line)?;
        }
        Ok(code.unwrap_or(i32::from(self.json && failed)))
    }

    fn result_line(&self, result: &Result) -> String {
        let is_error = result.is_error.unwrap_or(false);
        let or = |value: &Option<String>, default: &str| quote(value.as_deref().unwrap_or(default));
        let said = if self.said.is_empty() {
            "Done."
        } else {
            &self.said
        };
        let subtype = if is_error {
            "error_during_execution"
        } else {
            "success"
        };
        let subtype = or(&result.subtype, subtype);
        // Claude Code has a result text only where the subtype is success.
        let text = if subtype == "\"success\"" {
            format!(r#""result":{},"#, or(&result.text, said))
        } else {
            format!(r#""errors":[{}],"#, or(&result.text, "scripted"))
        };
        let took = self.began.elapsed().as_millis();
        // A stream that was cut leaves neither a text nor a reason to have stopped.
        let cut = result.text.as_deref() == Some("") && result.stop_reason.is_none();
        let stop_reason = if cut {
            "null".to_owned()
        } else {
            or(&result.stop_reason, "end_turn")
        };
        // "type" stands in the middle, as it does in the real thing.
        format!(
            r#"{{"duration_api_ms":{took},"stop_reason":{},"session_id":{},"total_cost_usd":0.01,"usage":{{"input_tokens":10,"output_tokens":5}},"permission_denials":[],"terminal_reason":{},"is_error":{is_error},"num_turns":{},"subtype":{subtype},"api_error_status":{},{text}"type":"result","duration_ms":{took}}}"#,
            stop_reason,
            quote(&self.session),
            or(&result.terminal_reason, "completed"),
            self.turns.max(1),
            result.api_error_status.as_deref().unwrap_or("null"),
        )
    }
}

/// The answer to a control request.
pub fn answer_control(mut out: &File, id: &str, dropped: Dropped<'_>) {
    let answer = dropped.map_or_else(String::new, |(message, cancelled)| {
        format!(
            r#","response":{{"cancelled":{cancelled},"message_uuid":{}}}"#,
            quote(message)
        )
    });
    let line = format!(
        r#"{{"type":"control_response","response":{{"subtype":"success","request_id":{}{answer}}}}}"#,
        quote(id)
    );
    let _ = out.write_all((line + "\n").as_bytes());
}

/// A JSON string.
fn quote(text: &str) -> String {
    format!("\"{}\"", escape(text))
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' => escaped.push_str("\\\""),
            '\\' => escaped.push_str("\\\\"),
            '\n' => escaped.push_str("\\n"),
            c if u32::from(c) < 0x20 => escaped.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => escaped.push(c),
        }
    }
    escaped
}
