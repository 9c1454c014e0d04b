//! `secrets`: where their values are, never the values.
//!
//! Invariant: no message repeats what stands in `name` or `env`: somebody may
//! have put the value there.

use super::error::Position;
use super::keys::SECRET;
use super::reader::{Object, Reader, Text};
use super::sources::{self, Places};
use crate::model::spec::{SecretKind, SecretSource, SecretSpec};

pub(super) fn read(
    reader: &mut Reader<'_>,
    object: &Object<'_>,
    places: &Places<'_>,
) -> Vec<SecretSpec> {
    let mut secrets: Vec<SecretSpec> = Vec::new();
    for (path, item) in reader.items(object, "secrets", "a list of objects") {
        let Some(secret) = reader.object(&path, item, &SECRET) else {
            continue;
        };
        let kind = reader.choice(
            &secret,
            "as",
            "\"env\", \"file\" or \"build\"",
            &[
                ("env", SecretKind::Env),
                ("file", SecretKind::File),
                ("build", SecretKind::Build),
            ],
        );
        if kind.is_none() && secret.get("as").is_some() {
            continue;
        }
        let kind = kind.unwrap_or_default();
        let name = name(reader, &secret, kind);
        let source = source(reader, &secret, places, name.as_ref());
        let (Some(name), Some(source)) = (name, source) else {
            continue;
        };
        let same = |other: &SecretSpec| other.name == name.text && other.kind == kind;
        if secrets.iter().any(same) {
            let problem = "is the name of an earlier secret of the same kind";
            reader.wrong_value(&name.key, name.at, problem, None);
            continue;
        }
        in_env_too(reader, object, &name, kind);
        secrets.push(SecretSpec {
            name: name.text,
            source,
            kind,
        });
    }
    secrets
}

/// A name that its kind can have.
fn name(reader: &mut Reader<'_>, secret: &Object<'_>, kind: SecretKind) -> Option<Text> {
    let name = reader.word(secret, "name")?;
    let problem = match kind {
        SecretKind::Env if !is_variable(&name.text) => {
            "is no variable's name: letters, digits and _, as in \"NPM_TOKEN\""
        }
        SecretKind::File if !is_file(&name.text) => {
            "is no file's name: letters, digits and . _ -, as in \"deploy.pem\""
        }
        SecretKind::Build if !is_file(&name.text) => {
            "is no id: letters, digits and . _ -, as in \"npm-token\""
        }
        SecretKind::Env | SecretKind::File | SecretKind::Build => return Some(name),
    };
    let hint = "the value goes into a variable or a file of yours, which the pod names";
    reader.wrong_value(&name.key, name.at, problem, Some(hint));
    None
}

/// Where the value is: a variable, a file, or the variable that is named as the secret.
fn source(
    reader: &mut Reader<'_>,
    secret: &Object<'_>,
    places: &Places<'_>,
    name: Option<&Text>,
) -> Option<SecretSource> {
    if secret.get("env").is_some() {
        let env = reader.word(secret, "env")?;
        if !is_variable(&env.text) {
            // A value may have been written in place of a name: it is not repeated here.
            let problem = "is no variable's name: letters, digits and _, as in \"NPM_TOKEN\"";
            let hint = Some("write the name only; the value stays in your environment");
            reader.wrong_value(&env.key, env.at, problem, hint);
            return None;
        }
        return Some(SecretSource::Env(env.text));
    }
    if secret.get("file").is_some() {
        let (at, file) = sources::source(reader, secret, "file", places)?;
        let there = std::fs::metadata(&file).and_then(|metadata| match metadata.is_file() {
            true => Ok(()),
            false => Err(std::io::Error::other("it is no file")),
        });
        if let Err(error) = there {
            reader.missing("secret's file", at, file, &error);
            return None;
        }
        return Some(SecretSource::File(file));
    }
    let name = name?;
    if !is_variable(&name.text) {
        let problem = "is no variable's name, and nothing else says where the value is";
        let hint = "name the variable with \"env\", or the file with \"file\"";
        reader.wrong_value(&name.key, name.at, problem, Some(hint));
        return None;
    }
    Some(SecretSource::Env(name.text.clone()))
}

/// A variable has one value: `env` and `secrets` cannot both give it.
fn in_env_too(reader: &mut Reader<'_>, object: &Object<'_>, name: &Text, kind: SecretKind) {
    let at: Option<Position> = match kind {
        SecretKind::Env => object.key_of_table("env", &name.text),
        SecretKind::File | SecretKind::Build => None,
    };
    if let Some(at) = at {
        let problem = "is given by \"secrets\" too";
        let hint = Some("remove one of the two");
        reader.wrong_value(&format!("env.{}", name.text), at, problem, hint);
    }
}

fn is_variable(name: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_';
    name.chars().all(legal) && !name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit())
}

fn is_file(name: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    name.chars().all(legal) && !matches!(name, "" | "." | "..")
}
