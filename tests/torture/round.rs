//! A round: what is asked of a daemon while it dies again and again.

use super::check;
use super::life::{self, Errand, Life};
use super::script::Script;
use super::shims::Shims;
use super::steered;
use crate::support::process::Proc;
use crate::support::{Dice, TestEnv};
use std::time::Duration;

/// Sessions that are live at once, at least.
const LOCAL: usize = 20;
/// How many may be, fewer than there are in any round: whoever comes later waits.
const SLOTS: usize = LOCAL;
/// No more begin at once.
const FIRST: usize = LOCAL + 8;

/// The pods that all rounds of a home share.
pub struct Pods {
    local: String,
    /// Its agent speaks stream-json.
    claude: String,
    docker: String,
    /// Its agent takes messages while it works.
    steered: String,
}

impl Pods {
    /// Makes them.
    pub fn make(env: &TestEnv) -> Self {
        env.config(&format!("[limits]\nmax_parallel = {SLOTS}\n"));
        Self {
            local: env.local_pod("torture-l").plain().make(),
            claude: env.local_pod("torture-c").make(),
            docker: env.docker_pod("torture-d").plain().make(),
            steered: env
                .local_pod("torture-s")
                .json(serde_json::json!({"steer": true}))
                .make(),
        }
    }
}

/// How a round went.
pub struct Played {
    /// In a few words.
    pub what: String,
    /// What differed.
    pub faults: Vec<String>,
    /// Its sessions, which the next round removes.
    pub names: Vec<String>,
}

/// A session that was asked for.
pub struct Asked {
    /// Its name, and the token of its first run.
    pub name: String,
    /// Its runs' scripts; the first is the session's first.
    pub scripts: Vec<Script>,
    /// On the engine.
    pub docker: bool,
    /// Its agent takes messages while it works.
    pub steered: bool,
    /// All that it has goes with its end.
    pub gone: bool,
    /// Somebody asked for its end.
    pub stopped: bool,
    /// Somebody asked for it to go.
    pub removed: bool,
    /// Its shims, or their keepers, die.
    pub dies: bool,
}

/// What a command that runs is for, and has to come to.
pub enum Aim {
    /// The session's first run, or a further one, by its place.
    Run { session: usize, script: usize },
    /// Something beside its agent, that says this and exits so.
    Exec { says: String, code: i32 },
    /// Anything else.
    Other,
}

/// Everything that was asked for in a round.
pub struct Round<'e> {
    env: &'e TestEnv,
    pods: &'e Pods,
    dice: Dice,
    seed: u64,
    label: String,
    sessions: Vec<Asked>,
    errands: Vec<(Aim, Proc)>,
    armed: String,
    shims: Shims,
    /// Shims were frozen for a while.
    frozen: bool,
}

/// Plays the round of that seed, after one that left the sessions `old`.
/// Everything is stopped for `asleep` in its first life, if that is given.
pub fn play(
    env: &TestEnv,
    pods: &Pods,
    seed: u64,
    old: &[String],
    asleep: Option<Duration>,
) -> Played {
    let mut round = Round {
        env,
        pods,
        dice: Dice::new(seed),
        seed,
        label: format!("round={seed}"),
        sessions: Vec::new(),
        errands: Vec::new(),
        armed: String::new(),
        shims: Shims::roll(seed, FIRST),
        frozen: false,
    };
    // The one of the round before is not armed.
    life::kill_all(env);
    let lives = 3 + round.dice.roll(3);
    let mut died = Vec::new();
    for number in 0..lives {
        let life = Life::roll(&mut round.dice, number == 0);
        round.armed.clone_from(&life.armed);
        round.begin(life.errand);
        round.steer(number);
        if let (0, Some(pause)) = (number, asleep) {
            round.frozen = true;
            life::suspend(env, pause);
        }
        if number == 1 && !old.is_empty() {
            let mut remove = vec!["rm", "--history"];
            remove.extend(old.iter().map(String::as_str));
            round.other(&remove);
        }
        died.push(life.end(env));
    }
    if round.frozen {
        life::thaw_shims(env);
    }
    let mut faults = round.join();
    // The last one has nothing to fear.
    life::kill_all(env);
    env.start_daemon();
    faults.extend(check::all(env, &round.label, &round.sessions, round.frozen));
    let docker = round.sessions.iter().filter(|asked| asked.docker).count();
    let dying = (0..round.sessions.len()).filter_map(|number| round.shims.dies(number));
    let scripts = || round.sessions.iter().flat_map(|asked| &asked.scripts);
    Played {
        what: format!(
            "{} sessions ({docker} in containers, {} whose shims die), {} runs ({} on forks), {lives} lives [{}]",
            round.sessions.len(),
            dying.count(),
            scripts().count(),
            scripts().filter(|script| script.fork).count(),
            died.join(" ")
        ),
        faults,
        names: round.sessions.into_iter().map(|asked| asked.name).collect(),
    }
}

impl Round<'_> {
    /// What is asked for at the beginning of a life.
    fn begin(&mut self, errand: Errand) {
        let daemon = self.command(&["daemon", "start"]).spawn();
        if errand == Errand::Start || self.dice.percent(30) {
            // It is met, and may die, before it is ready.
            self.errands.push((Aim::Other, daemon));
        } else {
            drop(daemon.finish());
        }
        if errand == Errand::Start {
            let docker = 2 + self.dice.index(2);
            for number in 0..LOCAL + docker + self.dice.index(6) {
                self.start((LOCAL..LOCAL + docker).contains(&number));
            }
        } else {
            self.disturb(errand);
            for _ in 0..self.dice.roll(5) {
                self.disturb(Errand::Nothing);
            }
            if self.dice.percent(25) {
                self.frozen = true;
                life::freeze_shims(self.env, 1 + self.dice.index(3));
            }
        }
    }

    fn command(&self, args: &[&str]) -> crate::support::process::Cmd {
        let seed = self.seed;
        let shims = self.shims.armed(|number| token(seed, number));
        let command = self.env.cldpd(args).env("CLDPD_SHIM_FAILPOINTS", shims);
        match self.armed.is_empty() {
            true => command,
            false => command.env("CLDPD_FAILPOINTS", &self.armed),
        }
    }

    fn script(&mut self, millis: u64, json: bool) -> Script {
        let number: usize = self.sessions.iter().map(|s| s.scripts.len()).sum();
        let token = token(self.seed, number);
        Script::compose(&mut self.dice, token, &self.env.shared(), millis, json)
    }

    fn message(&self, token: String, millis: u64) -> Script {
        let mut dice = Dice::new(self.seed ^ millis);
        steered::compose(&mut dice, token, &self.env.shared(), millis)
    }

    /// Messages to agents that take them, beside whatever else is asked for.
    fn steer(&mut self, life: u64) {
        let mut dice = Dice::new(self.seed * 100 + life);
        let steered = |session: &usize| self.sessions[*session].steered;
        let steered: Vec<usize> = (0..self.sessions.len()).filter(steered).collect();
        for _ in 0..dice.roll(8) {
            let session = *dice.pick(&steered);
            let number: usize = self.sessions.iter().map(|s| s.scripts.len()).sum();
            let millis = 50 + dice.roll(300);
            let script = self.message(token(self.seed, number), millis);
            self.resume(session, script);
        }
    }

    fn resume(&mut self, session: usize, mut script: Script) {
        let asked = &self.sessions[session];
        let mut args = vec!["resume", "-d", &asked.name, "--prompt-file", "-"];
        // Dice of their own here, too.
        let number = asked.scripts.len() as u64;
        let mut dice = Dice::new(self.seed * 100 + 50 + number);
        let converses = asked.steered || asked.scripts[0].texts.is_some();
        script.fork = converses && dice.percent(30);
        args.extend(script.fork.then_some("--fork"));
        let prompt = script.prompt.clone();
        let command = self.command(&args).stdin(prompt).spawn();
        let runs = &mut self.sessions[session].scripts;
        runs.push(script);
        let script = runs.len() - 1;
        self.errands.push((Aim::Run { session, script }, command));
    }

    fn start(&mut self, docker: bool) {
        let millis = 1500 + self.dice.roll(1200);
        let json = !docker && self.dice.percent(30);
        let gone = !docker && self.dice.percent(10);
        let mut script = self.script(millis, json);
        // Dice of their own: a seed makes the same other choices as before.
        let steered = !docker && !json && self.sessions.len() % 4 == 3;
        if steered {
            script = self.message(script.token, millis);
        }
        let pod = match (docker, json) {
            _ if steered => &self.pods.steered,
            (true, _) => &self.pods.docker,
            (false, true) => &self.pods.claude,
            (false, false) => &self.pods.local,
        };
        let (name, prompt) = (script.token.clone(), script.prompt.clone());
        let label = &self.label;
        let mut args = vec![
            "start",
            "-d",
            pod,
            "--name",
            &name,
            "--label",
            label,
            "--prompt-file",
            "-",
        ];
        args.extend(gone.then_some("--rm"));
        let command = self.command(&args).stdin(prompt).spawn();
        let session = self.sessions.len();
        self.errands
            .push((Aim::Run { session, script: 0 }, command));
        self.sessions.push(Asked {
            name,
            scripts: vec![script],
            docker,
            steered,
            gone,
            stopped: false,
            removed: false,
            dies: self.shims.dies(session).is_some(),
        });
    }

    /// Somebody does something to a session, or to the journal.
    fn disturb(&mut self, errand: Errand) {
        let session = match errand {
            Errand::Resume if self.dice.percent(50) => LOCAL,
            _ => self.dice.index(self.sessions.len()),
        };
        let name = self.sessions[session].name.clone();
        let chance = match errand {
            Errand::Nothing | Errand::Start => self.dice.roll(20),
            Errand::Resume => 0,
            Errand::Stop => 9,
            Errand::Remove => 16,
            Errand::Compact => 17,
        };
        match chance {
            0..9 => {
                let millis = 100 + self.dice.roll(400);
                let json = self.sessions[session].scripts[0].texts.is_some();
                let mut script = self.script(millis, json);
                if self.sessions[session].steered {
                    script = self.message(script.token, millis);
                }
                self.resume(session, script);
            }
            9..13 => {
                self.sessions[session].stopped = true;
                let grace = *self.dice.pick(&["0", "5"]);
                self.other(&["stop", "-t", grace, &name]);
            }
            13..16 => {
                let code = i32::try_from(self.dice.roll(99)).expect("small");
                let lines = self.dice.index(500) + 1;
                let told = format!("[[lines {lines}]][[exit {code}]]");
                let args = ["exec", "-i", &name, "--", "claude"];
                let command = self.command(&args).stdin(told).spawn();
                let says = crate::support::numbered(lines);
                self.errands.push((Aim::Exec { says, code }, command));
            }
            16 => {
                let asked = &mut self.sessions[session];
                asked.stopped = true;
                asked.removed = true;
                self.other(&["rm", "-f", "--history", &name]);
            }
            17 => self.other(&["journal", "compact"]),
            18 => self.other(&["sessions", "-a"]),
            _ => self.other(&["logs", &name]),
        }
    }

    fn other(&mut self, args: &[&str]) {
        let command = self.command(args).spawn();
        self.errands.push((Aim::Other, command));
    }

    /// Waits for all commands. What was told to be there has to be.
    fn join(&mut self) -> Vec<String> {
        let mut faults = Vec::new();
        for (errand, command) in std::mem::take(&mut self.errands) {
            let Some(done) = command.try_finish() else {
                faults.push("a command does not end".to_owned());
                continue;
            };
            match errand {
                Aim::Run { session, script } => {
                    let run = &mut self.sessions[session].scripts[script];
                    run.promised = done.code == 0;
                }
                Aim::Exec { says, code } => {
                    let whole = done.code == code && code < 100 && done.stdout == says.as_bytes();
                    // Cut off with its daemon, it says so.
                    let cut = done.code >= 125 && says.as_bytes().starts_with(&done.stdout);
                    if !whole && !cut {
                        let said = done.stdout.len();
                        faults.push(format!(
                            "an exec that exits with {code} and says {} bytes: {}, {said} bytes: {}",
                            says.len(),
                            done.code,
                            done.stderr
                        ));
                    }
                }
                Aim::Other => {}
            }
        }
        faults
    }
}

/// What names a script, and the session that begins with it.
fn token(seed: u64, number: usize) -> String {
    format!("t{seed}-{number}")
}
