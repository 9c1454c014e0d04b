//! What the user gives an agent: the task and variables.
//!
//! Values of variables may be secrets: no error names one.

use super::error::{plain, usage};
use crate::model::api::{PROXY_VARIABLES, Task};
use crate::model::{Blob, Result};
use clap::Args;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// A prompt, given in one of the ways.
#[derive(Clone, Debug, Default, Args)]
pub struct PromptArgs {
    /// What the agent is told
    #[arg(
        short,
        long,
        value_name = "TEXT",
        allow_hyphen_values = true,
        group = "task",
        help_heading = "Task"
    )]
    pub prompt: Option<OsString>,
    /// A file with what the agent is told; - for standard input
    #[arg(long, value_name = "FILE", group = "task", help_heading = "Task")]
    pub prompt_file: Option<PathBuf>,
}

impl PromptArgs {
    /// The prompt, if one was given.
    ///
    /// # Errors
    /// `usage` when it is empty or its file cannot be read.
    pub fn read(&self) -> Result<Option<Blob>> {
        let prompt = match (&self.prompt, &self.prompt_file) {
            (Some(text), _) => text.clone().into_vec(),
            (None, Some(file)) => read_file(file)?,
            (None, None) => return Ok(None),
        };
        if prompt.trim_ascii().is_empty() {
            return Err(usage("the prompt is empty").hint("say what the agent is to do"));
        }
        Ok(Some(Blob(prompt)))
    }
}

/// A first task.
#[derive(Clone, Debug, Default, Args)]
pub struct TaskArgs {
    /// The GitHub issue to work on
    #[arg(short, long, value_name = "URL", group = "task", help_heading = "Task")]
    pub issue: Option<String>,
    /// A prompt.
    #[command(flatten)]
    pub prompt: PromptArgs,
}

impl TaskArgs {
    /// The task.
    ///
    /// # Errors
    /// `usage` when none was given, or it is empty, or cannot be read.
    pub fn read(&self) -> Result<Task> {
        if let Some(url) = &self.issue {
            return issue(url.trim()).map(Task::Issue);
        }
        let prompt = self.prompt.read()?;
        prompt.map(Task::Prompt).ok_or_else(|| {
            usage("missing the task: --issue <URL>, --prompt <TEXT> or --prompt-file <FILE>")
                .hint("cldpd start myrepo --prompt \"fix the flaky test\"")
        })
    }
}

/// An issue's address. The agent gets it as it is, so a slip is better found here.
fn issue(url: &str) -> Result<String> {
    let rest = ["https://", "http://"]
        .iter()
        .find_map(|scheme| url.strip_prefix(scheme));
    if rest.is_none_or(str::is_empty) || url.contains(|c: char| c.is_whitespace() || c.is_control())
    {
        return Err(usage(format!("--issue '{}' is no URL", url.escape_debug()))
            .hint("write it whole, such as https://github.com/org/repo/issues/42; other tasks go to --prompt"));
    }
    Ok(url.to_owned())
}

fn read_file(file: &Path) -> Result<Vec<u8>> {
    let (read, name) = if file == Path::new("-") {
        let mut bytes = Vec::new();
        let read = std::io::stdin().lock().read_to_end(&mut bytes);
        (read.map(|_| bytes), "standard input".to_owned())
    } else {
        (std::fs::read(file), file.display().to_string())
    };
    read.map_err(|e| usage(format!("cannot read the prompt from {name}: {}", plain(&e))))
}

/// Variables for the agent.
#[derive(Clone, Debug, Default, Args)]
pub struct EnvArgs {
    /// A variable for the agent; without a value, the one it has here
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub env: Vec<OsString>,
    /// A file with such variables, one a line; # begins a comment
    #[arg(long, value_name = "FILE")]
    pub env_file: Vec<PathBuf>,
}

/// Variables, and the names of those that are not set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Variables {
    /// By name. A variable that is set and empty here is sent as empty.
    pub values: BTreeMap<String, String>,
    /// Names that were asked for and are not set here.
    pub unset: Vec<String>,
}

/// Looks up a variable of this process.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// A variable of this process.
#[must_use]
pub fn own(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

impl EnvArgs {
    /// The variables: first the files', then the flags', later ones over earlier ones.
    ///
    /// # Errors
    /// `usage`, naming the variable or the file and line, never a value.
    pub fn read(&self, lookup: Lookup<'_>) -> Result<Variables> {
        let mut variables = Variables::default();
        for file in &self.env_file {
            let bytes = std::fs::read(file).map_err(|e| {
                usage(format!(
                    "cannot read the variables from {}: {}",
                    file.display(),
                    plain(&e)
                ))
            })?;
            for (index, line) in bytes.split(|b| *b == b'\n').enumerate() {
                let line = line.strip_suffix(b"\r").unwrap_or(line);
                let place = || format!("{}, line {}", file.display(), index + 1);
                if line.trim_ascii().is_empty() || line.trim_ascii_start().starts_with(b"#") {
                    continue;
                }
                variables.add(line.trim_ascii_start(), &place, lookup)?;
            }
        }
        for (index, given) in self.env.iter().enumerate() {
            let place = || format!("--env number {}", index + 1);
            variables.add(given.as_bytes(), &place, lookup)?;
        }
        Ok(variables)
    }
}

/// Whether a shell, or a program such as npm, could have a variable of that name.
fn is_name(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    !name.is_empty() && name.bytes().all(legal)
}

impl Variables {
    /// Those of `names` that are set here.
    ///
    /// # Errors
    /// `usage`, naming the one that is not UTF-8.
    pub fn of_names(names: impl IntoIterator<Item = String>, lookup: Lookup<'_>) -> Result<Self> {
        let mut variables = Self::default();
        for name in names {
            variables.look_up(name, lookup)?;
        }
        Ok(variables)
    }

    fn add(&mut self, given: &[u8], place: &dyn Fn() -> String, lookup: Lookup<'_>) -> Result<()> {
        let equals = given.iter().position(|b| *b == b'=');
        let (name, value) = given.split_at(equals.unwrap_or(given.len()));
        let name = match std::str::from_utf8(name) {
            // Nothing else is ever quoted: a line of the wrong file may be a secret.
            Ok(name) if is_name(name) => name.to_owned(),
            Ok(_) | Err(_) => {
                return Err(usage(format!("{} names no variable", place()))
                    .hint("write NAME=VALUE, or NAME for the value it has here"));
            }
        };
        match value.split_first() {
            Some((_, value)) => self.set(name, OsStr::from_bytes(value).to_owned()),
            None => self.look_up(name, lookup),
        }
    }

    fn look_up(&mut self, name: String, lookup: Lookup<'_>) -> Result<()> {
        let value = lookup(&name);
        match value {
            Some(value) => self.set(name, value),
            None => {
                self.unset.push(name);
                Ok(())
            }
        }
    }

    fn set(&mut self, name: String, value: OsString) -> Result<()> {
        let value = value
            .into_string()
            .map_err(|_| usage(format!("the value of {name} is not UTF-8")))?;
        self.values.insert(name, value);
        Ok(())
    }
}

/// The proxy variables that are set here, and not empty.
///
/// # Errors
/// `usage`, naming the one that is not UTF-8.
pub fn proxy(lookup: Lookup<'_>) -> Result<BTreeMap<String, String>> {
    let names = PROXY_VARIABLES.into_iter().map(str::to_owned);
    let mut values = Variables::of_names(names, lookup)?.values;
    values.retain(|_, value| !value.is_empty());
    Ok(values)
}

/// Reads `--label key=value`; a label without a value is empty.
///
/// # Errors
/// `usage` when the key is empty.
pub fn labels(given: &[String]) -> Result<BTreeMap<String, String>> {
    given
        .iter()
        .map(|label| {
            let (key, value) = label.split_once('=').unwrap_or((label, ""));
            if key.is_empty() {
                return Err(usage(format!("--label '{label}' has no key")).hint("write key=value"));
            }
            Ok((key.to_owned(), value.to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Error, ErrorCode};

    fn here(name: &str) -> Option<OsString> {
        match name {
            "TOKEN" => Some("t0".into()),
            "EMPTY" => Some("".into()),
            "BROKEN" => Some(OsString::from_vec(vec![0xff])),
            _ => None,
        }
    }

    fn flags(env: &[&str]) -> EnvArgs {
        EnvArgs {
            env: env.iter().map(OsString::from).collect(),
            env_file: Vec::new(),
        }
    }

    #[test]
    fn variables_come_from_flags_and_from_here() -> Result<()> {
        let read = flags(&["A=b=c", "TOKEN", "EMPTY", "MISSING", "X="]).read(&here)?;
        let values: Vec<_> = read
            .values
            .iter()
            .map(|(k, v)| format!("{k}={v}"))
            .collect();
        assert_eq!(values, ["A=b=c", "EMPTY=", "TOKEN=t0", "X="]);
        assert_eq!(read.unset, ["MISSING"]);
        Ok(())
    }

    #[test]
    fn flags_go_over_files() -> Result<()> {
        let failed = |e: std::io::Error| Error::new(ErrorCode::Internal, e.to_string());
        let dir = tempfile::tempdir().map_err(failed)?;
        let file = dir.path().join("env");
        std::fs::write(&file, "# comment\n\nA=1\r\nB=two words\nTOKEN\n").map_err(failed)?;
        let mut args = flags(&["A=2"]);
        args.env_file.push(file);
        let values = args.read(&here)?.values;
        let values: Vec<_> = values.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(values, ["A=2", "B=two words", "TOKEN=t0"]);
        Ok(())
    }

    #[test]
    fn no_error_tells_a_value() {
        for given in ["=s3cret", "A B=s3cret"] {
            let error = flags(&[given]).read(&here).err().map(|e| format!("{e:?}"));
            assert!(error.is_some_and(|e| !e.contains("s3cret")), "{given}");
        }
        let error = flags(&["BROKEN"]).read(&here).err();
        assert_eq!(
            error.map(|e| e.message),
            Some("the value of BROKEN is not UTF-8".to_owned())
        );
    }

    #[test]
    fn an_issue_is_a_url() -> Result<()> {
        let task = |url: &str| TaskArgs {
            issue: Some(url.to_owned()),
            prompt: PromptArgs::default(),
        };
        let url = "https://github.com/org/repo/issues/42";
        assert_eq!(task(url).read()?, Task::Issue(url.to_owned()));
        for wrong in ["", "42", "org/repo#42", "https://", "https://a b"] {
            let error = task(wrong).read().err();
            assert_eq!(error.map(|e| e.code), Some(ErrorCode::Usage), "{wrong}");
        }
        Ok(())
    }

    #[test]
    fn a_prompt_may_be_any_bytes_but_not_none() -> Result<()> {
        let prompt = |bytes: &[u8]| PromptArgs {
            prompt: Some(OsString::from_vec(bytes.to_vec())),
            prompt_file: None,
        };
        assert_eq!(prompt(b"-x \xff").read()?, Some(Blob(b"-x \xff".to_vec())));
        assert_eq!(
            prompt(b" \n").read().map_err(|e| e.code),
            Err(ErrorCode::Usage)
        );
        Ok(())
    }
}
