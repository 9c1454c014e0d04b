//! What runs in the tests' containers instead of the shim and of an agent: a
//! static program, since no image can be pulled here.
//!
//! As the first process (`serve …`) it does what `plan` in its run directory
//! says; in a build its first argument is that. Compiled by the tests.

use std::io::Write;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let first = args.first().map(String::as_str).unwrap_or_default();
    let plan = match first {
        "serve" => std::fs::read_to_string("/.cldpd/run/plan").unwrap_or_default(),
        "purge" => {
            empty(std::path::Path::new(&args[1]));
            return;
        }
        _ => args.join(" "),
    };
    let mut words = plan.split_whitespace();
    while let Some(word) = words.next() {
        match word {
            "say" => println!("{}", words.next().unwrap_or_default()),
            "complain" => eprintln!("{}", words.next().unwrap_or_default()),
            "exit" => std::process::exit(words.next().and_then(|w| w.parse().ok()).unwrap_or(1)),
            "touch" => {
                let path = words.next().unwrap_or_default();
                if let Some(dir) = std::path::Path::new(path).parent() {
                    std::fs::create_dir_all(dir).unwrap();
                }
                std::fs::write(path, path).unwrap();
            }
            "show" => print!(
                "{}",
                std::fs::read_to_string(words.next().unwrap_or_default()).unwrap()
            ),
            "list" => list(std::path::Path::new(words.next().unwrap_or_default())),
            "var" => {
                let name = words.next().unwrap_or_default();
                println!("{name}={}", std::env::var(name).unwrap_or_default());
            }
            "need" => assert!(std::path::Path::new(words.next().unwrap_or_default()).exists()),
            "args" => std::fs::write(words.next().unwrap_or_default(), args.join(" ")).unwrap(),
            "hang" => loop {
                std::thread::park();
            },
            // More memory than a test's container may have.
            "gorge" => {
                let mut all = Vec::new();
                loop {
                    all.push(vec![1u8; 1 << 20]);
                }
            }
            _ => {}
        }
    }
    let _ = std::io::stdout().flush();
}

fn empty(dir: &std::path::Path) {
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        if entry.file_type().unwrap().is_dir() {
            std::fs::remove_dir_all(path).unwrap();
        } else {
            std::fs::remove_file(path).unwrap();
        }
    }
}

/// A line for all that is beneath: its mode, its path, and where a link leads.
fn list(dir: &std::path::Path) {
    use std::os::unix::fs::MetadataExt;
    let mut entries: Vec<_> = std::fs::read_dir(dir).unwrap().flatten().collect();
    entries.sort_by_key(|entry| entry.file_name());
    for entry in entries {
        let (path, found) = (entry.path(), entry.metadata().unwrap());
        let target = std::fs::read_link(&path).unwrap_or_default();
        let (shown, target) = (path.display(), target.display());
        println!("{:o}|{shown}|{target}", found.mode() & 0o7777);
        if found.is_dir() {
            list(&path);
        }
    }
}
