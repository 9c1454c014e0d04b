//! The rules of the source, kept by reading it.
//!
//! A rule that has to be broken somewhere is broken here first, by name and
//! with the reason.

use std::fs;
use std::path::{Path, PathBuf};

/// A source file, and its lines without comments and without tests.
struct Source {
    path: String,
    lines: Vec<(usize, String)>,
    total: usize,
    /// Everything, tests and comments too.
    text: String,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(dir: &str) -> Vec<Source> {
    let mut found = Vec::new();
    walk(&root().join(dir), &mut found);
    found.sort();
    assert!(!found.is_empty(), "no source in {dir}");
    found.iter().map(|path| read(path)).collect()
}

fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = entry.file_name();
        if path.is_dir() && name != "target" && name != "corpus" {
            walk(&path, found);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            found.push(path);
        }
    }
}

fn read(path: &Path) -> Source {
    let text = fs::read_to_string(path).expect("a source file is UTF-8");
    let shown = path
        .strip_prefix(root())
        .unwrap_or(path)
        .display()
        .to_string();
    let mut lines = Vec::new();
    // A module of tests ends with the brace that stands where it began.
    let mut tests_until: Option<usize> = None;
    let mut test_next = is_test_file(&shown);
    let whole_file = test_next;
    for (index, line) in text.lines().enumerate() {
        let trimmed = line.trim_start();
        let indent = line.len() - trimmed.len();
        if whole_file || trimmed.starts_with("//") {
            continue;
        }
        if trimmed.starts_with("#[cfg(test)]") {
            test_next = true;
            continue;
        }
        if let Some(until) = tests_until {
            if indent == until && trimmed.starts_with('}') {
                tests_until = None;
            }
            continue;
        }
        if test_next {
            if trimmed.starts_with("#[") {
                continue;
            }
            test_next = false;
            if trimmed.ends_with('{') {
                tests_until = Some(indent);
            }
            continue;
        }
        lines.push((index + 1, line.to_owned()));
    }
    Source {
        path: shown,
        lines,
        total: text.lines().count(),
        text,
    }
}

/// Modules that are only there under `#[cfg(test)]`, each in a file of its own.
fn is_test_file(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.contains("/tests/")
}

/// Lines that say `word`, outside comments and tests.
fn saying<'a>(source: &'a Source, word: &str) -> Vec<(usize, &'a str)> {
    let lines = source.lines.iter();
    lines
        .filter(|(_, line)| code_of(line).contains(word))
        .map(|(number, line)| (*number, line.trim()))
        .collect()
}

/// The line without a comment at its end and without what stands in quotes.
fn code_of(line: &str) -> String {
    let mut code = String::new();
    let mut quoted = false;
    let mut escaped = false;
    let mut previous = ' ';
    for c in line.chars() {
        if quoted {
            quoted = escaped || c != '"';
            escaped = !escaped && c == '\\';
            continue;
        }
        if c == '"' && previous != '\'' {
            quoted = true;
        }
        if c == '/' && previous == '/' {
            code.pop();
            return code;
        }
        code.push(c);
        previous = c;
    }
    code
}

/// The line names the crate: a path that begins with it, not a part of a longer word.
fn names_crate(line: &str, name: &str) -> bool {
    let code = code_of(line);
    let path = format!("{name}::");
    code.match_indices(&path).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':')
    }) || code.trim() == format!("use {name};")
}

fn violations(found: Vec<String>) {
    assert!(
        found.is_empty(),
        "{} violations:\n{}",
        found.len(),
        found.join("\n")
    );
}

#[test]
fn each_crate_has_its_place() {
    let places: &[(&str, &[&str])] = &[
        ("actix", &["src/actors/"]),
        ("sled", &["src/store/", "migrations/"]),
        ("bollard", &["src/runtime/docker/"]),
        ("tonic", &["src/runtime/docker/"]),
        ("docker_credential", &["src/runtime/docker/"]),
        ("axum", &["src/daemon/", "src/client/"]),
        ("hyper", &["src/daemon/", "src/client/"]),
        // An engine behind TLS is spoken to through a connection of our making.
        (
            "hyper_util",
            &["src/daemon/", "src/client/", "src/runtime/docker/tls.rs"],
        ),
        ("hyper_rustls", &["src/runtime/docker/tls.rs"]),
        (
            "rustls",
            &["src/runtime/docker/tls.rs", "src/runtime/docker/session.rs"],
        ),
        ("clap", &["src/cli/"]),
        ("clap_complete", &["src/cli/"]),
    ];
    let mut found = Vec::new();
    for source in rust_files("src")
        .into_iter()
        .chain(rust_files("migrations"))
    {
        for (name, allowed) in places {
            if allowed.iter().any(|place| source.path.starts_with(place)) {
                continue;
            }
            for (number, line) in &source.lines {
                if names_crate(line, name) {
                    found.push(format!("{}:{number}: {name}: {}", source.path, line.trim()));
                }
            }
        }
    }
    violations(found);
}

#[test]
fn each_module_imports_what_it_may() {
    // The library's own modules that each may name; what stands above them all is free.
    let allowed: &[(&str, &[&str])] = &[
        ("model", &[]),
        ("pod", &["model"]),
        ("archive", &[]),
        ("runtime", &["model", "pod", "archive"]),
        ("agent", &["model"]),
        ("block", &["model"]),
        ("store", &["model", "block"]),
        ("client", &["model", "archive", "block"]),
        ("actors", &["model", "store", "runtime", "agent", "pod"]),
        (
            "daemon",
            &[
                "actors", "model", "client", "pod", "runtime", "store", "block",
            ],
        ),
        (
            "cli",
            &[
                "client", "model", "pod", "agent", "daemon", "archive", "block",
            ],
        ),
    ];
    let mut found = Vec::new();
    for source in rust_files("src") {
        let Some(module) = source
            .path
            .strip_prefix("src/")
            .and_then(|p| p.split('/').next())
        else {
            continue;
        };
        let module = module.trim_end_matches(".rs");
        let Some((_, may)) = allowed.iter().find(|(name, _)| *name == module) else {
            continue;
        };
        for (number, line) in &source.lines {
            for (at, _) in line.match_indices("crate::") {
                let rest = &line[at + "crate::".len()..];
                let named: String = rest
                    .chars()
                    .take_while(|c| c.is_ascii_lowercase() || *c == '_')
                    .collect();
                let known = allowed.iter().any(|(name, _)| *name == named);
                if known && named != module && !may.contains(&named.as_str()) {
                    found.push(format!(
                        "{}:{number}: {module} may not name {named}",
                        source.path
                    ));
                }
            }
        }
    }
    violations(found);
}

#[test]
fn only_one_file_prints() {
    // A daemon says once, to whoever started it, that it is ready or why not;
    // and its log goes to where its standard error was pointed.
    let excused = [
        ("src/daemon/mod.rs", "io::stdout"),
        ("src/daemon/mod.rs", "io::stderr"),
    ];
    let mut found = Vec::new();
    for source in rust_files("src") {
        if source.path == "src/cli/ui.rs" {
            continue;
        }
        for word in [
            "println!",
            "eprintln!",
            "print!(",
            "eprint!(",
            "dbg!",
            "io::stdout",
            "io::stderr",
        ] {
            if excused.contains(&(source.path.as_str(), word)) {
                continue;
            }
            for (number, line) in saying(&source, word) {
                found.push(format!("{}:{number}: {line}", source.path));
            }
        }
    }
    violations(found);
}

#[test]
fn nothing_panics_or_exits_on_purpose() {
    let words = [
        ".unwrap()",
        ".expect(\"",
        "panic!(",
        "todo!(",
        "unimplemented!(",
        "unreachable!(",
        "process::exit",
        "process::abort",
    ];
    // A panic of an actor that everything depends on ends the process loudly.
    let excused = [("src/actors/", "process::abort")];
    let mut found = Vec::new();
    for source in rust_files("src")
        .into_iter()
        .chain(rust_files("migrations"))
    {
        for word in words {
            if excused
                .iter()
                .any(|(place, w)| source.path.starts_with(place) && *w == word)
            {
                continue;
            }
            for (number, line) in saying(&source, word) {
                found.push(format!("{}:{number}: {line}", source.path));
            }
        }
    }
    violations(found);
}

#[test]
fn nothing_is_unsafe_but_the_shims_system_calls() {
    let mut found = Vec::new();
    let all = ["src", "migrations", "shim", "agent", "mock"]
        .into_iter()
        .flat_map(rust_files);
    for source in all {
        if source.path.starts_with("shim/sys") || source.path.starts_with("agent/sys") {
            continue;
        }
        for (number, line) in saying(&source, "unsafe ") {
            found.push(format!("{}:{number}: {line}", source.path));
        }
    }
    violations(found);
}

#[test]
fn files_are_one_idea_each() {
    let all = ["src", "migrations", "shim", "agent", "mock", "tests"]
        .into_iter()
        .flat_map(rust_files);
    let found = all
        .filter(|source| source.total > 600)
        .map(|source| format!("{}: {} lines", source.path, source.total))
        .collect();
    violations(found);
}

#[test]
fn nobody_sleeps_and_no_test_is_ignored() {
    // The scripted agent sleeps because it is told to; the shim tries a full
    // disk again each second, with nobody else to be woken by.
    let excused = ["agent/", "shim/"];
    let words = [["thread::", "sleep"].concat(), ["time::", "sleep"].concat()];
    let ignored = ["#[", "ignore"].concat();
    let mut found = Vec::new();
    for source in ["src", "tests", "shim", "agent", "mock"]
        .into_iter()
        .flat_map(rust_files)
    {
        for (number, line) in source.text.lines().enumerate() {
            let number = number + 1;
            let sleeps = code_of(line).contains(&words[0])
                || (code_of(line).contains(&words[1]) && source.path.starts_with("tests/"));
            if sleeps && !excused.iter().any(|place| source.path.starts_with(place)) {
                found.push(format!("{}:{number}: {}", source.path, line.trim()));
            }
            if line.trim_start().starts_with(&ignored) {
                found.push(format!("{}:{number}: an ignored test", source.path));
            }
        }
    }
    violations(found);
}

#[test]
fn a_verb_has_one_name_everywhere() {
    let names = |dir: &str| -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(root().join(dir))
            .unwrap_or_else(|e| panic!("{dir}: {e}"))
            .flatten()
            .filter_map(|entry| {
                let name = entry.file_name().to_string_lossy().into_owned();
                let name = name.trim_end_matches(".rs").to_owned();
                (name != "mod").then_some(name)
            })
            .collect();
        names.sort();
        names
    };
    let mut commands = names("src/cli/commands");
    commands.extend(names("src/cli/commands/pod"));
    let routes = names("src/daemon/routes");
    let verbs = [
        "start",
        "resume",
        "sessions",
        "logs",
        "attach",
        "events",
        "wait",
        "stop",
        "kill",
        "inspect",
        "rm",
        "pods",
        "pod",
        "daemon",
        "doctor",
        "version",
        "completion",
        "demo",
    ];
    for verb in verbs {
        assert!(
            commands.iter().any(|name| name == verb),
            "no command {verb}: {commands:?}"
        );
    }
    for route in routes {
        assert!(
            commands.contains(&route),
            "the route {route} has no command of its name"
        );
    }
}

#[test]
fn no_path_of_a_machine_is_in_the_tree() {
    let forbidden = ["work", "farm", "tmp/wt"].map(|dir| format!("/{dir}/"));
    let mut files = Vec::new();
    for dir in [
        "src",
        "tests",
        "shim",
        "agent",
        "mock",
        "scripts",
        "examples",
        "migrations",
        "benches",
        "docker",
        "docs",
    ] {
        every_file(&root().join(dir), &mut files);
    }
    for name in [
        "Makefile",
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "build.rs",
    ] {
        files.push(root().join(name));
    }
    let mut found = Vec::new();
    for file in files {
        let Ok(text) = fs::read_to_string(&file) else {
            continue;
        };
        for (index, line) in text.lines().enumerate() {
            if forbidden.iter().any(|path| line.contains(path.as_str())) {
                found.push(format!("{}:{}: {}", file.display(), index + 1, line.trim()));
            }
        }
    }
    violations(found);
}

fn every_file(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            every_file(&path, found);
        } else {
            found.push(path);
        }
    }
}

#[test]
fn no_test_file_is_forgotten() {
    // One binary: a file that no module names would never run.
    for source in rust_files("tests") {
        let path = Path::new(&source.path);
        let (Some(stem), Some(parent)) = (path.file_stem(), path.parent()) else {
            panic!("{}", source.path);
        };
        let stem = stem.to_string_lossy();
        if matches!(&*stem, "main" | "mod") || source.path.contains("fixtures") {
            continue;
        }
        let owner = if parent == Path::new("tests") {
            root().join("tests/main.rs")
        } else {
            root().join(parent).join("mod.rs")
        };
        // A module, or a program that a test of the same directory compiles.
        let beside = root().join(parent).join("support.rs");
        let text = [owner.clone(), beside]
            .map(|path| fs::read_to_string(path).unwrap_or_default())
            .concat();
        let named = [format!("mod {stem};"), format!("{stem}.rs\"")];
        assert!(
            named.iter().any(|line| text.contains(line.as_str())),
            "{} is not a module of {}",
            source.path,
            owner.display()
        );
    }
}

#[test]
fn fail_points_are_only_in_a_build_that_asks_for_them() {
    let binary = std::fs::read(crate::support::env::BINARY).expect("it was built");
    for word in ["CLDPD_FAILPOINTS", "CLDPD_SHIM_FAILPOINTS"] {
        let mut parts = binary.windows(word.len());
        let there = parts.any(|part| part == word.as_bytes());
        assert_eq!(there, cfg!(feature = "failpoints"), "{word}");
    }
}
