//! Builds the static programs that stand on their own: the shim, which is
//! embedded, and the scripted agent, with which tests and the demo are played.
//!
//! One `rustc` call each, and not a nested cargo: that would inherit an empty
//! `CARGO_ENCODED_RUSTFLAGS`, silently build a dynamic binary, and hang on a
//! shared target directory.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Source, name, and the variable that tells the crate where the binary is.
const PROGRAMS: [(&str, &str, &str); 2] = [
    ("shim", "cldpd-shim", "CLDPD_SHIM"),
    ("agent", "cldpd-scripted-agent", "CLDPD_SCRIPTED_AGENT"),
];

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if let Err(message) = build() {
        // Every line has to be said by itself to be shown.
        for line in message.lines() {
            println!("cargo:warning={line}");
        }
        panic!("{message}");
    }
}

fn build() -> Result<(), String> {
    let out = PathBuf::from(variable("OUT_DIR")?);
    for (directory, name, told) in PROGRAMS {
        println!("cargo:rerun-if-changed={directory}");
        let source = Path::new(directory).join("main.rs");
        if !source.is_file() {
            continue;
        }
        let binary = out.join(name);
        if variable("CARGO_CFG_TARGET_OS")? == "linux" {
            compile(&source, name, &binary)?;
            check_static(&binary)?;
        } else {
            // Nothing to embed: said when somebody wants to run a session there.
            fs::write(&binary, [])
                .map_err(|e| format!("cannot write {}: {e}", binary.display()))?;
        }
        println!("cargo:rustc-env={told}={}", binary.display());
    }
    Ok(())
}

fn compile(source: &Path, name: &str, binary: &Path) -> Result<(), String> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| OsString::from("rustc"));
    let target = variable("TARGET")?;
    let chosen = static_target(&rustc, &target)?;
    let mut command = Command::new(&rustc);
    command
        .arg(source)
        .args(["--crate-name", &name.replace('-', "_")])
        .args(["--crate-type", "bin", "--edition", "2024", "-O"])
        .args(["-C", "panic=abort", "-C", "codegen-units=1"])
        .args(["-C", "strip=symbols", "-C", "target-feature=+crt-static"])
        .args(["--target", &chosen])
        .arg("-o")
        .arg(binary);
    if env::var_os("CARGO_FEATURE_FAILPOINTS").is_some() {
        command.args(["--cfg", "failpoints"]);
    }
    if let (Some(linker), true) = (env::var_os("RUSTC_LINKER"), chosen == target) {
        let mut option = OsString::from("linker=");
        option.push(linker);
        command.arg("-C").arg(option);
    }
    let output = command
        .output()
        .map_err(|e| format!("cannot run {}: {e}", rustc.display()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let mut message = format!("cannot build {} for {chosen}:\n{said}", source.display());
    if said.contains("linking with") {
        let musl = musl_of(&target).unwrap_or_default();
        message.push_str(&format!(
            "\nA static C library is needed: `rustup target add {musl}`, \
             or the package libc6-dev (Debian) or glibc-static (Fedora)."
        ));
    }
    Err(message)
}

/// The target that a static program is built for: musl if its standard library
/// is installed, else the target itself with a static C runtime.
fn static_target(rustc: &OsString, target: &str) -> Result<String, String> {
    let output = Command::new(rustc)
        .args(["--print", "sysroot"])
        .output()
        .map_err(|e| format!("cannot run {}: {e}", rustc.display()))?;
    let sysroot = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    let installed = |target: &str| {
        let library = sysroot.join("lib/rustlib").join(target).join("lib");
        library.is_dir()
    };
    if let Some(musl) = musl_of(target)
        && installed(&musl)
    {
        return Ok(musl);
    }
    if target.ends_with("-linux-gnu") || target.ends_with("-linux-musl") {
        return Ok(target.to_owned());
    }
    let musl = musl_of(target).unwrap_or_else(|| "a musl target".to_owned());
    Err(format!(
        "the shim cannot be linked statically for {target}: `rustup target add {musl}`"
    ))
}

/// The musl target of the same machine.
fn musl_of(target: &str) -> Option<String> {
    let machine = target.split('-').next()?;
    Some(format!("{machine}-unknown-linux-musl"))
}

/// Fails when the program needs an interpreter: it has to run in an image that has nothing.
fn check_static(binary: &Path) -> Result<(), String> {
    const PT_INTERP: u32 = 3;
    let shown = binary.display();
    let elf = fs::read(binary).map_err(|e| format!("cannot read {shown}: {e}"))?;
    let short = || format!("{shown} is no 64-bit little-endian ELF program");
    if elf.get(..6) != Some(&[0x7f, b'E', b'L', b'F', 2, 1]) {
        return Err(short());
    }
    let number = |at: usize, length: usize| -> Result<u64, String> {
        let bytes = elf.get(at..at + length).ok_or_else(short)?;
        Ok(bytes.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b)))
    };
    let table = number(32, 8)?;
    let size = number(54, 2)?;
    for entry in 0..number(56, 2)? {
        let at = usize::try_from(table + entry * size).map_err(|e| e.to_string())?;
        if number(at, 4)? == u64::from(PT_INTERP) {
            return Err(format!("{shown} is not static: it names an interpreter"));
        }
    }
    Ok(())
}

fn variable(name: &str) -> Result<String, String> {
    env::var(name).map_err(|e| format!("{name}: {e}"))
}
