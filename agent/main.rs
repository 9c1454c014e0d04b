//! The scripted agent: a small static program that does what its prompt says,
//! for tests and for `cldpd demo`. Nothing but `std` and a few signal calls.
//!
//! It reads its whole standard input as the prompt, then performs, in order,
//! every directive `[[name arguments]]` in the variable `CLDPD_SCRIPT` and in
//! the prompt. All other text is ignored; a directive that is not known, or
//! with wrong arguments, is complained about and ends it with 64.
//!
//! | directive | does |
//! |---|---|
//! | `print TEXT`, `err TEXT` | a line to standard output, to standard error |
//! | `open TEXT` | text to standard output, without a line end |
//! | `lines N [LEN]` | `line 0000001` …, buffered; each `LEN` bytes long if that is more |
//! | `linesflush N [LEN]` | the same, one write for each line |
//! | `errlines N` | `err 0000001` … to standard error |
//! | `mixed N` | `out 0000001`, `err 0000001`, … alternating between the streams |
//! | `long N` | a line of N bytes, `a` to `z` over and over |
//! | `raw HEX` | these bytes to standard output |
//! | `sleep MS`, `spin MS` | waits, idle or busy |
//! | `tick N MS` | `tick 1` … `tick N`, with MS before each |
//! | `tally PATH N MS` | the same, and adds a `.` to the file PATH after each |
//! | `stamp N MS` | N lines, each the nanoseconds since 1970 when it is written, with MS before each |
//! | `flood MS` | lines as fast as it can, for so long |
//! | `fifo PATH` | opens it for reading and waits for the end: a test's step |
//! | `exit N` | ends now with that code (and the result line, in stream-json) |
//! | `die SIG` | ends by that signal, with no result line |
//! | `ignore SIG` | ignores it from now on |
//! | `on SIG exit N [after MS]` | when it arrives: `caught SIG` on standard error, waits, exits |
//! | `orphan MS [setsid]` | leaves a grandchild that holds the pipes for so long and then prints `orphan done`; `orphan PID` is printed. With `setsid` in a session of its own |
//! | `env NAME`, `envall`, `args`, `cwd` | says them |
//! | `echo` | says the prompt's length and FNV-1a-64 hash, and its text if it is short |
//! | `stdin` | says whether standard input has ended |
//! | `write PATH TEXT`, `append PATH TEXT`, `read PATH`, `touch PATH` | files |
//! | `alloc MB` | allocates, touches and keeps so much |
//! | `glut MB` | has a child allocate so much, the first that the kernel kills, and says how that ended |
//! | `remember TEXT`, `recall` | keeps a line with the conversation; says all such lines |
//! | `tool NAME TEXT` | the use of a tool and its result |
//! | `retry STATUS` | Claude Code's notice of a retry |
//! | `turn`, `done` | a result line, and a new init line; a result line alone |
//! | `result [KEY=VALUE …] [text=TEXT]` | what the result line will say: `subtype`, `is_error`, `terminal_reason`, `api_error_status`, `stop_reason` |
//! | `hear` | waits for a further message, takes it up, and does what it says |
//! | `refuse N STATUS TEXT` | ends as if its API refused it so, the first N times in its conversation |
//! | `maxturns`, `noresult` | ends out of turns; writes no result line |
//!
//! With `--cat` alone it copies its standard input to its standard output.
//!
//! With `--output-format stream-json` among its arguments it speaks as Claude
//! Code does: an init line, what is said as messages, a result line; SIGTERM
//! ends it with 143 and no result, SIGINT with 0 and a result that says
//! aborted. `--session-id ID` begins a conversation, `--resume ID` goes on with
//! one, with `--fork-session` on a copy, and fails as Claude Code does if there is none. A conversation is a file
//! `conversation-ID` in `$CLDPD_SCRIPTED_STATE`, else `$HOME`, else here.
//!
//! With `--input-format stream-json` it takes its prompt, and further messages, as lines
//! of JSON (`inbox.rs`), says each again when it takes it up, and ends with its input. A
//! message that comes while it works is a turn of its own, behind that one, unless it was
//! waited for with `hear`; one that was not taken up can be cancelled. A control request to
//! interrupt ends the turn at the next
//! directive, or in `hear`.
//!
//! Called `sh` or `git`, it stands for a shell and its programs in a build
//! (`builder.rs`).

mod builder;
mod children;
mod inbox;
mod sys;
mod voice;
mod words;

use children::{glut, linger, orphan};
use inbox::{Inbox, Next};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::thread::sleep;
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use voice::Voice;
use words::{bad, count, directives, fnv, hex, is_uuid, numbered, pause, result, sig};

/// A script that cannot be performed.
const BAD_SCRIPT: i32 = 64;

struct Agent {
    voice: Voice,
    prompt: Vec<u8>,
    conversation: PathBuf,
    kept: Vec<Vec<u8>>,
    /// Where messages come, if it takes them while it works.
    inbox: Option<Inbox>,
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args_os()
        .map(|arg| String::from_utf8_lossy(arg.as_bytes()).into_owned())
        .collect();
    // The standard library ignores it, and what ignores it is inherited.
    sys::restore(sys::PIPE);
    let name = args.first().and_then(|path| path.rsplit('/').next());
    let code = match args.get(1).map(String::as_str) {
        _ if name.is_some_and(builder::is_known) => builder::run(&args),
        Some("--cat") => cat(),
        Some("--orphan") => orphan(&args[2..]),
        Some("--linger") => linger(&args[2..]),
        Some("--glut") => glut(&args[2..]),
        _ => run(&args),
    };
    match code {
        Ok(code) => ExitCode::from((code & 0xff) as u8),
        Err(error) => {
            eprintln!("scripted agent: {error}");
            ExitCode::from(BAD_SCRIPT as u8)
        }
    }
}

fn value<'a>(args: &'a [String], name: &str) -> Option<&'a str> {
    let at = args.iter().position(|arg| arg == name)?;
    args.get(at + 1).map(String::as_str)
}

/// The id of a fork: another one for each process.
fn forked(parent: &str) -> String {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    let own = (since.as_nanos() as u64) << 16 ^ u64::from(std::process::id());
    let tail = parent.get(8..24).unwrap_or("-0000-4000-8000-");
    format!("{:08x}{tail}{:012x}", own as u32, own >> 16 & 0xffff_ffff_ffff)
}

fn run(args: &[String]) -> io::Result<i32> {
    let json = value(args, "--output-format") == Some("stream-json");
    let begin = value(args, "--session-id");
    let resume = value(args, "--resume");
    let fork = resume.filter(|_| args.iter().any(|arg| arg == "--fork-session"));
    let forked = fork.map(forked);
    let session = forked.as_deref().or(resume).or(begin).unwrap_or(if json {
        "00000000-0000-4000-8000-000000000000"
    } else {
        "plain"
    });
    let model = value(args, "--model").unwrap_or("scripted").to_owned();
    let state = ["CLDPD_SCRIPTED_STATE", "HOME"]
        .iter()
        .find_map(std::env::var_os);
    let state = state.map_or_else(|| PathBuf::from("."), PathBuf::from);
    let mut agent = Agent {
        voice: Voice::new(json, session.to_owned(), model)?,
        prompt: Vec::new(),
        conversation: state.join(format!("conversation-{}", session.replace('/', "_"))),
        kept: Vec::new(),
        inbox: None,
    };
    if json {
        sys::exit_on(sys::TERM, 128 + sys::TERM, 0, 2, Vec::new());
        sys::exit_on(sys::INT, 0, 0, 1, agent.voice.interrupted());
    }
    let messages = value(args, "--input-format") == Some("stream-json");
    let mut first = None;
    if messages {
        let out = agent.voice.out.try_clone()?;
        let inbox = Inbox::open(move |id, dropped| voice::answer_control(&out, id, dropped));
        if let Next::Message(message) = inbox.next() {
            agent.prompt.clone_from(&message.text);
            first = Some(message);
        }
        agent.inbox = Some(inbox);
    } else {
        io::stdin().read_to_end(&mut agent.prompt)?;
    }
    if json {
        if let Some(parent) = fork {
            let parent = state.join(format!("conversation-{parent}"));
            if parent.exists() {
                std::fs::copy(&parent, &agent.conversation)?;
            }
        }
        if let Some(code) = agent.begin(args, begin, resume)? {
            return Ok(code);
        }
    }
    let script = std::env::var_os("CLDPD_SCRIPT").map(OsStringExt::into_vec);
    let mut script = script.unwrap_or_default();
    let mut code = 0;
    while let Some(message) = first.take() {
        agent.voice.init()?;
        agent.voice.heard(&message)?;
        agent.prompt.clone_from(&message.text);
        code = match agent.turn([&std::mem::take(&mut script), &message.text])? {
            Turn::Exit(code) => return agent.voice.finish(Some(code)),
            Turn::Interrupted => agent.voice.aborted()?,
            Turn::Done => agent.voice.finish(None)?,
        };
        first = agent.inbox.as_ref().and_then(Inbox::message);
    }
    if messages {
        return Ok(code);
    }
    agent.voice.init()?;
    let prompt = agent.prompt.clone();
    match agent.turn([&script, &prompt])? {
        Turn::Exit(code) => agent.voice.finish(Some(code)),
        Turn::Interrupted | Turn::Done => agent.voice.finish(None),
    }
}

/// How a turn ended.
enum Turn {
    Done,
    Exit(i32),
    Interrupted,
}

impl Agent {
    /// Performs what these say.
    fn turn(&mut self, texts: [&[u8]; 2]) -> io::Result<Turn> {
        for directive in texts.into_iter().flat_map(directives) {
            if self.inbox.as_ref().is_some_and(Inbox::was_interrupted) {
                return Ok(Turn::Interrupted);
            }
            let done = match directive {
                b"hear" => self.hear(),
                _ => self.perform(directive).map(|code| code.map(Turn::Exit)),
            };
            let done = done.map_err(|error| {
                let shown =
                    String::from_utf8_lossy(&directive[..directive.len().min(80)]).into_owned();
                io::Error::new(error.kind(), format!("[[{shown}]]: {error}"))
            })?;
            if let Some(done) = done {
                return Ok(done);
            }
        }
        Ok(Turn::Done)
    }

    /// Waits for a further message, and does what it says.
    fn hear(&mut self) -> io::Result<Option<Turn>> {
        let inbox = self.inbox.as_ref();
        let inbox = inbox.ok_or_else(|| bad("has to be told --input-format stream-json"))?;
        match inbox.next() {
            Next::Message(message) => {
                self.voice.heard(&message)?;
                let turn = self.turn([&message.text, b""])?;
                Ok((!matches!(turn, Turn::Done)).then_some(turn))
            }
            Next::Interrupt => Ok(Some(Turn::Interrupted)),
            Next::End => Ok(None),
        }
    }

    /// What Claude Code refuses, and the conversation's file.
    fn begin(
        &mut self,
        args: &[String],
        begin: Option<&str>,
        resume: Option<&str>,
    ) -> io::Result<Option<i32>> {
        let refused = |args: &[String]| {
            let skip = args
                .iter()
                .any(|arg| arg == "--dangerously-skip-permissions");
            if !args.iter().any(|arg| arg == "--verbose") {
                return Some("stream-json needs --verbose".to_owned());
            }
            if skip && sys::is_root() && std::env::var("IS_SANDBOX").as_deref() != Ok("1") {
                return Some("permissions cannot be skipped as root outside a sandbox".to_owned());
            }
            match begin {
                Some(id) if !is_uuid(id) => Some("invalid session id: not a UUID".to_owned()),
                Some(id) if self.conversation.exists() => {
                    Some(format!("session id {id} is already in use"))
                }
                _ if self.prompt.is_empty() => Some("no prompt".to_owned()),
                _ => None,
            }
        };
        if let Some(refused) = refused(args) {
            self.voice.complain(&format!("Error: {refused}"))?;
            return Ok(Some(1));
        }
        match resume {
            Some(id) if !self.conversation.exists() => {
                let text = format!("No conversation found with session ID: {id}");
                self.voice.complain(&text)?;
                self.voice.set_result(voice::Result {
                    is_error: Some(true),
                    text: Some(text),
                    ..voice::Result::default()
                });
                return self.voice.finish(Some(1)).map(Some);
            }
            Some(_) => {}
            None => self.remember(b"")?,
        }
        Ok(None)
    }

    fn remember(&mut self, text: &[u8]) -> io::Result<()> {
        let mut options = OpenOptions::new();
        options
            .create(true)
            .append(true)
            .open(&self.conversation)?
            .write_all(text)
    }

    fn say(&mut self, text: impl AsRef<str>) -> io::Result<()> {
        self.voice.say(text.as_ref().as_bytes())
    }

    /// `make(line, number)` for 1 to `n`, through one buffer.
    fn many(out: &File, n: u64, mut make: impl FnMut(&mut Vec<u8>, u64)) -> io::Result<()> {
        let mut writer = BufWriter::with_capacity(1 << 16, out);
        let mut line = Vec::new();
        for number in 1..=n {
            line.clear();
            make(&mut line, number);
            writer.write_all(&line)?;
        }
        writer.flush()
    }

    /// Performs one directive; an exit code when it ends the agent.
    fn perform(&mut self, directive: &[u8]) -> io::Result<Option<i32>> {
        let space = directive.iter().position(|b| *b == b' ');
        let (name, rest) = match space {
            Some(space) => (&directive[..space], &directive[space + 1..]),
            None => (directive, &[][..]),
        };
        let text = String::from_utf8_lossy(rest).into_owned();
        let words: Vec<&str> = text.split_whitespace().collect();
        match name {
            b"print" => self.voice.say(rest)?,
            b"err" => self.voice.err.write_all(&[rest, b"\n"].concat())?,
            b"open" => self.voice.out.write_all(rest)?,
            b"raw" => self.voice.out.write_all(&hex(&text)?)?,
            b"lines" => {
                let length = if words.len() > 1 {
                    count(&words, 1)? as usize
                } else {
                    0
                };
                Self::many(&self.voice.out, count(&words, 0)?, |line, n| {
                    numbered(line, "line", n, length)
                })?;
            }
            b"linesflush" => {
                let length = if words.len() > 1 {
                    count(&words, 1)? as usize
                } else {
                    0
                };
                let mut line = Vec::new();
                for n in 1..=count(&words, 0)? {
                    line.clear();
                    numbered(&mut line, "line", n, length);
                    self.voice.out.write_all(&line)?;
                }
            }
            b"errlines" => Self::many(&self.voice.err, count(&words, 0)?, |line, n| {
                numbered(line, "err", n, 0)
            })?,
            b"mixed" => {
                for n in 1..=count(&words, 0)? {
                    self.voice
                        .out
                        .write_all(format!("out {n:07}\n").as_bytes())?;
                    self.voice
                        .err
                        .write_all(format!("err {n:07}\n").as_bytes())?;
                }
            }
            b"long" => {
                let mut line: Vec<u8> = (b'a'..=b'z')
                    .cycle()
                    .take(count(&words, 0)? as usize)
                    .collect();
                line.push(b'\n');
                self.voice.out.write_all(&line)?;
            }
            b"sleep" => sleep(pause(&words, 0)?),
            b"spin" => {
                let end = Instant::now() + pause(&words, 0)?;
                while Instant::now() < end {
                    std::hint::spin_loop();
                }
            }
            b"tick" => {
                for n in 1..=count(&words, 0)? {
                    sleep(pause(&words, 1)?);
                    self.say(format!("tick {n}"))?;
                }
            }
            b"tally" => {
                let path = *words.first().ok_or_else(|| bad("a path is missing"))?;
                for n in 1..=count(&words, 1)? {
                    sleep(pause(&words, 2)?);
                    self.say(format!("tick {n}"))?;
                    append(path, ".")?;
                }
            }
            b"stamp" => {
                for _ in 0..count(&words, 0)? {
                    sleep(pause(&words, 1)?);
                    let since = SystemTime::now().duration_since(UNIX_EPOCH);
                    self.say(since.unwrap_or_default().as_nanos().to_string())?;
                }
            }
            b"flood" => {
                let end = Instant::now() + pause(&words, 0)?;
                let mut first = 0;
                while Instant::now() < end {
                    Self::many(&self.voice.out, 1000, |line, n| {
                        numbered(line, "flood", first + n, 0)
                    })?;
                    first += 1000;
                }
            }
            b"fifo" => {
                File::open(&text)?.read_to_end(&mut Vec::new())?;
            }
            b"exit" => return count(&words, 0).map(|code| Some(code as i32)),
            b"die" => sys::die(sig(&words, 0)?),
            b"ignore" => sys::ignore(sig(&words, 0)?),
            b"on" => {
                let delay = match words[..] {
                    [_, "exit", _] => 0,
                    [_, "exit", _, "after", _] => count(&words, 4)?,
                    _ => return Err(bad("has to be: on SIG exit N [after MS]")),
                };
                let words_then = format!("caught {}\n", words[0]).into_bytes();
                sys::exit_on(
                    sig(&words, 0)?,
                    count(&words, 2)? as i32,
                    delay,
                    2,
                    words_then,
                );
            }
            b"orphan" => {
                let mut child = Command::new("/proc/self/exe");
                child.arg("--orphan").args(&words).stdin(Stdio::null());
                child.spawn()?.wait()?;
            }
            b"env" => match std::env::var_os(&text) {
                Some(value) => self
                    .voice
                    .say(&[text.as_bytes(), b"=", value.as_bytes()].concat())?,
                None => self.say(format!("{text} is not set"))?,
            },
            b"envall" => {
                let mut all: Vec<_> = std::env::vars_os().collect();
                all.sort();
                for (name, value) in all {
                    self.voice
                        .say(&[name.as_bytes(), b"=", value.as_bytes()].concat())?;
                }
            }
            b"args" => {
                for (n, arg) in std::env::args_os().enumerate() {
                    self.voice
                        .say(&[format!("arg {n}: ").as_bytes(), arg.as_bytes()].concat())?;
                }
            }
            b"cwd" => {
                let cwd = std::env::current_dir()?;
                self.voice
                    .say(&[b"cwd: ", cwd.as_os_str().as_bytes()].concat())?;
            }
            b"echo" => {
                let (length, hash) = (self.prompt.len(), fnv(&self.prompt));
                self.say(format!("prompt: {length} bytes, fnv {hash:016x}"))?;
                let prompt = std::str::from_utf8(&self.prompt)
                    .ok()
                    .filter(|p| p.len() <= 200);
                if let Some(prompt) = prompt.map(|prompt| format!("prompt: {prompt}")) {
                    self.say(prompt)?;
                }
            }
            b"stdin" => {
                let more = io::stdin().read(&mut [0])?;
                self.say(if more == 0 {
                    "stdin: at its end"
                } else {
                    "stdin: open"
                })?;
            }
            b"write" => {
                let (path, contents) = text
                    .split_once(' ')
                    .ok_or_else(|| bad("has to be: write PATH TEXT"))?;
                fs::write(path, contents)?;
            }
            b"append" => {
                let (path, contents) = text
                    .split_once(' ')
                    .ok_or_else(|| bad("has to be: append PATH TEXT"))?;
                append(path, contents)?;
            }
            b"read" => {
                let contents = fs::read(&text)?;
                self.voice.say(&contents)?;
            }
            b"touch" => drop(OpenOptions::new().create(true).append(true).open(&text)?),
            b"alloc" => {
                let megabytes = count(&words, 0)?;
                self.kept.push(vec![1; (megabytes as usize) << 20]);
                self.say(format!("allocated {megabytes} MB"))?;
            }
            b"glut" => {
                let megabytes = count(&words, 0)?.to_string();
                let mut child = Command::new("/proc/self/exe");
                let status = child.args(["--glut", &megabytes]).status()?;
                self.say(format!("glut: {status}"))?;
            }
            b"remember" => self.remember(&[rest, b"\n"].concat())?,
            b"recall" => {
                let lines = fs::read(&self.conversation).unwrap_or_default();
                if lines.is_empty() {
                    self.say("recalled nothing")?;
                }
                for line in lines.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
                    self.voice.say(&[b"recalled: ", line].concat())?;
                }
            }
            b"tool" => {
                let (name, what) = text
                    .split_once(' ')
                    .ok_or_else(|| bad("has to be: tool NAME TEXT"))?;
                self.voice.tool(name, what)?;
            }
            b"retry" => self.voice.retry(count(&words, 0)? as u16)?,
            b"done" => drop(self.voice.finish(None)?),
            b"turn" => {
                self.voice.finish(None)?;
                self.voice.init()?;
            }
            b"result" => self.voice.set_result(result(&text)?),
            b"refuse" => {
                let before = fs::read(&self.conversation).unwrap_or_default();
                let before = before.split(|b| *b == b'\n');
                if (before.filter(|line| *line == b"refused").count() as u64) < count(&words, 0)? {
                    self.remember(b"refused\n")?;
                    let what = text.splitn(3, ' ').nth(2).unwrap_or_default();
                    self.voice.set_result(result(&format!(
                        "subtype=success is_error=true terminal_reason=api_error api_error_status={} text={what}",
                        count(&words, 1)?
                    ))?);
                    return Ok(Some(1));
                }
            }
            b"maxturns" => self.voice.set_result(result(
                "subtype=error_max_turns is_error=true terminal_reason=max_turns",
            )?),
            b"noresult" => self.voice.set_silent(),
            _ => return Err(bad("no such directive")),
        }
        Ok(None)
    }
}

fn append(path: &str, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    file.write_all(text.as_bytes())
}

/// Standard input to standard output, as it comes.
fn cat() -> io::Result<i32> {
    io::copy(&mut io::stdin().lock(), &mut io::stdout().lock())?;
    io::stdout().flush()?;
    Ok(0)
}
