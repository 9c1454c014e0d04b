//! What stands for a shell and its programs where images are built in tests:
//! no image with real ones can be had there.
//!
//! `sh -c "a x && b y"` performs the commands in order, each of which says
//! itself. Words are separated by white space; `$NAME` and `${NAME}` are
//! replaced. What is not understood, is not known or is not set ends the build.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::chown;
use std::path::Path;

/// Code of a command that is not there, as shells have it.
const NOT_FOUND: i32 = 127;

/// Whether a program of this name stands for one of a build.
pub fn is_known(name: &str) -> bool {
    matches!(name, "sh" | "git")
}

/// Does what the program `args[0]` was called for.
pub fn run(args: &[String]) -> io::Result<i32> {
    let name = args.first().map_or("", String::as_str);
    let name = name.rsplit('/').next().unwrap_or_default();
    let words: Vec<&str> = args.iter().skip(1).map(String::as_str).collect();
    match (name, words.as_slice()) {
        ("sh", ["-c", script]) => shell(script),
        ("sh", _) => Err(super::bad("has to be: sh -c SCRIPT")),
        (name, words) => command(name, words),
    }
}

fn shell(script: &str) -> io::Result<i32> {
    if let Some(c) = script.chars().find(|c| "'\"`|;<>?(#".contains(*c)) {
        return Err(super::bad(&format!("{c} is not understood: {script}")));
    }
    for part in script.split("&&") {
        let words = part.split_whitespace().map(expanded);
        let words = words.collect::<io::Result<Vec<String>>>()?;
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let Some((name, words)) = words.split_first() else {
            return Err(super::bad(&format!("an empty command: {script}")));
        };
        let code = command(name, words)?;
        if code != 0 {
            return Ok(code);
        }
    }
    Ok(0)
}

/// A word with the values of the variables in it.
fn expanded(word: &str) -> io::Result<String> {
    let mut out = String::new();
    let mut rest = word;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let (name, behind) = match after.strip_prefix('{').and_then(|a| a.split_once('}')) {
            Some(both) => both,
            None => {
                let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
                after.split_at(end.unwrap_or(after.len()))
            }
        };
        let value = std::env::var(name);
        out.push_str(&value.map_err(|_| super::bad(&format!("{name} is not set")))?);
        rest = behind;
    }
    out.push_str(rest);
    Ok(out)
}

/// A user's number and group, by `/etc/passwd`.
fn ids(name: &str) -> io::Result<(u32, u32)> {
    let passwd = fs::read_to_string("/etc/passwd")?;
    let fields = passwd
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>());
    let found = fields.filter(|f| f.first() == Some(&name)).find_map(|f| {
        let number = |n: usize| f.get(n)?.parse().ok();
        Some((number(2)?, number(3)?))
    });
    found.ok_or_else(|| super::bad(&format!("{name} is no user")))
}

fn command(name: &str, words: &[&str]) -> io::Result<i32> {
    println!("ran: {name} {}", words.join(" "));
    let last = words.last().copied().unwrap_or_default();
    match name {
        "apt-get" | "npm" | "rm" => {}
        "chown" => {
            let owner = words.first().copied().unwrap_or_default();
            let (user, group) = ids(owner.split(':').next().unwrap_or_default())?;
            chown(last, Some(user), Some(group))?;
        }
        "mkdir" => fs::create_dir_all(last)?,
        "git" => fs::write("cloned", words.join(" "))?,
        "useradd" => {
            fs::create_dir_all(Path::new("/home").join(last))?;
            let passwd = OpenOptions::new().append(true).open("/etc/passwd");
            let line = format!("{last}:x:1001:1001::/home/{last}:/bin/sh\n");
            passwd?.write_all(line.as_bytes())?;
        }
        _ => {
            eprintln!("sh: {name}: not found");
            return Ok(NOT_FOUND);
        }
    }
    Ok(0)
}
