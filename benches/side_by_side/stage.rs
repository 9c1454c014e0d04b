//! A home, an image and what was started of it; all of it goes with the [`Stage`].

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::error::Error;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// Anything that keeps a figure from being taken.
pub type Failure = Box<dyn Error>;

const CLDPD: &str = env!("CARGO_BIN_EXE_cldpd");
const AGENT: &str = env!("CLDPD_SCRIPTED_AGENT");

static COUNT: AtomicU32 = AtomicU32::new(0);

/// Memory of a process, in KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rss {
    /// What no file is behind.
    pub anonymous: u64,
    /// All of it.
    pub all: u64,
}

/// Where it is played.
pub struct Stage {
    root: PathBuf,
    /// The name of the pod, the image and, as a beginning, of docker's containers.
    name: String,
}

impl Stage {
    /// Makes a home with two pods; nothing runs yet.
    pub fn new() -> Result<Self, Failure> {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("cldpd-bench-{}-{number}", std::process::id());
        let root = std::env::temp_dir().join(&name);
        fs::create_dir(&root)?;
        fs::set_permissions(&root, fs::Permissions::from_mode(0o700))?;
        let stage = Self { root, name };
        let pod = stage.pod("docker")?;
        fs::copy(AGENT, pod.join("agent"))?;
        fs::write(
            pod.join("Dockerfile"),
            "FROM scratch\nCOPY agent /agent\nENTRYPOINT [\"/agent\"]\n",
        )?;
        let settings = serde_json::json!({ "agent": "command", "image": stage.name });
        fs::write(pod.join("pod.json"), settings.to_string())?;
        let pod = stage.pod("local")?;
        let settings = serde_json::json!({
            "agent": "command", "runtime": "local", "entrypoint": [AGENT],
        });
        fs::write(pod.join("Dockerfile"), "FROM scratch\n")?;
        fs::write(pod.join("pod.json"), settings.to_string())?;
        fs::write(
            stage.home().join("config.toml"),
            "[limits]\nmax_parallel = 300\n",
        )?;
        run(Command::new("mkfifo").arg(stage.fifo()))?;
        Ok(stage)
    }

    fn home(&self) -> PathBuf {
        self.root.join("home")
    }

    /// Where local agents can be told to wait.
    pub fn fifo(&self) -> String {
        self.root.join("fifo").display().to_string()
    }

    /// Lets everybody through who waits there.
    pub fn open_fifo(&self) -> Result<(), Failure> {
        drop(fs::OpenOptions::new().write(true).open(self.fifo())?);
        Ok(())
    }

    fn pod(&self, name: &str) -> Result<PathBuf, Failure> {
        let dir = self.home().join("pods").join(name);
        fs::create_dir_all(&dir)?;
        fs::set_permissions(self.home(), fs::Permissions::from_mode(0o700))?;
        Ok(dir)
    }

    fn cldpd(&self, args: &[&str]) -> Command {
        let mut command = Command::new(CLDPD);
        command
            .args(args)
            .env("CLDPD_HOME", self.home())
            .stdin(Stdio::null());
        command
    }

    /// Builds the image, and has everything run once.
    pub fn warm_up(&self) -> Result<(), Failure> {
        run(&mut self.cldpd(&["start", "docker", "--prompt", "[[print ready]]"]))?;
        self.docker_run(&self.container("warm", 0), "[[print ready]]")?;
        self.clear()
    }

    /// Starts the daemon.
    pub fn start_daemon(&self) -> Result<(), Failure> {
        run(&mut self.cldpd(&["daemon", "start"])).map(drop)
    }

    /// `cldpd start -d`: returns the id.
    pub fn start(&self, prompt: &str) -> Result<String, Failure> {
        let output = run(&mut self.cldpd(&["start", "-d", "docker", "--prompt", prompt]))?;
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }

    /// The same, `count` times, of local processes.
    pub fn start_local(&self, count: usize, prompt: &str) -> Result<Vec<String>, Failure> {
        self.start_all("local", count, prompt)
    }

    /// The same, `count` times, in containers.
    pub fn start_many(&self, count: usize, prompt: &str) -> Result<Vec<String>, Failure> {
        self.start_all("docker", count, prompt)
    }

    fn start_all(&self, pod: &str, count: usize, prompt: &str) -> Result<Vec<String>, Failure> {
        let count = count.to_string();
        let args = ["start", "-d", pod, "--count", &count, "--prompt", prompt];
        let output = run(&mut self.cldpd(&args))?;
        let text = String::from_utf8(output.stdout)?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// Returns when the sessions' programs run, as a follower learns it: the
    /// event is durable then, and has come out of another process.
    pub fn await_started(&self, sessions: &[String]) -> Result<(), Failure> {
        let mut args = vec!["logs", "-f", "--format", "jsonl"];
        args.extend(sessions.iter().map(String::as_str));
        let mut child = self.cldpd(&args).stdout(Stdio::piped()).spawn()?;
        let lines = BufReader::new(child.stdout.take().ok_or("no pipe")?).lines();
        let mut missing = sessions.len();
        for line in lines {
            if line?.contains("\"container_started\"") {
                missing -= 1;
            }
            if missing == 0 {
                break;
            }
        }
        child.kill()?;
        child.wait()?;
        match missing {
            0 => Ok(()),
            some => Err(format!("{some} of {} did not start", sessions.len()).into()),
        }
    }

    /// When the first run's events were made, in milliseconds since the first.
    pub fn phases(&self, session: &str) -> Result<Vec<(String, f64)>, Failure> {
        let output = run(&mut self.cldpd(&["logs", "--format", "jsonl", session]))?;
        let mut all = Vec::new();
        let mut first = None;
        for line in output.stdout.lines() {
            let event: serde_json::Value = serde_json::from_str(&line?)?;
            let (Some(kind), Some(time)) = (event["kind"].as_str(), event["time"].as_str()) else {
                continue;
            };
            let time = chrono::DateTime::parse_from_rfc3339(time)?;
            let since = time - *first.get_or_insert(time);
            let micros = since.num_microseconds().unwrap_or_default();
            all.push((kind.to_owned(), micros as f64 / 1000.0));
        }
        Ok(all)
    }

    /// A file of its own.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Two pods that say what is in a file: `typed` as Claude Code does, `raw` as lines.
    pub fn reading_pods(&self, file: &Path) -> Result<(), Failure> {
        for (name, output) in [("typed", "claude"), ("raw", "plain")] {
            let pod = self.pod(name)?;
            let settings = serde_json::json!({
                "agent": "command", "runtime": "local", "entrypoint": ["/bin/cat", file],
                "command": { "output": output },
            });
            fs::write(pod.join("Dockerfile"), "FROM scratch\n")?;
            fs::write(pod.join("pod.json"), settings.to_string())?;
        }
        Ok(())
    }

    /// Runs a pod to its end, which is durable then.
    pub fn run_pod(&self, pod: &str) -> Result<(), Failure> {
        let output = run(&mut self.cldpd(&["start", "-d", pod, "--prompt", "x"]))?;
        let session = String::from_utf8(output.stdout)?;
        // What is said there has no result of its own at its end.
        self.cldpd(&["wait", session.trim()])
            .stdout(Stdio::null())
            .status()?;
        Ok(())
    }

    /// `cldpd wait`: returns when the session's end is durable.
    pub fn wait(&self, session: &str) -> Result<(), Failure> {
        run(&mut self.cldpd(&["wait", session])).map(drop)
    }

    /// `cldpd sessions`.
    pub fn list(&self) -> Result<(), Failure> {
        run(&mut self.cldpd(&["sessions"])).map(drop)
    }

    /// `cldpd logs`, to nowhere.
    pub fn replay(&self, session: &str) -> Result<(), Failure> {
        run(self.cldpd(&["logs", session]).stdout(Stdio::null())).map(drop)
    }

    /// `cldpd logs --format jsonl`, to nowhere.
    pub fn replay_events(&self, session: &str) -> Result<(), Failure> {
        let args = ["logs", "--format", "jsonl", session];
        run(self.cldpd(&args).stdout(Stdio::null())).map(drop)
    }

    /// `cldpd logs -f`, not started yet.
    pub fn following(&self, session: &str) -> Command {
        self.cldpd(&["logs", "-f", session])
    }

    /// Every line is there, once, in order, and whole.
    pub fn check_replay(&self, session: &str, count: usize, length: usize) -> Result<(), Failure> {
        let mut child = self
            .cldpd(&["logs", "--raw", session])
            .stdout(Stdio::piped())
            .spawn()?;
        let lines = BufReader::new(child.stdout.take().ok_or("no pipe")?).lines();
        let mut found = 0;
        for line in lines {
            let line = line?;
            found += 1;
            if line.len() != length || !line.starts_with(&format!("line {found:07} ")) {
                return Err(format!("line {found} of {session} is {line:?}").into());
            }
        }
        child.wait()?;
        if found == count {
            return Ok(());
        }
        Err(format!("{found} lines of {count} were recorded").into())
    }

    /// Memory of the daemon.
    pub fn daemon_memory(&self) -> Result<Rss, Failure> {
        rss(self.daemon_pid()?)
    }

    fn daemon_pid(&self) -> Result<u64, Failure> {
        let output = run(&mut self.cldpd(&["daemon", "status", "--format", "json"]))?;
        let status: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        Ok(status["pid"].as_u64().ok_or("the daemon says no pid")?)
    }

    /// Kills the daemon, and waits until it is gone.
    pub fn kill_daemon(&self) -> Result<(), Failure> {
        kill(self.daemon_pid()?)
    }

    /// Kills the containers of these sessions' first runs, and waits for their ends.
    pub fn kill_containers(&self, sessions: &[String]) -> Result<(), Failure> {
        let names: Vec<String> = sessions.iter().map(|id| format!("cldpd-{id}-r0")).collect();
        run(Command::new("docker").arg("kill").args(&names))?;
        run(Command::new("docker").arg("wait").args(&names)).map(drop)
    }

    /// `cldpd wait`: returns when the ends of all of them are known.
    pub fn wait_all(&self, sessions: &[String]) -> Result<(), Failure> {
        let mut args = vec!["wait"];
        args.extend(sessions.iter().map(String::as_str));
        // It exits as they do.
        self.cldpd(&args).output()?;
        Ok(())
    }

    /// State and exit code of each session that a list of all shows.
    pub fn standing(&self) -> Result<Vec<(String, Option<u64>)>, Failure> {
        let output = run(&mut self.cldpd(&["sessions", "-a", "--json"]))?;
        let list: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout)?;
        let one = |session: &serde_json::Value| {
            let state = session["state"].as_str().unwrap_or_default();
            (state.to_owned(), session["code"].as_u64())
        };
        Ok(list.iter().map(one).collect())
    }

    /// Memory of the shim in the middle of all of this home's.
    pub fn shim_memory(&self) -> Result<Rss, Failure> {
        let home = self.home().display().to_string();
        let mut all = Vec::new();
        for entry in fs::read_dir("/proc")? {
            let name = entry?.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            // A process that has just ended has no command line any more.
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line);
            if line.contains("\0serve\0") && line.contains(&home) {
                all.push(rss(pid)?);
            }
        }
        all.sort();
        all.get(all.len() / 2)
            .copied()
            .ok_or_else(|| "no shim runs".into())
    }

    /// A container's name for docker.
    pub fn container(&self, what: &str, number: usize) -> String {
        format!("{}-{what}-{number}", self.name)
    }

    /// `docker run -i`, with the prompt on standard input, output to nowhere.
    pub fn docker_run(&self, name: &str, prompt: &str) -> Result<(), Failure> {
        let mut child = Command::new("docker")
            .args(["run", "-i", "--name", name, &self.name])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()?;
        child
            .stdin
            .take()
            .ok_or("no pipe")?
            .write_all(prompt.as_bytes())?;
        match child.wait()?.success() {
            true => Ok(()),
            false => Err(format!("docker run {name} failed").into()),
        }
    }

    /// `docker run -d`. A detached container has no input, so the script goes in a variable.
    pub fn docker_start(&self, name: &str, script: &str) -> Result<(), Failure> {
        let script = format!("CLDPD_SCRIPT={script}");
        let args = ["run", "-d", "--name", name, "-e", &script, &self.name];
        run(Command::new("docker").args(args)).map(drop)
    }

    /// Has a container write what `said` holds, and returns what the engine's
    /// log of it takes on disk. The engine has to keep its logs on this machine.
    pub fn docker_log_of(&self, name: &str, said: &Path) -> Result<u64, Failure> {
        let volume = format!("{}:/said:ro", said.display());
        let args = ["run", "--name", name, "--log-driver", "json-file"];
        let script = [
            "-v",
            &volume,
            "-e",
            "CLDPD_SCRIPT=[[read /said]]",
            &self.name,
        ];
        run(Command::new("docker")
            .args([&args[..], &script].concat())
            .stdin(Stdio::null())
            .stdout(Stdio::null()))?;
        let output = run(Command::new("docker").args(["inspect", "-f", "{{.LogPath}}", name]))?;
        let path = String::from_utf8(output.stdout)?;
        Ok(fs::metadata(path.trim())?.blocks() * 512)
    }

    /// `docker logs`, to nowhere.
    pub fn docker_replay(&self, name: &str) -> Result<(), Failure> {
        run(Command::new("docker")
            .args(["logs", name])
            .stdout(Stdio::null()))
        .map(drop)
    }

    /// `docker ps`.
    pub fn docker_list(&self) -> Result<(), Failure> {
        run(Command::new("docker").arg("ps")).map(drop)
    }

    /// All that have something to remove, live or not.
    fn sessions(&self) -> Result<Vec<String>, Failure> {
        let output = run(&mut self.cldpd(&["sessions", "-a", "--format", "json"]))?;
        let list: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        let all = list.as_array().ok_or("sessions are no list")?.iter();
        let here = all.filter(|session| session["state"] != "removed");
        let id = |session: &serde_json::Value| session["ulid"].as_str().map(str::to_owned);
        Ok(here.filter_map(id).collect())
    }

    /// Removes all containers of both.
    pub fn clear(&self) -> Result<(), Failure> {
        if self.home().join("run").exists() {
            let sessions = self.sessions()?;
            let sessions: Vec<&str> = sessions.iter().map(String::as_str).collect();
            if !sessions.is_empty() {
                run(&mut self.cldpd(&[&["rm", "--force"], &sessions[..]].concat()))?;
            }
        }
        let filter = format!("name={}", self.name);
        let ids = run(Command::new("docker").args(["ps", "-aq", "--filter", &filter]))?;
        let ids = String::from_utf8(ids.stdout)?;
        if ids.is_empty() {
            return Ok(());
        }
        run(Command::new("docker")
            .args(["rm", "-f", "-v"])
            .args(ids.lines()))
        .map(drop)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let told = |what: &str, result: Result<(), Failure>| {
            if let Err(error) = result {
                eprintln!("bench: {what} was left behind: {error}");
            }
        };
        told("a container", self.clear());
        told(
            "a daemon",
            run(&mut self.cldpd(&["daemon", "stop", "--stop-sessions"])).map(drop),
        );
        let image = Command::new("docker")
            .args(["image", "rm", "-f", &self.name])
            .stderr(Stdio::null())
            .stdout(Stdio::null())
            .status();
        told("an image", image.map(drop).map_err(Failure::from));
        told(
            "a directory",
            fs::remove_dir_all(&self.root).map_err(Failure::from),
        );
    }
}

/// Runs it to its end; what it said when it failed is the error.
fn run(command: &mut Command) -> Result<Output, Failure> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(output);
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(format!("{command:?} ended with {}: {said}", output.status).into())
}

/// Kills a process, and waits until it is gone.
pub fn kill(pid: u64) -> Result<(), Failure> {
    let pid = Pid::from_raw(i32::try_from(pid)?).ok_or("no process")?;
    let process = pidfd_open(pid, PidfdFlags::empty())?;
    pidfd_send_signal(&process, Signal::KILL)?;
    poll(&mut [PollFd::new(&process, PollFlags::IN)], None)?;
    Ok(())
}

/// A process's memory, now.
pub fn rss(pid: u64) -> Result<Rss, Failure> {
    let mut text = String::new();
    fs::File::open(Path::new("/proc").join(pid.to_string()).join("status"))?
        .read_to_string(&mut text)?;
    let value = |key: &str| -> Result<u64, Failure> {
        let line = text.lines().find_map(|line| line.strip_prefix(key));
        let word = line.and_then(|line| line.split_whitespace().next());
        Ok(word.ok_or("no such line")?.parse()?)
    };
    Ok(Rss {
        all: value("VmRSS:")?,
        anonymous: value("RssAnon:")?,
    })
}
