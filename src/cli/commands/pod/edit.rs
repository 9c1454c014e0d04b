//! `cldpd pod edit`.

use super::check;
use crate::cli::Context;
use crate::cli::error::{Done, plain, usage};
use crate::cli::pods_local;
use crate::model::{Error, ErrorCode, Result, exit};
use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

/// Flags of `pod edit`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The editor is $VISUAL, else $EDITOR. What is wrong afterwards is said, and the
file stays as you wrote it.

Examples:
  cldpd pod edit myrepo
  cldpd pod edit myrepo --file Dockerfile
  EDITOR='code --wait' cldpd pod edit myrepo --file template.md")]
pub struct Args {
    /// The pod
    #[arg(value_name = "POD")]
    name: String,
    /// Which of its files
    #[arg(long, value_name = "FILE", default_value = "pod.json")]
    file: PodFile,
}

/// A file of a pod.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum PodFile {
    /// How the image is made.
    #[value(name = "Dockerfile", alias = "dockerfile")]
    Dockerfile,
    /// What the pod says beside it.
    #[value(name = "pod.json")]
    PodJson,
    /// What is put before the first prompt.
    #[value(name = "template.md")]
    Template,
}

impl PodFile {
    const fn name(self) -> &'static str {
        match self {
            Self::Dockerfile => "Dockerfile",
            Self::PodJson => "pod.json",
            Self::Template => "template.md",
        }
    }
}

pub(super) fn run(context: &mut Context, args: &Args) -> Done {
    edit(context, &args.name, args.file)
}

/// Lets the user edit a file, then says what is wrong with the pod.
pub(super) fn edit(context: &mut Context, name: &str, file: PodFile) -> Done {
    let home = context.home()?;
    let path = pods_local::directory(&home, name)?.join(file.name());
    let editor = editor(&|variable| std::env::var_os(variable))?;
    context.ui.flush()?;
    open(&editor, &path)?;
    let problems = pods_local::problems(&home, name);
    match check::report(context, &home, name, &problems)? {
        true => Ok(exit::OK),
        false => Ok(exit::FAILED),
    }
}

/// What the user edits with.
fn editor(variable: &dyn Fn(&str) -> Option<OsString>) -> Result<OsString> {
    let set = |name: &&str| variable(name).filter(|value| !value.is_empty());
    ["VISUAL", "EDITOR"].iter().find_map(set).ok_or_else(|| {
        usage("there is no editor: neither VISUAL nor EDITOR is set")
            .hint("EDITOR=vi cldpd pod edit ..., or edit the file yourself: `cldpd pod show` says where it is")
    })
}

/// Runs the editor to its end. It is a shell's words, as everywhere: with
/// arguments of its own, and quotes.
fn open(editor: &OsString, path: &Path) -> Result<()> {
    let shown = editor.to_string_lossy().into_owned();
    let failed = |cause: String| {
        let message = format!("the editor \"{}\" {cause}", shown.escape_debug());
        let hint = format!("{} is as it left it", path.display());
        Error::new(ErrorCode::Internal, message).hint(hint)
    };
    let mut script = editor.clone();
    script.push(" \"$@\"");
    let status = Command::new("/bin/sh")
        .arg("-c")
        .arg(script)
        .arg("sh")
        .arg(path)
        .status()
        .map_err(|error| failed(format!("cannot be run: {}", plain(&error))))?;
    match status.success() {
        true => Ok(()),
        false => Err(failed(format!("failed: {status}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::editor;
    use std::ffi::OsString;

    #[test]
    fn visual_goes_before_editor() -> crate::model::Result<()> {
        let both = |name: &str| Some(OsString::from(name.to_lowercase()));
        assert_eq!(editor(&both)?, "visual");
        let one = |name: &str| match name {
            "VISUAL" => Some(OsString::new()),
            _ => Some(OsString::from("vi -e")),
        };
        assert_eq!(editor(&one)?, "vi -e");
        let message = editor(&|_| None).err().map(|error| error.message);
        assert!(message.is_some_and(|message| message.contains("VISUAL")));
        Ok(())
    }
}
