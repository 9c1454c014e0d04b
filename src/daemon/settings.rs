//! How settings are read, from wherever they come, and where each came from.

use super::config::{Config, KEYS};
use crate::client::Home;
use crate::model::{Error, ErrorCode, Result};
use serde::{Serialize, Serializer};
use serde_json::Value;
use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Names that are less alike than this are not thought to be meant.
const LIKENESS_MIN: f64 = 0.8;

/// One thing that can be settled.
pub(super) struct Key {
    /// Its place in `config.toml`: `table.key`, or `key` at the top.
    pub(super) name: &'static str,
    /// The variable that goes over the file.
    pub(super) variable: &'static str,
    /// What it settles.
    pub(super) about: &'static str,
    /// Commands look at its variable themselves; the daemon does not.
    pub(super) of_commands: bool,
    /// Takes it from text; says what is wrong with that: `is no number`.
    pub(super) read: fn(&mut Config, &str) -> Result<(), String>,
    /// Its value, or null for none.
    pub(super) show: fn(&Config) -> Value,
}

/// Where a value came from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// Nobody said anything.
    #[default]
    Default,
    /// A line of a file.
    File(PathBuf, usize),
    /// This variable.
    Variable(&'static str),
    /// This flag.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Variable(name) | Self::Flag(name) => f.write_str(name),
        }
    }
}

impl Serialize for Origin {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A setting as it stands.
#[derive(Clone, Debug, Serialize)]
pub struct Setting {
    /// Its place in `config.toml`.
    pub key: &'static str,
    /// Its value; null for none.
    pub value: Value,
    /// Where that came from.
    pub origin: Origin,
    /// The variable that goes over the file.
    pub variable: &'static str,
    /// What it settles.
    pub about: &'static str,
}

/// The text of a `config.toml`.
pub(super) struct Source {
    path: PathBuf,
    text: String,
}

impl Source {
    /// The home's; empty where there is none.
    ///
    /// # Errors
    /// `usage` when it cannot be read.
    pub(super) fn of(home: &Home) -> Result<Self> {
        let path = home.root().join("config.toml");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            Err(error) => {
                let message = format!("cannot read {}: {error}", path.display());
                return Err(Error::new(ErrorCode::Usage, message));
            }
        };
        Ok(Self { path, text })
    }

    /// Defaults, under what the file says, under `variables`; one that is
    /// empty is not set.
    ///
    /// # Errors
    /// `usage`, naming the first that cannot be understood.
    pub(super) fn read(&self, variables: &dyn Fn(&Key) -> Option<String>) -> Result<Config> {
        let mut config = Config::default();
        let table = DeTable::parse(&self.text)
            .map_err(|e| self.wrong(e.span().map_or(0, |span| span.start), e.message()))?;
        self.read_table(&mut config, "", table.get_ref())?;
        for key in &KEYS {
            let Some(text) = variables(key).filter(|text| !text.is_empty()) else {
                continue;
            };
            (key.read)(&mut config, &text).map_err(|wrong| {
                let name = key.variable;
                Error::new(ErrorCode::Usage, format!("{name} = \"{text}\" {wrong}"))
                    .hint(format!("{name} is {}", key.about))
            })?;
            let origin = Origin::Variable(key.variable);
            config.origins.insert(key.name, origin);
        }
        Ok(config)
    }

    fn read_table(&self, config: &mut Config, prefix: &str, table: &DeTable<'_>) -> Result<()> {
        for (name, value) in table {
            let full = format!("{prefix}{}", name.get_ref());
            match KEYS.iter().find(|key| key.name == full) {
                Some(key) => self.read_key(config, key, value)?,
                None => match value.get_ref() {
                    DeValue::Table(inner) if is_table(&full) => {
                        self.read_table(config, &format!("{full}."), inner)?;
                    }
                    _ => return Err(self.unknown(name.span().start, &full)),
                },
            }
        }
        Ok(())
    }

    fn read_key(&self, config: &mut Config, key: &Key, value: &Spanned<DeValue<'_>>) -> Result<()> {
        let at = value.span().start;
        let text = match value.get_ref() {
            DeValue::String(text) => text.to_string(),
            DeValue::Integer(number) => number.to_string(),
            DeValue::Float(number) => number.to_string(),
            DeValue::Boolean(truth) => truth.to_string(),
            DeValue::Datetime(time) => time.to_string(),
            DeValue::Array(_) => {
                return Err(self.wrong(at, &format!("{} = an array is no value", key.name)));
            }
            DeValue::Table(_) => {
                return Err(self.wrong(at, &format!("{} = a table is no value", key.name)));
            }
        };
        (key.read)(config, &text)
            .map_err(|wrong| self.wrong(at, &format!("{} = \"{text}\" {wrong}", key.name)))?;
        let origin = Origin::File(self.path.clone(), self.place(at).0);
        config.origins.insert(key.name, origin);
        Ok(())
    }

    fn unknown(&self, at: usize, name: &str) -> Error {
        let error = self.wrong(at, &format!("unknown key \"{name}\""));
        let near = KEYS
            .iter()
            .map(|key| (strsim::jaro_winkler(key.name, name), key.name))
            .filter(|(likeness, _)| *likeness > LIKENESS_MIN)
            .max_by(|(a, _), (b, _)| a.total_cmp(b));
        match near {
            Some((_, near)) => error.hint(format!("did you mean {near}?")),
            None => error.hint("`cldpd config show` lists the keys"),
        }
    }

    fn wrong(&self, at: usize, what: &str) -> Error {
        let (line, column) = self.place(at);
        let path = self.path.display();
        Error::new(ErrorCode::Usage, format!("{path}:{line}:{column}: {what}"))
            .hint("correct the file, or move it away for the defaults")
    }

    /// Line and column of a byte, from 1.
    fn place(&self, at: usize) -> (usize, usize) {
        let before = self.text.get(..at).unwrap_or(&self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        (line, column)
    }
}

/// Whether keys lie in a table of this name.
fn is_table(name: &str) -> bool {
    KEYS.iter().any(|key| {
        let rest = key.name.strip_prefix(name);
        rest.is_some_and(|rest| rest.starts_with('.'))
    })
}
