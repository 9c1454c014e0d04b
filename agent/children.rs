//! What the scripted agent is when it is one of its own children.

use crate::sys;
use crate::words::{count, pause};
use std::fs;
use std::io;
use std::process::Command;
use std::thread::sleep;

/// The child: starts the grandchild, says its pid, and is gone.
pub fn orphan(args: &[String]) -> io::Result<i32> {
    let mut grandchild = Command::new("/proc/self/exe");
    let grandchild = grandchild.arg("--linger").args(args).spawn()?;
    println!("orphan {}", grandchild.id());
    Ok(0)
}

/// Allocates, and offers itself when memory runs out.
pub fn glut(args: &[String]) -> io::Result<i32> {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    fs::write("/proc/self/oom_score_adj", "1000")?;
    let mut all = Vec::new();
    for _ in 0..count(&words, 0)? {
        all.push(vec![1u8; 1 << 20]);
    }
    Ok(i32::from(all.iter().any(|part| part[0] != 1)))
}

/// The grandchild: holds the pipes.
pub fn linger(args: &[String]) -> io::Result<i32> {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    if words.get(1) == Some(&"setsid") {
        sys::new_session();
    }
    sleep(pause(&words, 0)?);
    println!("orphan done");
    Ok(0)
}
